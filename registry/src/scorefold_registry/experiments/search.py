"""A search: points that are asked for one after another, each by what those before it gave, with Optuna."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, overload

from scorefold.artefacts import json_text
from scorefold.errors import ConfigError
from scorefold.seeds import derive_seed
from scorefold_registry.experiments.job import PointJob, PointRecord, PrunedError
from scorefold_registry.experiments.measures import Measure, metric_of
from scorefold_registry.experiments.points import Axis, Point, point_text, rounded

_TRIES = 50
"""How often the sampler is asked again where it names what was tried, before the space counts as exhausted."""


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
                hint="pip install 'scorefold-registry[search]', or take --random, which needs nothing",
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
        """How many points a trial has."""
        return len(self._rows)

    def report(self, step: int, loss: float) -> bool:
        """A loss of the training of the last trial, at a step. Whether the trial is to be given up."""
        trial, _ = self._asked[-1]
        # What is compared is worse where it is greater, whichever way the search goes.
        trial.report(loss if self._lowest else -loss, step)
        return bool(trial.should_prune())

    def answer(self, value: float | None, *, pruned: bool = False) -> None:
        """What the next point gave; None where it failed, or was given up."""
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
            hint = "a search tries one setting after another, each by what those before it gave"
            raise ConfigError(f"--search and {option} exclude each other", hint=hint)
    if best is None:
        raise ConfigError("--search needs --best, which it searches for", hint="for example --best min:score.loss")
    return Search(axes, trials, lowest=best.partition(":")[0] != "max", seed=seed, prunes=prune is not None)


class Asked(Sequence[PointJob]):
    """The jobs of a search, each made when it is its turn."""

    def __init__(self, search: Search, make: Callable[[Point, None], PointJob], measure: Measure) -> None:
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
        """What a point gave, for the points to come."""
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
