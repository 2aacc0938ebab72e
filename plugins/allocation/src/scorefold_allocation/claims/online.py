"""The online allocator of the paper's first version: labels are bought step by step, tasks or labels of each, whichever
helped more. Functions of claims take a host, a profile and a seed.

It starts with 5 tasks of 6 labels. At each step it tries 2 more tasks, and 2 more labels of every task, and keeps what
has the lower loss in a training; here a training is solved, on new tasks each time, for p = 20, a = 0.4 and all moments
1, where the threshold is 40 labels.
"""

from __future__ import annotations

from functools import cache
from statistics import median

from scorefold.seeds import derive_seed
from scorefold_allocation.claims.linear import curve, even_plans, problem, simulated
from scorefold_allocation.claims.simulated import NoTasks, SimulatedLearner
from scorefold_allocation.learners.interface import Cell

RUNS = {"quick": 15, "long": 50}
START, STEP = (5, 6), 2


def size(host: object, profile: str, seed: int, *, budget: int) -> float:
    """The labels a task that it ends with, the median over runs."""
    return float(median(labels for _, labels in _ends(profile, seed, budget)))


def regret(host: object, profile: str, seed: int, *, budget: int) -> float:
    """By how much its excess loss is above the least for as many labels, the median over runs."""
    tasks, labels = zip(*_ends(profile, seed, budget), strict=True)
    found = simulated(problem(20, 0.4), even_plans(list(labels), list(tasks)), profile, seed, 0.01)
    _, risks = curve(profile, seed, 20, 0.4, budget)
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
        cells = [Cell(m, n // 2, n // 2) for m, n in tried]
        losses = learner.evaluate(NoTasks(), cells, derive_seed(seed, step)).test
        tasks, labels = tried[int(losses.argmin())]
        step += 1
