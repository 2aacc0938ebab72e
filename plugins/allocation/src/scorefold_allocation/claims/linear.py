"""Common parts of the claims about the linear model, and its risks. Functions of claims take a host, a profile and a
seed.

Problems have spread and noise 1 and start at distance 1 unless said otherwise; tasks are half support, half query.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from scorefold_allocation.meta.config import MonteCarloConfig
from scorefold_allocation.theory.formula import best_training_rate, risk
from scorefold_allocation.theory.linear_model import (
    LinearProblem,
    Plans,
    adapted_loss,
    best_rate,
    draw_task,
    meta_solution,
    outer_rows,
)
from scorefold_allocation.theory.monte_carlo import simulated_risk

DESIGNS = 20_000
"""Most designs that a risk is simulated with."""
WORTH = {"smoke": 1, "quick": 2, "long": 4}
"""Factor of the precision of a simulation."""


def problem(
    p: int,
    rate: float,
    noise2: float | tuple[float, ...] = 1.0,
    spread2: float = 1.0,
    start2: float = 1.0,
    weighting: str = "pooled",
) -> LinearProblem:
    """A linear problem with the noise variance of its type, or of each of its types."""
    noise = torch.atleast_1d(torch.tensor(noise2, dtype=torch.float64))
    return LinearProblem(p, rate, start2, torch.full_like(noise, spread2), noise, weighting)


def linear_plan(*groups: tuple[float, float, float], kinds: tuple[int, ...] | None = None) -> Plans:
    """One plan of groups (tasks, support, query), all of the first type unless ``kinds`` says otherwise."""
    columns = torch.tensor(groups, dtype=torch.float64).T[:, None]
    return Plans(torch.tensor(kinds or (0,) * len(groups)), *columns)


def even_plans(sizes: list[int], tasks: list[int]) -> Plans:
    """Plans (C,) of so many tasks of so many labels, half of them support."""
    half = torch.tensor(sizes, dtype=torch.float64)[:, None] / 2
    return Plans(torch.tensor([0]), torch.tensor(tasks, dtype=torch.float64)[:, None], half, half)


def simulated_loss(case: LinearProblem, plans: Plans, profile: str, seed: int, tolerance: float) -> Tensor:
    """R of plans, (C,), by simulation to a relative standard error of ``tolerance`` in the profile smoke."""
    settings = MonteCarloConfig(max_designs=DESIGNS * WORTH[profile])
    generator = torch.Generator().manual_seed(seed)
    return simulated_risk(case, plans, settings, generator, tolerance / WORTH[profile] ** 0.5)[0]


def exact_risk(host: Any, profile: str, seed: int, *, tasks: int, query: int, dimension: int) -> float:
    """R by simulation at an inner rate of 0, with sigma^2 = 0.7, nu^2 = 1.3 and |w_init - w0|^2 = 2."""
    case, plans = problem(dimension, 0.0, 0.7, 1.3, 2.0), linear_plan((tasks, 5, query))
    return float(simulated_loss(case, plans, profile, seed, 0.002))


def leading_error(host: Any, profile: str, seed: int) -> float:
    """The largest error of leading order over 12 plans with N > p, relative to R and in units of (p + 1) / N."""
    p, errors = 12, []
    for rate in (-0.2, 0.2, 0.4):
        for support, query, rows in ((4, 4, 72), (4, 4, 288), (12, 12, 288), (6, 30, 300)):
            case, plans = problem(p, rate), linear_plan((rows // query, support, query))
            found = simulated_loss(case, plans, profile, seed, 0.001)
            errors.append(float((risk(case, plans, leading=True).value / found - 1).abs()) * rows / (p + 1))
    return max(errors)


def test_loss(host: Any, profile: str, seed: int) -> float:
    """The loss on new tasks, simulated whole for weights that training found, over the loss by the identity."""
    generator, p, labels, rate = torch.Generator().manual_seed(seed), 12, 8, 0.3
    case, count = problem(p, 0.2, 0.7), 20_000 * WORTH[profile]
    w0 = torch.ones(p, dtype=torch.float64) / p**0.5
    start = torch.zeros(p, dtype=torch.float64)
    w = meta_solution([draw_task(case, w0, 0, 5, 5, generator) for _ in range(8)], start)
    losses = []
    for _ in range(count // 1000):
        own = w0 + torch.randn(1000, p, generator=generator, dtype=torch.float64) / p**0.5
        X = torch.randn(1000, labels, p, generator=generator, dtype=torch.float64)
        noise = torch.randn(1000, labels, generator=generator, dtype=torch.float64)
        y = (X @ own[..., None])[..., 0] + 0.7**0.5 * noise
        adapted = w - rate / labels * (X.mT @ ((X @ w) - y)[..., None])[..., 0]
        losses.append((0.7 + (adapted - own).square().sum(-1)) / 2)
    return float(torch.cat(losses).mean() / adapted_loss((w - w0).square().sum(), 1.0, 0.7, p, labels, rate))


def solution_gradient(host: Any, profile: str, seed: int) -> float:
    """The largest entry of the gradient of one-step MAML's loss, by differentiation, at the weights found in closed
    form."""
    generator, p, rate = torch.Generator().manual_seed(seed), 6, 0.3

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    data = [(normal(4, p), normal(4), normal(5, p), normal(5)) for _ in range(6)]
    found = meta_solution([outer_rows(*task, rate) for task in data], torch.zeros(p, dtype=torch.float64))
    w = found.requires_grad_()
    loss = torch.zeros((), dtype=torch.float64)
    for X, y, V, v in data:
        (slope,) = torch.autograd.grad((X @ w - y).square().mean() / 2, w, create_graph=True)
        loss = loss + (V @ (w - rate * slope) - v).square().mean() / 2
    return float(torch.autograd.grad(loss, w)[0].abs().max())


def training_rate(host: Any, profile: str, seed: int, *, labels: int, dimension: int) -> float:
    """The training rate at which label noise counts least below the threshold."""
    return best_training_rate(labels, dimension)


def least_adaptation_rate(host: Any, profile: str, seed: int) -> float:
    """The least of the best adaptation rates of 10,000 random problems."""
    draws = torch.rand(5, 10_000, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    excess, spread2, noise2 = 10 ** (4 * draws[:3] - 2)
    p, labels = (1 + (499 * part).floor() for part in draws[3:])
    problems = zip(excess, spread2, noise2, p, labels, strict=True)
    return min(float(best_rate(e, s, n, int(d), r)) for e, s, n, d, r in problems)


@cache
def risk_curve(profile: str, seed: int, p: int, rate: float, budget: int) -> tuple[tuple[int, ...], Tensor]:
    """R of all even sizes that divide a budget into two tasks or more, by simulation."""
    sizes = [n for n in range(2, budget // 2 + 1, 2) if budget % n == 0]
    plans = even_plans(sizes, [budget // n for n in sizes])
    return tuple(sizes), simulated_loss(problem(p, rate), plans, profile, seed, 0.004 if budget > 2 * p else 0.002)
