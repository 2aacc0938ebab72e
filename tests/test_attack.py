"""A few attacks of each kind, and that each kind reports what is lost; ``make attack`` has more of them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parent
RUNS = ["kill", "kill_at_operation", "signal", "full_disk", "damaged_cache", "damaged_checkpoint"]
FILES = ["run_file", "artefact", "data_file"]


def test_a_few_attacks_lose_nothing() -> None:
    command = [sys.executable, TESTS / "attack.py", "--count", "2", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    tallies = {tally["attack"]: tally for tally in json.loads(done.stdout)}
    assert list(tallies) == RUNS + FILES
    assert [tallies[kind]["tried"] for kind in RUNS + FILES] == [2] * len(RUNS) + [20] * len(FILES)
    # The first of each finds no cache, and so reaches the operation that was chosen.
    for kind in ("kill_at_operation", "full_disk", "damaged_cache", "damaged_checkpoint"):
        assert tallies[kind]["hit"] >= 1, f"{kind} did nothing"
    assert all(tallies[kind]["hit"] >= 1 for kind in FILES)
    assert len(done.stderr.splitlines()) == len(tallies), "progress goes to standard error, a line a kind"


def test_kills_of_a_worker_lose_nothing() -> None:
    command = [sys.executable, TESTS / "attack_workers.py", "--kills", "4", "--resumes", "1", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert (found["failures"], found["resumed"] >= 1, found["killed"] >= 4) == ([], True, True)
    assert found["sentence"] >= 1


@pytest.fixture(scope="module")
def reported() -> dict[str, Any]:
    """What attacks report of commands and readers that are at fault."""
    done = subprocess.run([sys.executable, TESTS / "toys/attacked.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize("kind", RUNS)
def test_an_attack_reports_a_run_that_lost_something(reported: dict[str, Any], kind: str) -> None:
    command, other = ("trusting", "forgetful") if "damaged" in kind else ("forgetful", "trusting")
    assert reported[command][kind], "nothing was reported"
    if "damaged" not in kind:
        assert reported[other][kind] == [], "what goes on as it should is no failure"
    if command == "forgetful":
        assert "the next run found {'count': {'total': " in reported[command][kind][0]


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        ("run_file unclear", "AssertionError: "),
        ("run_file unknown", "KeyError: 'weights'"),
        ("artefact secret", "what stands outside was used"),
        ("artefact runs", "code was run"),
        ("artefact writes", "something outside was written"),
        ("artefact unknown", "KeyError: 'weights'"),
        ("data_file not finite", "numbers that are not finite were read"),
    ],
)
def test_an_attack_reports_a_file_that_did_harm(reported: dict[str, Any], harm: str, message: str) -> None:
    assert len(reported["harms"][harm]) >= 1
    assert message in reported["harms"][harm][0]


def test_a_command_that_ends_in_another_way_is_a_failure(reported: dict[str, Any]) -> None:
    endings = reported["endings"]
    assert endings["refused"] == ""
    assert endings["another status"].startswith("it ended with 3")
    assert endings["killed"].startswith("it ended with -9")
    assert endings["traceback"].startswith("a traceback was shown")
    assert "ZeroDivisionError" in endings["error"]


def test_the_tests_of_isolated_plugins_are_there() -> None:
    root = TESTS.parent
    text = (
        (root / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Isolated plugins")[2].partition("\n## ")[0]
    )
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", text)
    assert len(named) >= 40
    for file, name in named:
        source = (root / "registry/tests/isolated" / file).read_text(encoding="utf-8")
        assert f"def {name}(" in source, f"{file} has no {name}"
    rows = [int(number) for number in re.findall(r"^\| (\d+) ", text, flags=re.MULTILINE)]
    assert rows == list(range(1, 34))
