"""Claims of how the best size of a task grows with the budget, by how new tasks are adapted to. Functions of claims
take a host, a profile and a seed."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from scorefold_allocation.allocator import MetaAllocator
from scorefold_allocation.config.allocator import DeploymentConfig, LinearConfig, MetaConfig

LEAST, MOST = 10_000, 10_000_000
"""The budgets that an exponent is measured between."""
_DEPLOYMENTS = {
    "fixed": DeploymentConfig(labels=20, rate="training"),
    "tied": DeploymentConfig(labels="tied", rate="training"),
    "tied-best-rate": DeploymentConfig(labels="tied", rate=None),
}


def size(host: Any, profile: str, seed: int, *, labels: str, budget: int) -> float:
    """The best labels per task of the allocator for p = 20 and a = 0.3: a new task is adapted to by 20 labels where
    ``labels`` is fixed, and by as many as a training task has support labels where it is tied; with a step of the
    training rate, or of the best one."""
    return _plan(labels, budget)[0]


def exponent(host: Any, profile: str, seed: int, *, labels: str, of: str) -> float:
    """gamma of labels per task, or of the number of tasks, ~ b^gamma over three decades."""
    place = ("labels", "tasks").index(of)
    return math.log(_plan(labels, MOST)[place] / _plan(labels, LEAST)[place]) / math.log(MOST / LEAST)


@cache
def _plan(labels: str, budget: int) -> tuple[float, float]:
    """Labels per task and number of tasks."""
    config = MetaConfig(deployment=_DEPLOYMENTS[labels], linear=LinearConfig(rate=0.3))
    found = MetaAllocator(config).allocate(budget)
    return float(found.diagnostics["n"]), float(sum(row.tasks for row in found.plan))
