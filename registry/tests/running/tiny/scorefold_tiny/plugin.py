"""What the tiny plugin offers."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from scorefold.plugin import Component, Port, hookimpl

__plugin_api__ = "1.0"


def _component(kind: str, name: str, target: str, config: str, **rest: Any) -> Component:
    return Component(
        kind=kind,
        name=name,
        target=f"scorefold_tiny.parts:{target}",
        config=f"scorefold_tiny.config:{config}",
        summary=f"A tiny {kind} for tests",
        **rest,
    )


@hookimpl
def scorefold_components() -> Iterable[Component]:
    score = Port("score", kind="score")
    yield _component("data", "tiny", "Points", "PointsConfig", any_threads=True)
    yield _component("network", "tiny", "Net", "NetConfig")
    yield _component(
        "score", "tiny", "Model", "ModelConfig", requires=(Port("data", kind="data"),), provides=("Trainable",)
    )
    yield _component("estimator", "tiny-mean", "Mean", "MeanConfig", figures="scorefold_tiny.parts:figures")
    yield _component("estimator", "tiny-scored", "Scored", "MeanConfig", requires=(score,))
    yield _component("estimator", "tiny-fault", "Fault", "FaultConfig", figures="scorefold_tiny.parts:figures")
    yield _component("geometry", "tiny-many", "Many", "MeanConfig", requires=(Port("parts", kind="data", many=True),))


def _note(text: str) -> None:
    if os.environ.get("TINY_NOTES"):
        with Path(os.environ["TINY_NOTES"]).open("a") as file:
            file.write(text + "\n")


@hookimpl
def scorefold_before_run(run: Any) -> None:
    _note(f"before_run {run.name}")
    if os.environ.get("TINY_OBSERVER") == "fails":
        raise RuntimeError("the observer is out of order")


@hookimpl
def scorefold_before_stage(stage: Any, inputs: Any) -> None:
    _note(f"before_stage {stage.name} {','.join(inputs)}")


@hookimpl
def scorefold_after_stage(stage: Any, outputs: Any, seconds: float) -> None:
    _note(f"after_stage {stage.name} {seconds >= 0}")


@hookimpl
def scorefold_on_stage_error(stage: Any, error: BaseException) -> None:
    _note(f"on_stage_error {stage.name} {type(error).__name__}")


@hookimpl
def scorefold_on_metrics(stage: Any, step: int) -> None:
    _note(f"on_metrics {stage.name} {step}")


@hookimpl
def scorefold_after_run(run: Any, result: Any) -> None:
    _note(f"after_run {run.folder == Path(result['run'])}")


@hookimpl
def scorefold_report_sections(run: Any) -> Iterable[tuple[str, str]]:
    if os.environ.get("TINY_OBSERVER"):
        yield "A section of the tiny plugin", "<p>It says <b>hello</b>.</p>"
