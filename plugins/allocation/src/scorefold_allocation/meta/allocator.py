"""The allocator of labels across the tasks of meta-learning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from scorefold.errors import ConfigError
from scorefold.interfaces import Allocator, DataSource
from scorefold.results import Allocation
from scorefold.stage import Executor
from scorefold_allocation.data.batch import TaskSource
from scorefold_allocation.learners.interface import Learner
from scorefold_allocation.meta.config import MetaConfig
from scorefold_allocation.search.pilot import PilotTask, best_size_band, with_moments
from scorefold_allocation.search.procedure import run_pilot
from scorefold_allocation.search.trials import Trainee, Tried
from scorefold_allocation.theory.engines import Engine
from scorefold_allocation.theory.optimum import Lattice, lattice_of
from scorefold_allocation.theory.purchase import SizeBounds, bounds_of, problem_of
from scorefold_allocation.theory.report import formula_report
from scorefold_toolkit.checks import require_budget

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
        each other, a pilot that can't be called, and the engine pilot without anything to try.
        """
        require_budget(budget)
        bounds = bounds_of(self.config, constraints or {})
        if isinstance(pilot, list | tuple):
            return self._estimated(pilot, budget, constraints, generator)
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
                "a list of tasks"
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
        problem, warnings = problem_of(self.config), list[str]()
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
