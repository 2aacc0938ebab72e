"""The uniform allocator: exact accounting for every budget, and no silent failures."""

from __future__ import annotations

import pytest

from scorefold.errors import ConfigError
from scorefold_standard.baselines import UniformAllocator
from scorefold_standard.config import UniformConfig


@pytest.mark.parametrize("types", [("a",), ("a", "b"), ("a", "b", "c")])
@pytest.mark.parametrize("budget", [0, 1, 6, 7, 8, 20, 100, 1001])
@pytest.mark.parametrize("bounds", [{}, {"support": 1, "query": 0}, {"max_tasks": 5}, {"min_tasks": 3, "query": 9}])
def test_every_label_is_accounted_for(types: tuple[str, ...], budget: int, bounds: dict[str, int]) -> None:
    plan = UniformAllocator(UniformConfig(task_types=types, support=4, query=3)).allocate(budget, constraints=bounds)
    spent = sum(row.tasks * (row.support + row.query) for row in plan.plan)
    assert spent + plan.leftover == budget
    support, query = bounds.get("support", 4), bounds.get("query", 3)
    assert {(row.support, row.query) for row in plan.plan} <= {(support, query)}
    tasks = sum(row.tasks for row in plan.plan)
    affordable = min(budget // (support + query), bounds.get("max_tasks", budget))
    if affordable < max(1, bounds.get("min_tasks", 1)):
        assert (plan.status, plan.plan, plan.leftover) == ("infeasible", (), budget)
    else:
        assert plan.status == "feasible"
        assert tasks == affordable
        counts = [row.tasks for row in plan.plan] + [0] * (len(types) - len(plan.plan))
        assert max(counts) - min(counts) <= 1


def test_text_says_the_plan() -> None:
    allocator = UniformAllocator(UniformConfig(task_types=("easy", "hard"), support=2, query=2))
    plan = allocator.allocate(14)
    assert plan.text() == (
        "2 easy tasks of 2 support and 2 query examples, and 1 hard task of 2 support and 2 query examples. "
        "It leaves 2 labels over. Every task has equally many labels. No loss is predicted; allocator:meta compares "
        "plans by their loss."
    )
    assert allocator.allocate(3).text() == "No plan fits the budget and the constraints."


@pytest.mark.parametrize(
    ("budget", "constraints", "message"),
    [
        (-1, {}, "budget is -1"),
        (2.5, {}, "budget is 2.5"),
        (True, {}, "budget is True"),
        (10, {"suport": 1}, "no constraint 'suport'; there are support, query, min_tasks, max_tasks"),
        (10, {"support": 0}, "'support' is 0; expected a whole number of at least 1"),
        (10, {"query": "3"}, "'query' is '3'"),
        (10, {"min_tasks": 3, "max_tasks": 2}, "expected min_tasks <= max_tasks"),
    ],
)
def test_what_cannot_be_is_refused(budget: int, constraints: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        UniformAllocator(UniformConfig()).allocate(budget, constraints=constraints)
