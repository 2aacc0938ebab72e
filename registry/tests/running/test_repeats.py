"""The option ``trainings`` of ``estimate``: so many stages that train, each with a seed of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from scorefold_registry.run.result import RunResult
from scorefold_registry.runfile.plan import Plan
from scorefold_registry.runfile.reader import RunFileError

MakePlan = Callable[..., Plan]
Run = Callable[..., RunResult]

RUN = """version: 1
name: several
stages:
  data: {use: data:tiny}
  score: {use: score:tiny, inputs: {data: data}}
  dimension: {use: estimator:tiny-scored, inputs: {score: score, data: data}, options: {trainings: 3}}
"""


def test_the_option_is_written_out_as_stages(plan: MakePlan) -> None:
    made = {stage.name: stage for stage in plan(RUN).stages}
    assert list(made) == ["data", "score", "score-2", "dimension-2", "score-3", "dimension-3", "dimension"]
    assert made["dimension-3"].inputs == {"score": "score-3", "data": "data"}
    assert made["dimension"].inputs["repeats"] == ["dimension-2", "dimension-3"]
    assert made["score-2"].config == made["score"].config


def test_the_answer_covers_the_trainings(run: Run) -> None:
    result = run(RUN)

    def written(stage: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((result.folder / stage / "result.json").read_text())
        return found

    answer, values = written("dimension")["answer"], written("dimension")["estimate"]["diagnostics"]["trainings"]
    assert len(set(values)) == 3
    assert answer["value"] == pytest.approx(sum(values) / 3)
    assert [written(f"dimension-{number}")["answer"]["value"] for number in (2, 3)] == values[1:]
    assert answer["interval"][1] - answer["interval"][0] > 2  # the interval over points alone

    # What the run wrote is a run file for the same answer, and nothing is trained again.
    again = run((result.folder / "resolved.yaml").read_text())
    assert {stage["reused"] for stage in again.as_json()["stages"]} == {True}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("score: score,", "score: {use: score:tiny, inputs: {data: data}},", "no stage that trains a model is among"),
        ("trainings: 3", "trainings: 2", "2 trainings say nothing of their scatter"),
        ("trainings: 3", "trainings: many", "trainings"),
        ("trainings: 3", "trainings: 0", "trainings"),
        ("  dimension:", "  score-2: {use: data:tiny}\n  dimension:", "makes a stage 'score-2', and there is one"),
    ],
)
def test_what_cannot_be_repeated_is_refused(plan: MakePlan, old: str, new: str, message: str) -> None:
    with pytest.raises(RunFileError, match=message) as caught:
        plan(RUN.replace(old, new))
    assert caught.value.problems[0].line in (6, 7)
