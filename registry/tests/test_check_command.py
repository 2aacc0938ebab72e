"""``plugins check``: what it prints and its exit status, on a plugin that keeps its word and one that does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest

from scorefold_registry.cli.commands.check import _slowest
from scorefold_registry.cli.commands.plugins import run as plugins
from scorefold_registry.run import progress
from scorefold_testing import FLOORS

Install = Callable[..., Path]
Captured = pytest.CaptureFixture[str]

SCHEMA = json.loads(files("scorefold").joinpath("schemas/plugins-check.json").read_text())

CONFIG = """
from pydantic import Field

from scorefold.config import Config


class TenConfig(Config):
    "How many labels."

    size: int = Field(10, ge=1, description="Labels a task")
"""

IMPL = """
from scorefold.errors import ConfigError
from scorefold.interfaces import Allocator
from scorefold.results import Allocation, PlanRow


class Tens(Allocator):
    "Tasks of so many labels."

    spare = 0

    def __init__(self, config):
        self.size = config.size

    def allocate(self, budget, *, pilot=None, constraints=None, generator=None):
        if budget < 0 or constraints:
            raise ConfigError("no")
        tasks, left = divmod(budget, self.size)
        if not tasks:
            return Allocation("infeasible", (), left + self.spare)
        return Allocation("feasible", (PlanRow("task", tasks, self.size, 0),), left + self.spare)


class Spendthrift(Tens):
    "One label more than there is."

    spare = 1
"""


DETAIL = "for 0 labels the plan costs 0 and leaves 1; expected 0 in all (replay: --only within-budget --seed 3)"


def component(name: str, target: str) -> str:
    return f"""
@hookimpl
def scorefold_components():
    yield Component(
        kind="allocator", name="{name}", target="fake_{name}.impl:{target}", config="fake_{name}.config:TenConfig",
        summary="a baseline, made for a test",
    )
"""


@pytest.fixture
def installed(install: Install) -> None:
    for name, target in (("sound", "Tens"), ("unsound", "Spendthrift")):
        install(f"fake-{name}", component(name, target), files={"impl.py": IMPL, "config.py": CONFIG})
    install("fake-empty", "")


def checked(capsys: Captured, status: int, *arguments: str) -> dict[str, Any]:
    assert plugins(["check", *arguments, "--json"]) == status
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    jsonschema.validate(found, SCHEMA)
    return found


@pytest.mark.usefixtures("installed")
def test_a_sound_plugin_holds(capsys: Captured) -> None:
    found = checked(capsys, 0, "sound")
    assert found["holds"]
    assert found["counts"]["run"] == found["counts"]["passed"] >= FLOORS["allocator"]
    assert {check["component"] for check in found["checks"]} == {"allocator:sound"}
    saved = next(check for check in found["checks"] if check["check"] == "saved-state")
    assert saved["result"] == "passed", "its state was loaded in a fresh process"


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("name", ["unsound", "fake-unsound", "allocator:unsound", "fake-unsound/allocator:unsound"])
def test_an_unsound_plugin_fails_under_any_of_its_names(name: str, capsys: Captured) -> None:
    found = checked(capsys, 1, name, "--only", "within-budget", "--seed", "3")
    (check,) = found["checks"]
    assert not found["holds"]
    assert check["result"] == "failed"
    assert check["detail"] == DETAIL


@pytest.mark.usefixtures("installed")
def test_a_failure_can_be_expected_and_must_then_come(capsys: Captured) -> None:
    expect = ("--expect", "allocator:unsound/within-budget=it rounds up")
    found = checked(capsys, 0, "unsound", *expect)
    assert found["counts"]["expected-failure"] == 1
    found = checked(capsys, 1, "sound", "--expect", "allocator:sound/within-budget=it rounds up")
    (failed,) = [check for check in found["checks"] if check["result"] == "failed"]
    assert "expected to fail (it rounds up)" in failed["detail"]


@pytest.mark.usefixtures("installed")
def test_checks_are_tried_by_level(capsys: Captured) -> None:
    found = checked(capsys, 0, "sound", "--level", "laziness", "--level", "documentation")
    assert {check["level"] for check in found["checks"]} == {"laziness", "documentation"}


@pytest.mark.usefixtures("installed")
def test_everything_installed_is_tried_without_a_name(capsys: Captured) -> None:
    found = checked(capsys, 0, "--only", "declared-examples")
    assert {check["component"] for check in found["checks"]} >= {"allocator:sound", "allocator:unsound"}


@pytest.mark.usefixtures("installed")
def test_text_names_failures_and_counts(capsys: Captured) -> None:
    assert plugins(["check", "unsound"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("failed: allocator:unsound within-budget: for 0 labels")
    levels = {"contract", "numerics", "determinism", "device", "artefact", "laziness", "documentation"}
    assert {line.partition(":")[0] for line in lines[-8:-1]} == levels
    assert lines[-9].startswith("allocator:unsound  ")
    assert lines[-1].startswith("in all: ")
    assert " 1 failed" in lines[-1]


@pytest.mark.usefixtures("installed")
def test_the_examples_of_the_help_run(capsys: Captured) -> None:
    with pytest.raises(SystemExit):
        plugins(["check", "--help"])
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "check estimator:mle" in line)
    assert plugins(line.replace("estimator:mle", "allocator:sound").split()[2:]) == 0


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nobody"], "nobody"),
        (["empty"], "offers no component"),
        (["sound", "--only", "no-such-check"], "there is no check 'no-such-check'"),
        (["sound", "--level", "speed"], "there is no level 'speed'"),
        (["sound", "--expect", "within-budget=why"], "needs a check and a reason"),
        (["sound", "--expect", "allocator:sound/within-budget"], "needs a check and a reason"),
        (["sound", "--expect", "allocator:sound/no-such=why"], "there is no such check"),
        (
            ["sound", "--only", "provides", "--expect", "allocator:sound/within-budge=why"],
            "did you mean 'within-budget'",
        ),
        (["sound", "--only", "provides", "--expect", "allocator:unsound/provides=why"], "is not among the components"),
        (["sound", "--only", "provide"], "did you mean 'provides'"),
    ],
)
def test_mistakes_are_named(arguments: list[str], message: str) -> None:
    from scorefold.errors import ScorefoldError

    with pytest.raises(ScorefoldError, match=message):
        plugins(["check", *arguments])


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_the_slowest_checks_of_a_long_run_are_named() -> None:
    checks = [SimpleNamespace(component="score:slow", check=name) for name in ("a", "b", "c", "d")]
    line = "40 s; the slowest checks: score:slow d (20 s), score:slow b (10 s), score:slow c (8 s)\n"
    assert _slowest(checks, [2.0, 10.0, 8.0, 20.0]) == line
    assert _slowest(checks, [2.0, 10.0, 8.0, 10.0]) == ""


@pytest.mark.usefixtures("installed")
def test_a_terminal_shows_the_check_that_runs_unless_quiet(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr(progress, "Bars", progress.Lines)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    assert plugins(["check", "sound", "--only", "within-budget"]) == 0
    assert "checks: 0/1, allocator:sound within-budget" in capsys.readouterr().out
    assert plugins(["check", "sound", "--only", "within-budget", "--quiet"]) == 0
    assert "checks: 0/1" not in capsys.readouterr().out
