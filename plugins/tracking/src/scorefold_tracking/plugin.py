"""Plugin that tracks runs whose file has settings for it under ``plugins: {tracking: ...}``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from scorefold.plugin import hookimpl

if TYPE_CHECKING:
    from scorefold.stage import Outcome, RunInfo, StageInfo
    from scorefold_tracking.config import TrackingConfig
    from scorefold_tracking.tracked import TrackedRun

__plugin_api__ = "1.0"

_NAME = "tracking"


@hookimpl
def scorefold_settings() -> str:
    return "scorefold_tracking.config:TrackingConfig"


@hookimpl
def scorefold_before_run(run: RunInfo) -> None:
    if _NAME in run.plugins:
        from scorefold_tracking import tracked

        settings: TrackingConfig = run.plugins[_NAME]  # type: ignore[assignment]
        tracked.start_tracking(run, settings)


@hookimpl
def scorefold_on_metrics(run: RunInfo, stage: StageInfo, step: int, metrics: Mapping[str, float]) -> None:
    if tracked := _tracked(run):
        tracked.metrics(stage.name, step, metrics)


@hookimpl
def scorefold_after_stage(run: RunInfo, stage: StageInfo, outputs: Outcome) -> None:
    if tracked := _tracked(run):
        tracked.stage_ended(stage.name, outputs.result.get("metrics", {}))


@hookimpl
def scorefold_on_run_error(run: RunInfo, state: str) -> None:
    if tracked := _tracked(run):
        tracked.ended("interrupted" if state == "interrupted" else "failed")


@hookimpl
def scorefold_report_sections(run: RunInfo) -> Iterable[tuple[str, str]]:
    tracked = _tracked(run)
    return tracked.report_sections() if tracked else ()


@hookimpl
def scorefold_after_run(run: RunInfo, result: Mapping[str, Any]) -> None:
    if tracked := _tracked(run):
        tracked.completed(run.folder, result["stages"])


def _tracked(run: RunInfo) -> TrackedRun | None:
    if _NAME not in run.plugins:
        return None
    from scorefold_tracking import tracked

    return tracked.find(run.folder)
