"""The allocator of labels across the tasks of meta-learning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from scorefold.errors import ConfigError
from scorefold.interfaces import Allocator, DataSource
from scorefold.plotting import ACCENT, INK, SOFT, WARM, new_figure
from scorefold.results import Allocation
from scorefold.stage import Executor
from scorefold_allocation.config import MetaConfig
from scorefold_allocation.data.batch import TaskSource
from scorefold_allocation.learners.interface import Learner
from scorefold_allocation.search.pilot import PilotTask, as_tasks, best_size_band, with_moments
from scorefold_allocation.search.procedure import run_pilot
from scorefold_allocation.search.trials import Trainee, Tried
from scorefold_allocation.theory.engines import Engine
from scorefold_allocation.theory.optimum import Lattice, lattice_of
from scorefold_allocation.theory.purchase import SizeBounds, bounds_of, problem_of
from scorefold_allocation.theory.report import formula_report
from scorefold_toolkit.captions import captioned
from scorefold_toolkit.checks import require_budget
from scorefold_toolkit.figures import allocation as rows_of_a_plan

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_PLENTY = 1e15  # a budget that pays for whatever the limits allow


class MetaAllocator(Allocator):
    """Number of tasks and labels per task, by closed form, by simulation, or with a learner.

    Formula and monte-carlo solve one-step MAML on mixed linear regression (Cioba et al. 2022), for several types of
    tasks, costs and limits. Near the interpolation threshold, where no closed form is valid, the formula hands over to
    the simulation and says so. Ties (no spread, and an inner rate of 0) go to the smallest tasks. A learner with its
    tasks, or a ``Pilot``, is tried instead. Losses are half the mean squared error for the linear model, and the
    learner's or the pilot's own otherwise.

    >>> from scorefold_registry import Host
    >>> plan = Host.discover().create("allocator:meta").allocate(1000)
    >>> plan.plan, round(plan.predicted_loss, 2)
    ((PlanRow(task_type='task', tasks=100, support=5, query=5),), 0.88)
    """

    def __init__(
        self,
        config: MetaConfig,
        *,
        learner: Learner | None = None,
        tasks: DataSource | None = None,
        executor: Executor | None = None,
    ) -> None:
        if (learner is None) != (tasks is None):
            given, missing = ("tasks", "learner") if learner is None else ("learner", "tasks")
            raise ConfigError(
                f"{given} were given without the other; a learner is tried on tasks",
                hint=f"plug the port {missing} in too, or neither",
            )
        if tasks is not None and not isinstance(tasks, TaskSource):
            raise ConfigError(
                f"{type(tasks).__name__} gives no tasks", hint="plug data that is a TaskSource into tasks"
            )
        self.config = config
        self.trainee = None if learner is None or tasks is None else Trainee(learner, tasks)
        self.executor = executor
        self.folder: Path | None = None

    def keep_in(self, folder: Path) -> None:
        self.folder = folder

    def allocate(
        self,
        budget: int,
        *,
        pilot: Any = None,
        constraints: Mapping[str, Any] | None = None,
        generator: torch.Generator | None = None,
    ) -> Allocation:
        """The plan for ``budget``, in units of the costs: labels, unless the config says otherwise.

        Rows of the plan are all tasks to train on, owned ones too; ``diagnostics["buy"]`` is what there is to buy.
        ``pilot`` is a ``Pilot`` to try, or a list of regression tasks, inputs (n, p) and labels (n,) of each, whose
        spread and noise the linear model then takes. Constraints: ``min_tasks`` and ``max_tasks`` over all types,
        ``min_labels`` and ``max_labels`` of a task.

        ``infeasible`` where the budget or the limits allow no plan, ``refused`` where no plan has a loss that is known,
        both with a reason. Raises ``ConfigError`` for a budget below 0, an unknown constraint, limits that contradict
        each other, a pilot that can't be called, and the engine pilot without anything to try. Raises ``DataError`` for
        a list of anything but tasks.
        """
        require_budget(budget)
        bounds = bounds_of(self.config, constraints or {})
        if isinstance(pilot, list | tuple):
            return self._estimated(as_tasks(pilot), budget, constraints, generator)
        tried = self._tried(pilot)
        if tried is not None:
            return run_pilot(
                self.config,
                tried,
                budget,
                constraints=constraints,
                generator=generator,
                folder=self.folder,
                executor=self.executor,
            )
        return self._solved(bounds, budget, generator)

    def _estimated(
        self,
        tasks: Sequence[PilotTask],
        budget: int,
        constraints: Mapping[str, Any] | None,
        generator: torch.Generator | None,
    ) -> Allocation:
        """The plan of the linear model with the moments of a pilot's tasks, and the band of the best labels a task over
        its resamples."""
        fitted = with_moments(self.config, tasks)
        found = MetaAllocator(fitted).allocate(budget, constraints=constraints, generator=generator)
        if not found.plan:
            return found
        stream = generator or torch.Generator().manual_seed(0)
        band = best_size_band(self.config, tasks, budget, stream, constraints=constraints)
        kind = fitted.task_types[0]
        moments = {"spread": kind.spread, "noise": kind.noise, "start_distance": fitted.linear.start_distance}
        return replace(found, diagnostics={**found.diagnostics, "band": [band.low, band.high], "moments": moments})

    def _tried(self, pilot: Any) -> Tried | None:
        """Learner or pilot to try; None for the linear model."""
        if pilot is not None and not callable(pilot):
            raise ConfigError(
                f"the pilot is a {type(pilot).__name__}; expected a function of tasks, support and query to a loss, or "
                "a list of tasks, inputs (n, p) and labels (n,) of each"
            )
        if pilot is not None:
            found: Tried = pilot
            return found
        if self.trainee is None and self.config.engine == "pilot":
            raise ConfigError(
                "the engine pilot has nothing to try",
                hint="plug in a learner and tasks, or hand allocate a pilot; engine: formula needs neither",
            )
        return self.trainee

    def _solved(self, bounds: SizeBounds, budget: int, generator: torch.Generator | None) -> Allocation:
        lattice = lattice_of(self.config, bounds, budget)
        if not lattice.allows():
            return Allocation("infeasible", (), budget, reason=_why_none(lattice))
        problem, warnings = problem_of(self.config), _assumed(self.config)
        stream = generator or torch.Generator().manual_seed(0)
        engine = Engine(self.config, problem, stream if self.config.engine == "monte-carlo" else None)
        best = engine.best(lattice)
        if engine.generator is None and not engine.is_valid(best):
            rows = float(best.found.bought.plans.rows)
            warnings.append(
                f"no closed form is valid for {rows:g} query labels in all and {problem.dimension} weights: plans were "
                "simulated instead"
            )
            engine = Engine(self.config, problem, stream)
            best = engine.best(lattice)
        if not bool(best.loss.isfinite()):
            reason = (
                f"no plan has a finite expected loss with about as many query labels as weights, {problem.dimension}"
            )
            return Allocation("refused", (), budget, reason=reason, warnings=tuple(warnings))
        return formula_report(engine, lattice, best, warnings)


def _assumed(config: MetaConfig) -> list[str]:
    """The warning of a problem of which nothing is given, so that the plan is of the defaults."""
    given = config.linear.model_fields_set | {name for kind in config.task_types for name in kind.model_fields_set}
    if given & {"dimension", "rate", "start_distance", "spread", "noise"}:
        return []
    kind, linear = config.task_types[0], config.linear
    return [
        f"nothing is known of your problem: the plan is for {linear.dimension} weights, a spread of {kind.spread:g}, "
        f"noise {kind.noise:g} and an inner rate of {linear.rate:g}. Set 'linear' and 'task_types', or give a pilot"
    ]


def _why_none(lattice: Lattice) -> str:
    """Reason why no plan is allowed."""
    bounds, kinds = lattice.bounds, lattice.config.task_types
    ends = [kind.max_tasks for kind in kinds]
    there = None if None in ends else sum(end for end in ends if end is not None)
    if there is not None and there < bounds.min_tasks:
        return f"there are {there} tasks, and min_tasks is {bounds.min_tasks}"
    had = sum(row.tasks for kind in kinds for row in kind.owned)
    if bounds.max_tasks is not None and had > bounds.max_tasks:
        return f"{had} tasks are owned, and max_tasks is {bounds.max_tasks}"
    if not lattice_of(lattice.config, bounds, _PLENTY).allows():
        return f"no budget would do: the limits on tasks and the mix, {lattice.config.mix}, allow no plan"
    sizes = " or ".join(
        f"{size:g} labels of type {kind.name}" for kind, size in zip(kinds, lattice.least.tolist(), strict=True)
    )
    many = "a task" if bounds.min_tasks == 1 else f"{bounds.min_tasks} tasks"
    return f"a budget of {lattice.budget:g} does not pay for {many} of {sizes}"


_HIGHEST = 10
"""Losses of more than so many times the least are cut off: what matters is the valley."""
_NEAR = 0.02
_STYLES = ("-", "--", ":", "-.")  # from the largest budget on
_MANY = 20  # points of a line beyond which they have no marks


class Line(NamedTuple):
    """A curve at one budget: labels per task, increasing, with the loss and its interval."""

    budget: float
    sizes: Sequence[float]
    loss: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]

    @property
    def best(self) -> float:
        """The size with the least loss."""
        return self.sizes[self.loss.index(min(self.loss))]

    @property
    def near(self) -> tuple[float, float]:
        """The smallest and the largest size whose loss is within 2 % of the least."""
        good = [n for n, loss in zip(self.sizes, self.loss, strict=True) if loss <= (1 + _NEAR) * min(self.loss)]
        return good[0], good[-1]


@captioned(
    {
        "allocation": "Labels that the plan spends on each group of tasks, for support and for query.",
        "labels per task": (
            "The predicted loss on new tasks against the labels per task, for several budgets. The shaded sizes "
            "are near-optimal."
        ),
        "budget": (
            "The best number of labels per task for each budget. A bar has all sizes within 2% of the least loss."
        ),
    }
)
def allocation_figures(plan: Allocation) -> Mapping[str, Figure]:
    """Figures of the plan; the loss against labels per task at each budget, with bands, the near-optimal sizes and the
    plan's; and the best labels per task against the budget, where there are several, with the threshold.

    Nothing for an allocation without a plan, and the plan alone for one without a curve.
    """
    found = dict(rows_of_a_plan(plan))
    lines = lines_of(plan)
    if plan.plan and lines:
        found["labels per task"] = _valleys(plan, lines)
        if len(lines) > 1:
            found["budget"] = _optima(plan, lines)
    return found


def lines_of(plan: Allocation) -> list[Line]:
    """The curve of an allocation by budgets, the smallest first."""
    columns = ("budget", "labels_per_task", "loss", "low", "high")
    if not all(len(plan.curve.get(name, ())) for name in columns):
        return []
    points = sorted(zip(*(map(float, plan.curve[name]) for name in columns), strict=True))
    return [
        Line(budget, *zip(*(point[1:] for point in rows), strict=True))
        for budget, rows in groupby(points, key=lambda point: point[0])
    ]


def _valleys(plan: Allocation, lines: Sequence[Line]) -> Figure:
    figure, axes = new_figure(6.8, 4.6)
    for number, line in enumerate(lines):
        last = number == len(lines) - 1
        colour, style = ACCENT if last else INK, _STYLES[(len(lines) - 1 - number) % len(_STYLES)]
        axes.fill_between(line.sizes, line.low, line.high, color=ACCENT if last else SOFT, alpha=0.25, linewidth=0)
        mark = "o" if len(line.sizes) < _MANY else None
        name = f"{line.budget:,.0f} labels in all"
        axes.plot(line.sizes, line.loss, style, color=colour, marker=mark, markersize=3, linewidth=1.6, label=name)
    near, size = plan.diagnostics.get("near_optimal"), _size(plan)
    if near is not None:
        words = f"near-optimal: {near[0]:,.0f} to {near[1]:,.0f}"
        axes.axvspan(*near, color=WARM, alpha=0.1, linewidth=0, label=words)
    losses = [loss for line in lines for loss in line.loss]
    if plan.predicted_loss is not None and size is not None:
        named = f"the plan: {size:,g} labels per task"
        budget = _budget(plan, lines)
        if budget > 1.01 * lines[-1].budget:
            named += f", extrapolated to {budget:,.0f} labels in all"
        axes.plot([size], [plan.predicted_loss], "D", color=WARM, zorder=5, label=named)
        losses.append(plan.predicted_loss)
    least = min(losses)
    most = max(loss for loss in losses if loss <= _HIGHEST * least)
    if most > 3 * least:
        axes.set_ylim(0.85 * least, 1.15 * most)
        _log_axis(axes, "y")
    else:
        room = 0.08 * (most - least) or 0.1 * least
        axes.set_ylim(least - room, most + room)
    _log_axis(axes, "x")
    axes.set(xlabel="labels per task", ylabel="loss on new tasks")
    axes.legend(frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return figure


def _optima(plan: Allocation, lines: Sequence[Line]) -> Figure:
    figure, axes = new_figure(6.4, 4.0)
    budgets, ends = [line.budget for line in lines], list(zip(*(line.near for line in lines), strict=True))
    axes.vlines(budgets, *ends, color=SOFT, linewidth=6, label="within 2 % of the least loss")
    axes.plot(budgets, [line.best for line in lines], "o-", color=ACCENT, label="least loss", markersize=5)
    if (size := _size(plan)) is not None:
        axes.plot(
            [_budget(plan, lines)], [size], "D", color=WARM, label=f"the plan: {size:,g} labels per task", zorder=5
        )
    threshold = plan.diagnostics.get("threshold")
    if threshold is not None:
        axes.axvline(threshold, color=INK, linestyle=":", linewidth=1, label=f"threshold, {threshold:,.0f} labels")
    for name in ("x", "y"):
        _log_axis(axes, name)
    axes.set(xlabel="labels in all", ylabel="best labels per task")
    axes.legend(frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return figure


def _size(plan: Allocation) -> float | None:
    """The labels of a task of the plan; None for an allocator that reports none."""
    found = plan.diagnostics.get("n")
    return None if found is None else float(found)


def _budget(plan: Allocation, lines: Sequence[Line]) -> float:
    """The budget of the plan, which a pilot's curve may not reach."""
    if plan.diagnostics.get("engine") != "pilot":
        return lines[-1].budget
    return plan.leftover + float(sum(row.tasks * (row.support + row.query) for row in plan.plan))


def _log_axis(axes: Axes, name: str) -> None:
    """A logarithmic axis with plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    getattr(axes, f"set_{name}scale")("log")
    axis = getattr(axes, f"{name}axis")
    low, high = axis.get_view_interval()
    subs = (1.0,) if high > 300 * low else (1.0, 2.0, 5.0) if high > 8 * low else (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_formatter(NullFormatter())
