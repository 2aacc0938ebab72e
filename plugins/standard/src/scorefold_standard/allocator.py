"""The uniform allocation of labels across tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from scorefold.errors import ConfigError
from scorefold.interfaces import Allocator
from scorefold.results import Allocation, PlanRow
from scorefold_standard.config.allocator import UniformConfig
from scorefold_toolkit.checks import require_budget, require_constraints

_LEAST = {"support": 1, "query": 0, "min_tasks": 0, "max_tasks": 1}
"""The constraints, and the least that each may be."""


class UniformAllocator(Allocator):
    """Every task gets the same support and query labels, every type of task as nearly the same number of tasks.

    A task costs support + query labels. Types that come first get the tasks that don't divide evenly. It learns
    nothing from a pilot and predicts no loss. Constraints: ``support`` and ``query`` replace the configured sizes;
    ``min_tasks`` and ``max_tasks`` bound the number of tasks over all types.

    >>> from scorefold_registry import Host
    >>> print(Host.discover().create("allocator:uniform", {"support": 4, "query": 6}).allocate(105).text())
    10 tasks of type task, each with 4 support and 6 query examples. 5 labels left over.
    """

    def __init__(self, config: UniformConfig) -> None:
        self.config = config

    def allocate(
        self,
        budget: int,
        *,
        pilot: Any = None,
        constraints: Mapping[str, Any] | None = None,
        generator: torch.Generator | None = None,
    ) -> Allocation:
        """The plan with the most tasks, ``infeasible`` where not one (or not ``min_tasks``) can be paid for.

        Raises ``ConfigError`` for a budget or a constraint that isn't a whole number in range, and for one that is
        unknown.
        """
        require_budget(budget)
        bounds = dict(constraints or {})
        require_constraints(bounds, _LEAST)
        support = bounds.get("support", self.config.support)
        query = bounds.get("query", self.config.query)
        least, most = bounds.get("min_tasks", 1), bounds.get("max_tasks")
        if most is not None and most < least:
            raise ConfigError(f"min_tasks is {least} and max_tasks {most}; expected min_tasks <= max_tasks")
        tasks = budget // (support + query)
        tasks = tasks if most is None else min(tasks, most)
        if tasks < max(1, least):
            return Allocation(status="infeasible", plan=(), leftover=budget)
        each, more = divmod(tasks, len(self.config.task_types))
        rows = (
            PlanRow(task_type=name, tasks=each + (i < more), support=support, query=query)
            for i, name in enumerate(self.config.task_types)
        )
        return Allocation(
            status="feasible",
            plan=tuple(row for row in rows if row.tasks > 0),
            leftover=budget - tasks * (support + query),
        )
