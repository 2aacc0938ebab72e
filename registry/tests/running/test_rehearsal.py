"""What is wrong with a later stage is found before the first long one, and alone by ``validate --data``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scorefold.errors import ScorefoldError
from scorefold_registry import run_file
from scorefold_registry.host import Host
from scorefold_registry.run import execution

Write = Callable[..., Path]
Say = Callable[..., Any]

HEAD = """version: 1
name: late
stages:
  data: {use: data:sphere, config: {points: 60, dimension: 2, ambient: 3}}
  other: {use: data:sphere, config: {points: 60, dimension: 2, ambient: 4}}
  score: {use: score:denoising, inputs: {data: data}, config: {training: {steps: 2}}}
"""
LATE = {
    "missing": "  late: {use: data:array, config: {path: gone.npy}}\n",
    "shape": "  late: {use: score, do: evaluate, inputs: {data: other}}\n",
    "size": "  late: {use: flow:caflow, inputs: {data: data}, config: {training: {steps: 2}}}\n",
}
SAID = {
    "missing": "gone.npy does not exist",
    "shape": r"'late' would evaluate data of shape \(4,\) with a score for events of shape \(3,\)",
    "size": "image",
}


@pytest.mark.parametrize("fault", LATE)
def test_a_late_fault_ends_the_run_before_its_training(fault: str, host: Host, write: Write) -> None:
    file = write(HEAD + LATE[fault])
    with pytest.raises(ScorefoldError, match=SAID[fault]) as refused:
        run_file(host, file)
    assert (Path(str(refused.value.file)).name, refused.value.line) == ("run.yaml", 7)
    (events,) = Path("runs").rglob("events.jsonl")
    started = [json.loads(line) for line in events.read_text().splitlines()]
    assert [event["stage"] for event in started if event["event"] == "stage-started"] == ["data", "other"]


def test_validate_finds_all_of_them_and_computes_nothing(write: Write, say: Say) -> None:
    file = write(HEAD + "".join(text.replace("late:", f"late-{name}:") for name, text in LATE.items()))
    assert say("validate", str(file)).status == 0
    said = say("validate", "--data", str(file), "--json")
    assert said.status == 1
    assert [problem["line"] for problem in said.json["problems"]] == [7, 8, 9]
    assert not Path("runs").exists()


def test_what_only_a_value_can_tell_is_passed_over(host: Host, write: Write, say: Say) -> None:
    """Samples have their shape once they are drawn; a stage that reads them is not tried before."""
    file = write(
        HEAD
        + "  draws: {use: score, do: sample, options: {n: 30, steps: 2}}\n"
        + "  size: {use: estimator:mle, inputs: {data: draws}}\n"
    )
    assert say("validate", "--data", str(file)).status == 0
    assert [stage.reused for stage in run_file(host, file).stages] == [False] * 5


def test_a_run_that_is_reused_tries_nothing(host: Host, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(HEAD)
    run_file(host, file)
    monkeypatch.setattr(execution, "rehearse", lambda *given: pytest.fail("nothing is to be computed"))
    assert all(stage.reused for stage in run_file(host, file).stages)


def test_trying_changes_no_result(host: Host, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(HEAD + "  like: {use: score, do: evaluate, inputs: {data: data}}\n")
    tried = run_file(host, file, cache=Path("one"))
    monkeypatch.setattr(execution, "rehearse", lambda *given: [])
    plain = run_file(host, file, cache=Path("two"))
    numbers = [
        {name: value for name, value in result.stages[-1].metrics.items() if "second" not in name}
        for result in (tried, plain)
    ]
    assert numbers[0] == numbers[1]
