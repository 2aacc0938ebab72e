"""A sweep checked before anything runs: every point with its plan, what is measured, and where it all goes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scorefold.artefacts import json_text
from scorefold.errors import ConfigError, ScorefoldError
from scorefold_registry.experiments.points import Axis, Point, make_points
from scorefold_registry.experiments.sweep_result import SEED, Measure, parse_measures
from scorefold_registry.run.cache import area
from scorefold_registry.runfile.plan import Plan, make_plan
from scorefold_registry.runfile.reader import RunFileError, read

if TYPE_CHECKING:
    from scorefold_registry.components.catalogue import Catalogue


@dataclass(frozen=True)
class SweepPlan:
    """A sweep that has been checked: each point with its plan, what is measured, and where everything goes.

    ``best`` is a goal (``min`` or ``max``) and the measure that it is about.
    """

    file: Path
    axes: tuple[Axis, ...]
    points: tuple[Point, ...]
    plans: tuple[Plan, ...]
    measures: tuple[Measure, ...]
    best: tuple[str, Measure] | None
    sets: tuple[str, ...]
    seed: int | None
    folder: Path

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(axis.field for axis in self.axes)


def plan_sweep(
    catalogue: Catalogue,
    path: str | Path,
    axes: Sequence[Axis],
    *,
    in_step: bool = False,
    random: int | None = None,
    measure: Sequence[str] = (),
    best: str | None = None,
    sets: Sequence[str] = (),
    seed: int | None = None,
    out: str | Path | None = None,
) -> SweepPlan:
    """Every point of a sweep, checked before the first is run. torch is not imported.

    See ``make_points`` for ``in_step`` and ``random``, ``run_file`` for ``sets`` and ``seed``. ``measure`` are texts
    such as ``"dimension.error"``; without any, the first metric of each stage that no other uses. ``best`` is
    ``"min:STAGE.METRIC"`` or ``"max:..."``. Everything goes to ``out``, or to a folder of its own in ``sweeps``.

    Raises ``RunFileError`` with every problem of every point, and ``ConfigError`` for a sweep that can't be made.
    """
    base = read(path, sets, seed)
    points = make_points(axes, in_step=in_step, random=random, seed=base.seed)
    fields = [axis.field for axis in axes]
    own_seed = None if SEED in fields else seed
    plans = _plans(catalogue, base.path, points, sets, own_seed)
    stages = [stage.name for stage in plans[0].stages]
    if measure:
        measures = parse_measures(measure, stages)
    else:
        used = {name for stage in plans[0].stages for name in stage.after}
        measures = tuple(Measure(name) for name in stages if name not in used)
    goal = None if best is None else _goal(best, stages)
    if goal is not None and goal[1] not in measures:
        measures = (*measures, goal[1])
    asked = [base.text, list(sets), seed, [point.sets for point in points]]
    name = f"{plans[0].run.name}-{hashlib.sha256(json_text(asked).encode()).hexdigest()[:8]}"
    folder = area("sweeps", None, "sweeps") / name if out is None else Path(out)
    return SweepPlan(base.path, tuple(axes), points, plans, measures, goal, tuple(sets), own_seed, folder)


def _plans(
    catalogue: Catalogue, path: Path, points: Sequence[Point], sets: Sequence[str], seed: int | None
) -> tuple[Plan, ...]:
    plans: list[Plan] = []
    problems: dict[str, ScorefoldError] = {}
    for point in points:
        try:
            plans.append(make_plan(catalogue, read(path, sets, seed, swept=point.sets)))
        except RunFileError as error:
            # What is wrong with the file itself is wrong with every point.
            problems |= {str(problem): problem for problem in error.problems if str(problem) not in problems}
    if problems:
        raise RunFileError(list(problems.values()))
    return tuple(plans)


def _goal(text: str, stages: Sequence[str]) -> tuple[str, Measure]:
    goal, colon, rest = text.partition(":")
    if goal not in ("min", "max") or not colon or not rest.strip():
        raise ConfigError(f"--best {text}: expected min:STAGE.METRIC or max:STAGE.METRIC")
    measures = parse_measures([rest], stages)
    if len(measures) > 1:
        raise ConfigError(f"--best {text}: expected one measure, and these are {len(measures)}")
    return goal, measures[0]
