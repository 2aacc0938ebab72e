"""Trainings of a search that are ended early: at the same step most of those before had a lower loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scorefold.artefacts import read_json, write_json
from scorefold.errors import ConfigError
from scorefold_registry.experiments.job import PointJob, PrunedError, run_job
from scorefold_registry.run.progress import Silent
from scorefold_registry.runfile.plan import Plan

if TYPE_CHECKING:
    from scorefold_registry.host import Host

LOSSES = "losses"
Report = Callable[[int, float], bool]
"""(step, loss) -> whether a training with this loss at this step is to end."""


class LossWatch(Silent):
    """Reports the validation losses of a stage, and ends its training where the report says so."""

    def __init__(self, stage: str, report: Report) -> None:
        self.stage, self._report = stage, report
        self.losses: list[tuple[int, float]] = []
        self.ended = False

    def measured(self, name: str, step: int, metrics: Mapping[str, float]) -> None:
        if name != self.stage or "validation" not in metrics:
            return
        self.losses.append((step, float(metrics["validation"])))
        if self._report(*self.losses[-1]):
            raise PrunedError(
                f"{self.stage} was ended at step {step}: its validation loss {self.losses[-1][1]:.4g} is above the "
                "median of those before it at that step"
            )

    def stage_ended(self, name: str, seconds: float, reused: bool, metrics: Mapping[str, Any]) -> None:
        self.ended |= name == self.stage


class Pruning:
    """Runs the points of a search and ends hopeless trainings of one ``stage``.

    The losses of each point stand in ``folder``, so that a search that goes on decides as it did before: a point that
    was ended stays so, and one that is reused brings its losses.
    """

    def __init__(self, stage: str, report: Report, folder: Path) -> None:
        self._stage, self._report, self._folder = stage, report, folder / LOSSES

    def run(self, host: Host, job: PointJob) -> dict[str, Any]:
        """What ``scorefold run --json`` prints of a point. Raises ``PrunedError``, and what the run does."""
        file = self._folder / f"{job.number}.json"
        kept = read_json(file) if file.exists() else {}
        if kept.get("swept") == list(job.swept):
            for step, loss in kept["losses"]:
                self._report(step, loss)
            if kept["pruned"] is not None:
                raise PrunedError(kept["pruned"])
            return run_job(host, job)
        watch, pruned = LossWatch(self._stage, self._report), None
        try:
            return run_job(host, job, progress=watch)
        except PrunedError as error:
            pruned = error.message
            raise
        finally:
            if pruned is not None or watch.ended:
                write_json(file, {"swept": list(job.swept), "losses": watch.losses, "pruned": pruned})


def check_pruned(stage: str, plan: Plan, rows: int) -> None:
    """Raises ``ConfigError`` for a stage that trains nothing, and for settings of several points."""
    trained = [planned.name for planned in plan.stages if planned.verb.name == "fit"]
    if stage not in trained:
        hint = f"the stages that train are {', '.join(trained)}" if trained else "no stage of this file trains"
        raise ConfigError(f"--prune {stage}: there is no such training", hint=hint)
    if rows > 1:
        raise ConfigError(
            f"--prune goes with settings of one point, and each has {rows} here",
            hint="leave the fields that list their values out of --grid",
        )
