"""The best size of a task, and its limits for large budgets and many weights. Functions of claims take a host, a
profile and a seed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from scorefold_allocation.claims.linear import curve, plan, problem, simulated
from scorefold_allocation.claims.simulated import NoTasks, SimulatedLearner
from scorefold_allocation.learners.interface import Cell
from scorefold_allocation.theory.formula import task_variance
from scorefold_allocation.theory.linear_model import LinearProblem
from scorefold_allocation.theory.moments import Number, shrinkage

_RATES = tuple(rate / 10 for rate in range(-3, 14))
_RATIOS = (0.1, 1.0, 10.0)


def budget_times_risk(
    problem: LinearProblem,
    support: Number,
    query: Number,
    kind: int = 0,
    task_cost: float = 0.0,
    label_cost: float = 1.0,
) -> Tensor:
    """The limit of b R as the budget b grows, for tasks of one type and size: cost phi / h^2.

    No b is left in it, so that the best size is a constant; no mix of sizes does better, whatever the cost of a size.
    """
    noise, spread = task_variance(
        support, query, problem.dimension, problem.rate, problem.spread2[kind], problem.noise2[kind]
    )
    cost = task_cost + label_cost * (torch.as_tensor(support, dtype=torch.float64) + query)
    return cost * (noise + spread) / shrinkage(support, problem.dimension, problem.rate) ** 2


def frozen_size(problem: LinearProblem, kind: int = 0, task_cost: float = 0.0, label_cost: float = 1.0) -> int:
    """The labels per task, half of them support, at which ``budget_times_risk`` is least; up to 20 p + 1000 of them."""
    half = torch.arange(1, 10 * problem.dimension + 501, dtype=torch.float64)
    return 2 * int(half[budget_times_risk(problem, half, half, kind, task_cost, label_cost).argmin()])


def large_dimension(c: Number, rate: float, spread2: float, noise2: float) -> Tensor:
    """F(c), the limit of b R / (2 p) as p grows with n_t = n_v = c p and b far above the threshold.

    Its minimiser c* gives the best labels per task, 2 c* p. With y = 1 / c and H = (1 - a)^2 + a^2 y:

        F = sigma^2 [(1 + a^2 y) / H + a^2 G1 / H^2] + nu^2 [1 + G3 / (y H^2)].
    """
    a, y = rate, 1 / torch.as_tensor(c, dtype=torch.float64)
    H = (1 - a) ** 2 + a**2 * y
    third = 1 + 3 * y + y**2
    G1 = 1 - 2 * a * (1 + y) + a**2 * third
    G3 = 1 - 4 * a + 6 * a**2 * (1 + y) - 4 * a**3 * third + a**4 * (1 + 6 * y + 6 * y**2 + y**3)
    return noise2 * ((1 + a**2 * y) / H + a**2 * G1 / H**2) + spread2 * (1 + G3 / (y * H**2))


def best_size(host: Any, profile: str, seed: int, *, budget: int, dimension: int = 20, rate: float = 0.4) -> float:
    """The best labels per task, simulated for every even size that divides the budget."""
    sizes, risks = curve(profile, seed, dimension, rate, budget)
    return float(sizes[int(risks.argmin())])


def frozen_cost(host: Any, profile: str, seed: int, *, budget: int, size: int = 10) -> float:
    """By how much, relative to the least, R at a budget is larger with the size that is best for large budgets."""
    sizes, risks = curve(profile, seed, 20, 0.4, budget)
    return float(risks[sizes.index(size)] / risks.min()) - 1


def limit_size(host: Any, profile: str, seed: int, *, dimension: int, rate: float, noise2: float = 1.0) -> float:
    """The best labels per task of large budgets."""
    return float(frozen_size(problem(dimension, rate, noise2), 0))


def limit_share(host: Any, profile: str, seed: int, *, rate: float, noise2: float) -> float:
    """c*, the best labels per task over 2 p for large budgets and large p, with nu = 1; 1e-6 is the end of the grid."""
    c = torch.logspace(-6, 2, 200_001, dtype=torch.float64)
    return float(c[large_dimension(c, rate, 1.0, noise2).argmin()])


def budget_limit(host: Any, profile: str, seed: int) -> float:
    """b R at 200 thresholds over its limit, for p = 20, a = 0.4 and the best size."""
    case, size, budget = problem(20, 0.4), frozen_size(problem(20, 0.4)), 8000
    found = simulated(case, plan((budget // size, size / 2, size / 2)), profile, seed, 0.005)
    return budget * float(found / budget_times_risk(case, size / 2, size / 2))


def most_minima(host: Any, profile: str, seed: int) -> float:
    """The most local minima that b R has over the size of a task, of 153 problems of large budgets."""
    half = torch.arange(1, 2001, dtype=torch.float64)
    counts = []
    for p in (10, 20, 50):
        for rate in _RATES:
            for ratio in _RATIOS:
                falls = budget_times_risk(problem(p, rate, ratio), half, half).diff() < 0
                counts.append(int((falls[:-1] & ~falls[1:]).sum()) + int(not bool(falls[0])) + int(bool(falls[-1])))
    return float(max(counts))


def one_task(host: Any, profile: str, seed: int, *, tasks: int) -> float:
    """R of 72 labels in so many tasks, where p = 20, a = 0.2, sigma^2 = 0.25, nu^2 = 1 and |w_init - w0|^2 = 4."""
    half = 36 // tasks
    return float(simulated(problem(20, 0.2, 0.25, 1.0, 4.0), plan((tasks, half, half)), profile, seed, 0.004))


def training_loss(host: Any, profile: str, seed: int, *, budget: int, end: str) -> float:
    """The least or the greatest training loss over five sizes of a task, for p = 20 and a = 0.4."""
    cells = [Cell(budget // size, size // 2, size // 2) for size in (2, 4, 6, 8, 12)]
    found = SimulatedLearner(problem(20, 0.4)).evaluate(NoTasks(), cells, seed).train
    assert found is not None
    return float(found.min() if end == "least" else found.max())
