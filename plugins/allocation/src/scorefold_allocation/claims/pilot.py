"""Claims of what trials give: bands that hold, moments of a pilot, and growth of the best size. Functions of claims
take a host, a profile and a seed.

The online allocator of the first version of the paper is measured, too: it buys labels step by step.
"""

from __future__ import annotations

import math
from functools import cache
from importlib.util import find_spec
from statistics import median, stdev
from typing import Any

import torch
from torch import Tensor

from scorefold.seeds import derive_generator, derive_seed
from scorefold_allocation.allocator import MetaAllocator
from scorefold_allocation.claims.calibration import (
    NoTasks,
    SimulatedLearner,
    draw_problem,
    judge_search,
    search_summary,
)
from scorefold_allocation.claims.linear import even_plans, frozen_size, problem, risk_curve, simulated_loss
from scorefold_allocation.config import DeploymentConfig, LinearConfig, MetaConfig, PilotConfig
from scorefold_allocation.learners.interface import AllocationCell
from scorefold_allocation.search.pilot import estimate_moments

PROBLEMS = {"quick": 200, "long": 1000}
AX_PROBLEMS = {"quick": 20, "long": 200}
"""Choosing sizes by Ax takes longer than all else of a problem."""
PILOTS = 200
_WEIGHTS, _LABELS, _RATE = 20, 10, 0.4
_LEAST = 1e-6


def calibration(host: Any, profile: str, seed: int, *, figure: str) -> float:
    """A figure of ``calibration.search_summary``."""
    return _summary(profile, seed)[figure]


def ax_calibration(host: Any, profile: str, seed: int, *, figure: str) -> float | None:
    """A figure of the first problems beside Ax; None where Ax is not installed."""
    return None if find_spec("ax") is None else _with_ax(profile, seed)[figure]


def moment_size(host: Any, profile: str, seed: int, *, tasks: int, share: float) -> float:
    """A quantile over 200 pilots, of so many tasks of 10 labels, of the best labels per task of large budgets by the
    moments of each; p = 20, a = 0.4, and all moments are 1."""
    found = []
    for spread2, noise2, _ in _pilots(seed, tasks):
        case = problem(_WEIGHTS, _RATE, max(noise2, _LEAST), max(spread2, _LEAST))
        found.append(float(frozen_size(case)))
    return sorted(found)[min(PILOTS - 1, int(share * PILOTS))]


def moment_error(host: Any, profile: str, seed: int, *, tasks: int, moment: str) -> float:
    """The deviation of the estimate of a moment over 200 such pilots."""
    place = ("spread2", "noise2", "centre2").index(moment)
    return stdev(moments[place] for moments in _pilots(seed, tasks))


@cache
def _pilots(seed: int, tasks: int) -> tuple[tuple[float, float, float], ...]:
    """nu^2, sigma^2 and |w0|^2 as each pilot has them."""
    generator = derive_generator(seed, "pilots", tasks)
    return tuple(_estimated(tasks, generator) for _ in range(PILOTS))


def _estimated(tasks: int, generator: torch.Generator) -> tuple[float, float, float]:
    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    weights = (1 + normal(tasks, _WEIGHTS, 1)) / _WEIGHTS**0.5
    x = normal(tasks, _LABELS, _WEIGHTS)
    y = (x @ weights)[..., 0] + normal(tasks, _LABELS)
    found = estimate_moments(list(zip(x, y, strict=True)))
    return float(found.spread2), float(found.noise2), float(found.centre2)


@cache
def _summary(profile: str, seed: int) -> dict[str, float]:
    return _judged(seed, PROBLEMS[profile], ("uniform", "random"))


@cache
def _with_ax(profile: str, seed: int) -> dict[str, float]:
    return _judged(seed, AX_PROBLEMS[profile], ("ax",))


def _judged(seed: int, count: int, others: tuple[str, ...]) -> dict[str, float]:
    numbers = range(1000 * seed, 1000 * seed + count)
    return search_summary([judge_search(draw_problem(number), PilotConfig(), number, others) for number in numbers])


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
