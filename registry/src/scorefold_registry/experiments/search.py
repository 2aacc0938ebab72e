"""A search by Optuna: each point is chosen by those before it, and trainings that fall behind are ended early."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from scorefold.artefacts import json_text, read_json, write_json
from scorefold.errors import ConfigError
from scorefold.seeds import derive_seed
from scorefold_registry.experiments.job import PointJob, PointRecord, PrunedError, run_job
from scorefold_registry.experiments.measures import StageMetric, metric_of
from scorefold_registry.experiments.points import Axis, Point, point_text, rounded
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
        """Run a point and return the output of ``scorefold run --json``. Raises ``PrunedError``, and the errors of the
        run.
        """
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


_TRIES = 50
"""Attempts to get a new setting from the sampler before the space counts as exhausted."""


class Search:
    """Trials by a tree-structured Parzen estimator (Bergstra et al. 2011), as Optuna has it.

    A trial is one value of each field that is drawn, with every combination of the fields that list their values, such
    as seeds; what it gives is their mean. What a trial is follows from ``seed`` and from what those before it gave, so
    the same search asks for the same points again, and goes on where it was stopped.

    With ``prunes`` a trial may be given up by what its training reports on the way: at the same step it is worse than
    the median of those before it, of which there must be five.

    Raises ``ConfigError`` where Optuna is not installed, no field is drawn, or there are no trials.
    """

    def __init__(self, axes: Sequence[Axis], trials: int, *, lowest: bool, seed: int, prunes: bool = False) -> None:
        if find_spec("optuna") is None:
            raise ConfigError(
                "--search needs Optuna, which is not installed",
                hint="pip install 'scorefold-registry[search]', or use --random, which needs no library",
            )
        if trials < 1:
            raise ConfigError(f"--search {trials}: expected a whole number from 1")
        self._drawn = [axis for axis in axes if axis.draw is not None]
        if not self._drawn:
            hint = "for example --grid stages.score.config.training.learning_rate=loguniform(1e-4,1e-2)"
            raise ConfigError("--search has nothing to search: every --grid lists its values", hint=hint)
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        listed = [axis for axis in axes if axis.draw is None]
        self._rows = [
            dict(zip([a.field for a in listed], row, strict=True))
            for row in itertools.product(*(a.values for a in listed))
        ]
        self._order = [axis.field for axis in axes]
        self._trials = trials
        sampler = optuna.samplers.TPESampler(seed=derive_seed(seed, "search") % 2**32)
        pruner = optuna.pruners.MedianPruner(n_startup_trials=5) if prunes else optuna.pruners.NopPruner()
        self._lowest = lowest
        self._study = optuna.create_study(
            direction="minimize" if lowest else "maximize", sampler=sampler, pruner=pruner
        )
        self._space = {axis.field: _space(axis) for axis in self._drawn}
        self.points: list[Point] = []
        self._asked: list[tuple[Any, str]] = []
        self._known: dict[str, float | None] = {}
        self._found: list[float | None] = []

    def __len__(self) -> int:
        """The points that there are at most."""
        return self._trials * len(self._rows)

    def point(self, number: int) -> Point:
        """The point at a position from 0, once there are answers to all those before its trial.

        Raises ``IndexError`` behind the last."""
        while number >= len(self.points) and len(self._asked) < self._trials and self._ask():
            pass
        return self.points[number]

    @property
    def rows(self) -> int:
        """Number of points of a trial."""
        return len(self._rows)

    def report(self, step: int, loss: float) -> bool:
        """A loss of the training of the last trial, at a step. Whether the trial is to be given up."""
        trial, _ = self._asked[-1]
        # What is compared is worse where it is greater, whichever way the search goes.
        trial.report(loss if self._lowest else -loss, step)
        return bool(trial.should_prune())

    def answer(self, value: float | None, *, pruned: bool = False) -> None:
        """Result of the next point; None if it failed or was given up."""
        from optuna.trial import TrialState

        if pruned:
            trial, said = self._asked[-1]
            self._found.append(None)
            self._known[said] = None
            self._study.tell(trial, state=TrialState.PRUNED)
            return
        self._found.append(value)
        if len(self._found) % len(self._rows) == 0:
            numbers = [each for each in self._found[-len(self._rows) :] if each is not None and math.isfinite(each)]
            trial, said = self._asked[-1]
            self._finish(trial, said, sum(numbers) / len(numbers) if numbers else None)

    def _finish(self, trial: Any, said: str, value: float | None) -> None:
        from optuna.trial import TrialState

        self._known[said] = value
        self._study.tell(trial, value, state=TrialState.FAIL if value is None else None)

    def _ask(self) -> bool:
        """Asks for a trial that is new, and adds its points; whether there is one."""
        for _ in range(_TRIES):
            trial = self._study.ask(self._space)
            drawn = {axis.field: _value(axis, trial.params[axis.field]) for axis in self._drawn}
            said = json_text(drawn)
            if said in self._known:
                self._finish(trial, said, self._known[said])
                continue
            self._asked.append((trial, said))
            for row in self._rows:
                both = {**drawn, **row}
                values = {field: both[field] for field in self._order}
                sets = tuple(f"{field}={json_text(value)}" for field, value in values.items())
                self.points.append(Point(len(self.points) + 1, values, sets))
            return True
        return False


def search_for(
    axes: Sequence[Axis],
    trials: int,
    best: str | None,
    seed: int,
    *,
    in_step: bool,
    random: int | None,
    workers: int | None,
    prune: str | None = None,
) -> Search:
    """The search that was asked for. Raises ``ConfigError`` for what does not go with one."""
    others = {"--random": random, "--zip": in_step or None, "--workers": None if workers == 1 else workers}
    for option, given in others.items():
        if given is not None:
            hint = "a search chooses each setting from the results of the settings before it"
            raise ConfigError(f"--search and {option} exclude each other", hint=hint)
    if best is None:
        raise ConfigError("--search needs --best, which it searches for", hint="for example --best min:score.loss")
    return Search(axes, trials, lowest=best.partition(":")[0] != "max", seed=seed, prunes=prune is not None)


class SearchJobs(Sequence[PointJob]):
    """The jobs of a search, each made when it is its turn."""

    def __init__(self, search: Search, make: Callable[[Point, None], PointJob], measure: StageMetric) -> None:
        self._search, self._make, self._measure = search, make, measure
        self._jobs: list[PointJob] = []
        self.texts: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._search)

    @overload
    def __getitem__(self, place: int) -> PointJob: ...
    @overload
    def __getitem__(self, place: slice) -> list[PointJob]: ...
    def __getitem__(self, place: int | slice) -> PointJob | list[PointJob]:
        if isinstance(place, slice):
            return self._jobs[place]
        while place >= len(self._jobs):
            point = self._search.point(len(self._jobs))
            self.texts[point.number] = point_text(point)
            self._jobs.append(self._make(point, None))
        return self._jobs[place]

    def answer(self, record: PointRecord) -> None:
        """Record the result of a point for later points."""
        hit = metric_of(self._measure, record.stages)
        value = None if record.error is not None or hit is None else hit[1]
        self._search.answer(value, pruned=record.error is not None and record.error["code"] == PrunedError.code)


def _space(axis: Axis) -> Any:
    """The distribution of a field as Optuna has it."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if axis.distribution == "choice":
        return CategoricalDistribution(range(len(axis.bounds)))
    low, high = axis.bounds
    if axis.distribution == "integers":
        return IntDistribution(low, high)
    return FloatDistribution(low, high, log=axis.distribution == "loguniform")


def _value(axis: Axis, found: Any) -> Any:
    """The value of a field for what Optuna names, with as few digits as a draw has."""
    if axis.distribution == "choice":
        return axis.bounds[found]
    low, high = axis.bounds
    return found if axis.distribution == "integers" else rounded(found, low, high)
