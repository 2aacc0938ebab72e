"""Where the best labels per task go as the budget grows, and as the number of weights does too."""

from __future__ import annotations

import torch
from torch import Tensor

from scorefold_allocation.theory.formula import task_variance
from scorefold_allocation.theory.linear_model import LinearProblem
from scorefold_allocation.theory.moments import Number, shrinkage


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
