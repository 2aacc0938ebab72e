"""What is wrong with a later stage is found before the first long one, and alone by ``validate --data``."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from scorefold.errors import ConfigError, ScorefoldError
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


def test_what_only_a_value_can_show_is_passed_over(host: Host, write: Write, say: Say) -> None:
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


TINY = """version: 1
name: tiny
stages:
  data: {use: data:tiny}
  score: {use: score:tiny, inputs: {data: data}}
"""


def test_what_a_later_constructor_changes_reaches_no_earlier_stage(
    host: Host, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, seen = import_module("scorefold_tiny.parts"), set[torch.dtype]()
    loss = parts.Model.loss

    def careless(self: Any, config: Any) -> None:
        torch.set_default_dtype(torch.float64)
        self._scale = 1.0

    def noted(self: Any, *given: Any, **named: Any) -> Any:
        seen.add(torch.get_default_dtype())
        return loss(self, *given, **named)

    monkeypatch.setattr(parts.Mean, "__init__", careless)
    monkeypatch.setattr(parts.Model, "loss", noted)
    run_file(host, write(TINY + "  mean: {use: estimator:tiny-mean, inputs: {data: data}}\n"))
    assert seen == {torch.float32}


def test_what_a_component_makes_of_an_untrained_model_is_left_to_its_stage(
    host: Host, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, trained = import_module("scorefold_tiny.parts"), list[bool]()
    loss, build = parts.Model.loss, parts.Scored.__init__

    def noted(self: Any, *given: Any, **named: Any) -> Any:
        trained.append(True)
        return loss(self, *given, **named)

    def picky(self: Any, config: Any, *, score: Any) -> None:
        if not trained:
            raise ConfigError("this score is of no use")
        build(self, config, score=score)

    monkeypatch.setattr(parts.Scored, "__init__", picky)
    monkeypatch.setattr(parts.Model, "loss", noted)
    scored = "  scored: {use: estimator:tiny-scored, inputs: {data: data, score: score}}\n"
    assert len(run_file(host, write(TINY + scored)).stages) == 3


def test_parts_that_are_still_to_be_trained_are_not_refused(write: Write, say: Say) -> None:
    """Untrained, the parts of a multi-scale score are no parts of it."""
    score = "use: score:multiscale, inputs: {data: data%s}, config: {network: {use: network:mlp}, train: %s}"
    file = write(
        "version: 1\nname: parts\nstages:\n  data: {use: data:digits}\n"
        f"  fine: {{{score % ('', '[1]')}}}\n  coarse: {{{score % ('', '[2]')}}}\n"
        f"  whole: {{{score % (', parts: [fine, coarse]', 'null')}}}\n"
    )
    said = say("validate", "--data", str(file))
    assert said.status == 0, said.err


def test_conditions_of_another_size_than_events_are_not_refused(write: Write, say: Say) -> None:
    """``sample`` reads only the conditions of its data."""
    file = write(
        "version: 1\nname: given\nstages:\n"
        "  data: {use: data:digits, config: {condition: label}}\n"
        "  score: {use: score:conditional, inputs: {data: data}, config: {estimator: cde}}\n"
        "  other: {use: data:digits, config: {condition: label, flatten: true}}\n"
        "  draws: {use: score, do: sample, inputs: {data: other}, options: {n: 4}}\n"
    )
    said = say("validate", "--data", str(file))
    assert said.status == 0, said.err
