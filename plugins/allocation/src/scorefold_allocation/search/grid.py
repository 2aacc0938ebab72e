"""Possible sizes of a task for a budget, and the sizes to try."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from scorefold.errors import ConfigError
from scorefold_allocation.config.allocator import MetaConfig
from scorefold_allocation.learners.interface import Cell
from scorefold_allocation.theory.purchase import bounds_of, smallest_of, step_of, support_of


@dataclass(frozen=True)
class Limits:
    """Plans of tasks of one size: n labels each, a multiple of ``step`` between ``smallest`` and ``largest``.

    A task costs ``task_cost`` + n ``label_cost``; there are ``min_tasks`` to ``max_tasks`` of them (None: no end). Its
    support labels are those of ``support_of``.
    """

    smallest: int
    largest: int | None
    step: int
    ways: int = 1
    support_share: float = 0.5
    task_cost: float = 0.0
    label_cost: float = 1.0
    min_tasks: int = 2
    max_tasks: int | None = None

    @classmethod
    def of(cls, config: MetaConfig, constraints: Mapping[str, int] | None = None) -> Limits:
        """Limits of the configuration within ``constraints``: min_labels, max_labels, min_tasks, max_tasks.

        Raises ``ConfigError`` for several types of task and a free split, which a black box is not tried on, and for
        constraints as ``bounds_of`` does.
        """
        if len(config.task_types) > 1:
            names = ", ".join(kind.name for kind in config.task_types)
            raise ConfigError(
                f"the engine pilot tries tasks of one type, and there are {len(config.task_types)}: {names}",
                hint="name one type in task_types, or use engine: formula",
            )
        if config.split.name == "free":
            raise ConfigError(
                "the engine pilot tries one split of a task's labels, and the split is free",
                hint="split: {name: even}, or a fixed support_share",
            )
        kind, bounds = config.task_types[0], bounds_of(config, constraints or {})
        (least, largest), step = bounds.labels[0], step_of(kind, config)
        ends = [end for end in (bounds.max_tasks, kind.max_tasks) if end is not None]
        return cls(
            smallest=smallest_of(kind, config, least),
            largest=largest,
            step=step,
            ways=kind.ways,
            support_share=config.split.share,
            task_cost=kind.task_cost,
            label_cost=kind.label_cost,
            min_tasks=bounds.min_tasks,
            max_tasks=min(ends) if ends else None,
        )

    def cost(self, size: int) -> float:
        """Cost of a task of ``size`` labels."""
        return self.task_cost + size * self.label_cost

    def tasks(self, size: int, budget: float) -> int:
        """Number of tasks of ``size`` labels within the budget and ``max_tasks``."""
        cost = self.cost(size)
        paid = math.floor(budget / cost + 1e-9) if cost > 0 else math.inf
        return int(min(paid, math.inf if self.max_tasks is None else self.max_tasks))

    def cell(self, size: int, budget: float) -> Cell:
        """As many tasks of ``size`` labels as the budget pays."""
        support = int(support_of(torch.tensor(float(size), dtype=torch.float64), self.support_share, self.ways))
        return Cell(self.tasks(size, budget), support, size - support)

    def most(self, budget: float) -> int:
        """The largest size for which the budget pays ``min_tasks``; below ``smallest`` where it pays for none."""
        if self.max_tasks is not None and self.max_tasks < self.min_tasks:
            return 0
        ends = [] if self.largest is None else [self.largest]
        if self.label_cost > 0:
            ends.append(math.floor((budget / self.min_tasks - self.task_cost) / self.label_cost + 1e-9))
        elif self.task_cost * self.min_tasks > budget:
            ends.append(0)
        return self.step * (min(ends) // self.step)

    def nearest(self, size: float, budget: float) -> int:
        """The feasible size that is nearest to ``size`` by ratio."""
        below = self.step * max(1, math.floor(size / self.step))
        rounded = below if size * size <= below * (below + self.step) else below + self.step
        return max(self.smallest, min(rounded, self.most(budget)))

    def sizes(self, budget: float, count: int, low: float = 0.0, high: float = math.inf) -> list[int]:
        """Up to ``count`` feasible sizes between ``low`` and ``high``, evenly spread in log n; increasing."""
        first, last = self.smallest, self.most(budget)
        if last < first:
            return []
        ends = [math.log(min(max(end, first), last)) for end in (low, high)]
        width = (ends[1] - ends[0]) / max(1, count - 1)
        return sorted({self.nearest(math.exp(ends[0] + i * width), budget) for i in range(count)})
