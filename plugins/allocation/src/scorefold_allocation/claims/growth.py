"""Claims of how the best size of a task grows with the budget, and of the online allocator of the first version.

The online allocator of the paper's first version: labels are bought step by step, tasks or labels of each, whichever
helped more. Functions of claims take a host, a profile and a seed.

It starts with 5 tasks of 6 labels. At each step it tries 2 more tasks, and 2 more labels of every task, and keeps what
has the lower loss in a training; here a training is solved, on new tasks each time, for p = 20, a = 0.4 and all moments
1, where the threshold is 40 labels.
"""

from __future__ import annotations

import math
from functools import cache
from statistics import median
from typing import Any

from scorefold.seeds import derive_seed
from scorefold_allocation.claims.calibration import NoTasks, SimulatedLearner
from scorefold_allocation.claims.linear import even_plans, problem, risk_curve, simulated_loss
from scorefold_allocation.learners.interface import AllocationCell
from scorefold_allocation.meta.allocator import MetaAllocator
from scorefold_allocation.meta.config import DeploymentConfig, LinearConfig, MetaConfig

LEAST, MOST = 10_000, 10_000_000
"""The budgets that an exponent is measured between."""
_DEPLOYMENTS = {
    "fixed": DeploymentConfig(labels=20, rate="training"),
    "tied": DeploymentConfig(labels="tied", rate="training"),
    "tied-best-rate": DeploymentConfig(labels="tied", rate=None),
}


def best_size_at(host: Any, profile: str, seed: int, *, labels: str, budget: int) -> float:
    """The best labels per task of the allocator for p = 20 and a = 0.3: a new task is adapted to by 20 labels where
    ``labels`` is fixed, and by as many as a training task has support labels where it is tied; with a step of the
    training rate, or of the best one."""
    return _plan(labels, budget)[0]


def growth_exponent(host: Any, profile: str, seed: int, *, labels: str, of: str) -> float:
    """gamma of labels per task, or of the number of tasks, ~ b^gamma over three decades."""
    place = ("labels", "tasks").index(of)
    return math.log(_plan(labels, MOST)[place] / _plan(labels, LEAST)[place]) / math.log(MOST / LEAST)


@cache
def _plan(labels: str, budget: int) -> tuple[float, float]:
    """Labels per task and number of tasks."""
    config = MetaConfig(deployment=_DEPLOYMENTS[labels], linear=LinearConfig(rate=0.3))
    found = MetaAllocator(config).allocate(budget)
    return float(found.diagnostics["n"]), float(sum(row.tasks for row in found.plan))


RUNS = {"quick": 15, "long": 50}
START, STEP = (5, 6), 2


def online_size(host: object, profile: str, seed: int, *, budget: int) -> float:
    """The labels a task that it ends with, the median over runs."""
    return float(median(labels for _, labels in _ends(profile, seed, budget)))


def online_regret(host: object, profile: str, seed: int, *, budget: int) -> float:
    """The median over runs of its excess loss above the least for as many labels."""
    tasks, labels = zip(*_ends(profile, seed, budget), strict=True)
    found = simulated_loss(problem(20, 0.4), even_plans(list(labels), list(tasks)), profile, seed, 0.01)
    _, risks = risk_curve(profile, seed, 20, 0.4, budget)
    return float(median((found / risks.min() - 1).tolist()))


@cache
def _ends(profile: str, seed: int, budget: int) -> list[tuple[int, int]]:
    """Tasks and labels a task at the end of each run, the last step that the budget paid for."""
    return [_walk(budget, derive_seed(seed, "online", run)) for run in range(RUNS[profile])]


def _walk(budget: int, seed: int) -> tuple[int, int]:
    learner, (tasks, labels), step = SimulatedLearner(problem(20, 0.4)), START, 0
    while True:
        tried = [(tasks + STEP, labels), (tasks, labels + STEP)]
        tried = [(m, n) for m, n in tried if m * n <= budget]
        if not tried:
            return tasks, labels
        cells = [AllocationCell(m, n // 2, n // 2) for m, n in tried]
        losses = learner.evaluate(NoTasks(), cells, derive_seed(seed, step)).test
        tasks, labels = tried[int(losses.argmin())]
        step += 1
