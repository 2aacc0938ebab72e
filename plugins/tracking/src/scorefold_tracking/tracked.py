"""The runs that are tracked now, each in its places, from their start to their end, however they end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from scorefold.errors import ScorefoldError
from scorefold.stage import RunInfo
from scorefold_tracking.config import MLflowConfig, TensorBoardConfig, TrackingConfig, WandbConfig
from scorefold_tracking.tracker import State, Tracker, final_folder, final_metric_name, numbers, without_password


class TrackingError(ScorefoldError):
    """A place where a run was to be tracked, and no longer is."""

    code = "tracking"


class TrackedRun:
    """One run and the places where it is tracked. A place that fails is left, and no other suffers from it.

    Every method raises ``TrackingError`` where a place failed in it, once it has gone through all of them.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._places: dict[str, Tracker] = {}
        self._failures: list[str] = []
        self._finals: dict[str, float] = {}
        self._reported: set[str] = set()

    def start(self, openers: Mapping[str, Callable[[], Tracker]]) -> None:
        """Open each place."""
        for name, opener in openers.items():
            try:
                self._places[name] = opener()
            except Exception as error:
                self._lose(name, error)
        self._raise_failures()

    def metrics(self, stage: str, step: int, metrics: Mapping[str, Any]) -> None:
        """A stage has reported metrics at a step."""
        values = numbers(metrics)
        self._notify(lambda place: place.metrics(stage, step, values))
        self._raise_failures()

    def stage_ended(self, stage: str, metrics: Mapping[str, Any]) -> None:
        """A stage has ended well with these metrics."""
        self._finish_stage(stage, metrics)
        self._raise_failures()

    def report_sections(self) -> list[tuple[str, str]]:
        """A section for the report that says where to look."""
        places = [place.where(final_folder(self._folder)) for place in self._places.values()]
        return [("Tracking", "".join(f"<p>{place}</p>" for place in places))] if places else []

    def completed(self, folder: Path, stages: Sequence[Mapping[str, Any]]) -> None:
        """The run is complete, in ``folder``. No hook is called for reused stages, so they are reported now."""
        self._folder = folder
        for stage in stages:
            if stage["name"] not in self._reported:
                self._finish_stage(stage["name"], stage["metrics"])
        self.ended("complete")

    def ended(self, state: State) -> None:
        """The run has ended."""
        _OPEN.pop(final_folder(self._folder), None)
        self._notify(lambda place: place.ended(state, self._folder, self._finals))
        self._raise_failures()

    def _finish_stage(self, stage: str, metrics: Mapping[str, Any]) -> None:
        values = numbers(metrics)
        self._reported.add(stage)
        self._finals |= {final_metric_name(stage, name): value for name, value in values.items()}
        self._notify(lambda place: place.stage_ended(stage, self._folder, values))

    def _notify(self, call: Callable[[Tracker], None]) -> None:
        for name, place in list(self._places.items()):
            try:
                call(place)
            except Exception as error:
                del self._places[name]
                self._lose(name, error)

    def _lose(self, name: str, error: Exception) -> None:
        said = str(error).strip().partition("\n")[0] or type(error).__name__
        self._failures.append(without_password(f"this run is no longer tracked in {name}: {said}"))

    def _raise_failures(self) -> None:
        if self._failures:
            text = "; ".join(self._failures)
            self._failures.clear()
            raise TrackingError(text)


_OPEN: dict[Path, TrackedRun] = {}
"""Runs by the folder that they will have. Hooks are functions: what lasts from one to the next stands here."""


def start_tracking(run: RunInfo, settings: TrackingConfig) -> None:
    """Track a run from now on, in the places that its settings name. Raises ``TrackingError``."""
    openers: dict[str, Callable[[], Tracker]] = {}
    if settings.tensorboard is not None:
        openers["TensorBoard"] = partial(_event_files, run, settings.tensorboard)
    if settings.mlflow is not None:
        openers["MLflow"] = partial(_mlflow_run, run, settings.mlflow)
    if settings.wandb is not None:
        openers["Weights & Biases"] = partial(_wandb_run, run, settings.wandb)
    tracked = _OPEN[final_folder(run.folder)] = TrackedRun(run.folder)
    tracked.start(openers)


def _event_files(run: RunInfo, config: TensorBoardConfig) -> Tracker:
    # Imported here, so that a broken library makes only this one place fail.
    from scorefold_tracking.event_files import EventFiles

    return EventFiles(run, config)


def _mlflow_run(run: RunInfo, config: MLflowConfig) -> Tracker:
    from scorefold_tracking.mlflow_run import MLflowRun

    return MLflowRun(run, config)


def _wandb_run(run: RunInfo, config: WandbConfig) -> Tracker:
    from scorefold_tracking.wandb_run import WandbRun

    return WandbRun(run, config)


def find(folder: Path) -> TrackedRun | None:
    """The run that is tracked in this folder, by its temporary or its final name."""
    return _OPEN.get(final_folder(folder))
