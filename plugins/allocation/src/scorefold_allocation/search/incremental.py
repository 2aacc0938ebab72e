"""Plans around labels that are there already."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from scorefold.results import PlanRow
from scorefold_allocation.config import OwnedConfig
from scorefold_allocation.search.grid import Limits
from scorefold_allocation.search.valley import Band


class Purchase(NamedTuple):
    """The ``rows`` of a plan, owned tasks too; what is ``left`` of the budget; what there is to ``buy``, as JSON."""

    rows: tuple[PlanRow, ...]
    left: int
    buy: dict[str, Any]

    @property
    def tasks(self) -> int:
        """The tasks of all rows together."""
        return sum(row.tasks for row in self.rows)


def worth(budget: int, owned: Sequence[OwnedConfig], limits: Limits) -> float:
    """Worth of a budget and the existing labels: the budget that would buy both."""
    return budget + sum(row.tasks * limits.cost(row.support + row.query) for row in owned)


def size_to_keep(best: int, band: Band, present: int | None) -> int:
    """The labels a task to go on with: the present ones unless the band of the best ones excludes them."""
    return present if present is not None and band.holds(present) else best


def present_size(owned: Sequence[OwnedConfig]) -> int | None:
    """The size that most of the owned labels stand in, or None where there are none."""
    if not owned:
        return None
    biggest = max(owned, key=lambda row: row.tasks * (row.support + row.query))
    return biggest.support + biggest.query


def incremental_plan(
    name: str,
    limits: Limits,
    size: int,
    budget: int,
    owned: Sequence[OwnedConfig] = (),
    leftovers: Literal["spread", "keep"] = "keep",
) -> Purchase:
    """Tasks of ``size`` labels for a budget.

    Owned tasks are topped up first, as they need no new task, those that lack least before others; then new tasks are
    bought. What is left is kept, or spent on one more step of labels for as many of the new tasks as it pays.
    """
    cell = limits.cell(size, budget)
    left = float(budget)
    had: dict[tuple[int, int], int] = {}
    topped_up = []

    def add(support: int, query: int, tasks: int) -> None:
        had[support, query] = had.get((support, query), 0) + tasks

    for row in sorted(owned, key=lambda row: row.support + row.query, reverse=True):
        support, query = max(row.support, cell.support), max(row.query, cell.query)
        lacks = (support + query - row.support - row.query) * limits.label_cost
        filled = row.tasks if lacks == 0 else min(row.tasks, math.floor(left / lacks + 1e-9))
        add(support, query, filled)
        add(row.support, row.query, row.tasks - filled)
        left -= filled * lacks
        if filled and lacks:
            topped_up.append({"tasks": filled, "support": row.support, "query": row.query})
    room = math.inf if limits.max_tasks is None else limits.max_tasks - sum(had.values())
    new = int(min(limits.tasks(size, left), room))
    left -= new * limits.cost(size)
    buy = {"task_type": name, "new_tasks": new, "grown": topped_up}
    larger = size + limits.step
    if leftovers == "spread" and (limits.largest is None or larger <= limits.largest):
        step = limits.step * limits.label_cost
        grown = new if step == 0 else min(new, math.floor(left / step + 1e-9))
        more = limits.cell(larger, budget)
        add(more.support, more.query, grown)
        new, left = new - grown, left - grown * step
    add(cell.support, cell.query, new)
    rows = tuple(PlanRow(name, tasks, support, query) for (support, query), tasks in sorted(had.items()) if tasks)
    return Purchase(rows, math.floor(left + 1e-9), buy)
