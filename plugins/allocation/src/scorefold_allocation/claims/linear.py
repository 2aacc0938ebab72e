"""Claims about the linear model: its risks, the best size of a task, and limits of large budgets and many weights.

Functions of claims take a host, a profile and a seed. Problems have spread and noise 1 and start at distance 1 unless
said otherwise; tasks are half support, half query.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from scorefold_allocation.allocator import MetaAllocator
from scorefold_allocation.claims.calibration import NoTasks, SimulatedLearner
from scorefold_allocation.config import LinearConfig, MetaConfig, MonteCarloConfig, TaskTypeConfig
from scorefold_allocation.learners.interface import AllocationCell
from scorefold_allocation.theory.engines import simulated_risk
from scorefold_allocation.theory.formula import best_training_rate, risk, task_variance
from scorefold_allocation.theory.linear_model import (
    LinearProblem,
    Number,
    Plans,
    adapted_loss,
    best_rate,
    draw_task,
    meta_solution,
    outer_rows,
    shrinkage,
)

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
    sizes, risks = risk_curve(profile, seed, dimension, rate, budget)
    return float(sizes[int(risks.argmin())])


def frozen_cost(host: Any, profile: str, seed: int, *, budget: int, size: int = 10) -> float:
    """The relative increase of R at a budget with the size that is best for large budgets."""
    sizes, risks = risk_curve(profile, seed, 20, 0.4, budget)
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
    found = simulated_loss(case, linear_plan((budget // size, size / 2, size / 2)), profile, seed, 0.005)
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
    return float(
        simulated_loss(problem(20, 0.2, 0.25, 1.0, 4.0), linear_plan((tasks, half, half)), profile, seed, 0.004)
    )


def training_loss(host: Any, profile: str, seed: int, *, budget: int, end: str) -> float:
    """The least or the greatest training loss over five sizes of a task, for p = 20 and a = 0.4."""
    cells = [AllocationCell(budget // size, size // 2, size // 2) for size in (2, 4, 6, 8, 12)]
    found = SimulatedLearner(problem(20, 0.4)).evaluate(NoTasks(), cells, seed).train
    assert found is not None
    return float(found.min() if end == "least" else found.max())


CASES = {
    "over": (80, 0.2, (0.1, 4.0), 3, 20),
    "under": (10, 0.2, (0.1, 4.0), 30, 20),
    "flipped": (50, 0.4, (0.1, 4.0), 3000, 20),
    "closed": (30, 0.0, (0.2, 1.0), 3000, 120),
}
"""Weights, inner rate, noise variances of easy and hard tasks, tasks of each, and labels of an easy and a hard one."""


def least_mix(host: Any, profile: str, seed: int, *, weighting: str) -> float:
    """b R of the best of 3,000 random mixes of up to four sizes, over the best single size's; leading order."""
    p, rate, noise2 = 20, 0.4, 0.7
    half = torch.arange(1.0, 61.0, dtype=torch.float64)
    phi = torch.stack(task_variance(half, half, p, rate, 1.0, noise2)).sum(0)
    least = float((2 * half * phi / shrinkage(half, p, rate) ** 2).min())
    generator = torch.Generator().manual_seed(seed)
    place = torch.randint(60, (3000, 4), generator=generator)
    tasks = torch.randint(1, 40, (3000, 4), generator=generator).double()
    plans = Plans(torch.zeros(4, dtype=torch.long), tasks, half[place], half[place])
    budget = (tasks * 2 * half[place]).sum(-1)
    found = risk(problem(p, rate, noise2, weighting=weighting), plans, leading=True).value
    return float((budget * found).min()) / least


def split_risk(host: Any, profile: str, seed: int, *, smaller: int, weighting: str) -> float:
    """R of 40 equal tasks, half of them with ``smaller`` labels and half with 16 less that; p = 8, a = 0.4."""
    plans = linear_plan((20, smaller / 2, smaller / 2), (20, 8 - smaller / 2, 8 - smaller / 2))
    return float(simulated_loss(problem(8, 0.4, weighting=weighting), plans, profile, seed, 0.004))


def easy_risk(host: Any, profile: str, seed: int, *, case: str, easy: int, weighting: str = "pooled") -> float:
    """R where easy tasks have ``easy`` labels."""
    linear, tasks, both = _case(case, weighting)
    return float(simulated_loss(linear, _easy_hard(tasks, easy, both), profile, seed, 0.004))


def best_easy(host: Any, profile: str, seed: int, *, case: str, weighting: str) -> float:
    """The labels of an easy task where R is least: at leading order, or by simulation for few tasks."""
    linear, tasks, both = _case(case, weighting)
    sizes = range(2, both - 1, 2)
    if tasks > 100:
        found = [float(risk(linear, _easy_hard(tasks, size, both), leading=True).value) for size in sizes]
    else:
        found = [easy_risk(host, profile, seed, case=case, easy=size, weighting=weighting) for size in sizes]
    return float(sizes[min(range(len(found)), key=found.__getitem__)])


def overhead_size(host: Any, profile: str, seed: int, *, task_cost: float) -> float:
    """The best labels per task by the allocator, where a task costs so much besides its labels; p = 20, a = 0."""
    kind = TaskTypeConfig(task_cost=task_cost)
    config = MetaConfig(task_types=(kind,), linear=LinearConfig(rate=0.0), leftovers="keep")
    return float(MetaAllocator(config).allocate(10_000_000).diagnostics["n"])


def _case(name: str, weighting: str) -> tuple[LinearProblem, int, int]:
    p, rate, noise2, tasks, both = CASES[name]
    return problem(p, rate, noise2, weighting=weighting), tasks, both


def _easy_hard(tasks: int, easy: float, both: int) -> Plans:
    sizes = (easy / 2, (both - easy) / 2)
    return linear_plan(*((tasks, half, half) for half in sizes), kinds=(0, 1))
