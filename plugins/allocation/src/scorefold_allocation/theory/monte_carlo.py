"""R = E |w_hat - w0|^2 by simulation of designs alone: tasks and label noise are averaged in closed form.

With B the stacked rows, P = pinv(B), P_i its columns for task i, r the rank of B and V_i the query inputs of task i,

    R | X = (1 - r/p) u2 + sum_i { (nu_i^2 / p) |P_i B_i|^2 + sigma_i^2 (|P_i|^2 + |(a / n_t) P_i V_i X_i'|^2) },

in Frobenius norms, so that only the designs are left to average over (Rao and Blackwell).
"""

from __future__ import annotations

import torch
from torch import Tensor

from scorefold_allocation.config import MonteCarloConfig
from scorefold_allocation.theory.formula import fluctuation, outer_weights, risk
from scorefold_allocation.theory.linear_model import LinearProblem, Plans

_AT_ONCE = 1_000_000  # numbers in a batch of matrices
_CALM = 0.01  # the fluctuation of a part of a plan, from which R goes on like one over the number of tasks
_FIRST = 4000  # tasks drawn in a first round


def simulated_risk(
    problem: LinearProblem, plans: Plans, config: MonteCarloConfig, generator: torch.Generator, tolerance: float
) -> tuple[Tensor, Tensor]:
    """R of C plans and its standard error, each (C,): designs are added until the error is ``tolerance`` of R, or up
    to the most that ``config`` allows.

    Infinite for |N - p| <= 1, where the expectation is. All plans see the same stream of random numbers.
    """
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    found = [
        _one(problem, plans.take(torch.tensor([i])), config, torch.Generator().manual_seed(seed), tolerance)
        for i in range(len(plans.tasks))
    ]
    mean, error = torch.tensor(found, dtype=torch.float64).reshape(-1, 2).unbind(1)
    return mean, error


def design_risks(problem: LinearProblem, plan: Plans, designs: int, generator: torch.Generator) -> Tensor:
    """R | X of one plan (C = 1) for so many designs, (designs,)."""
    rows, p = int(plan.rows), problem.dimension
    biased = max(0.0, 1 - rows / p) * problem.start2
    simulate = _few_rows if rows < p else _many_rows
    at_once = max(1, _AT_ONCE // (min(rows, 4 * p) * p))
    parts = [simulate(problem, plan, min(at_once, designs - start), generator) for start in range(0, designs, at_once)]
    return biased + torch.cat(parts)


def gaussian_factor(shape: tuple[int, ...], n: int, p: int, generator: torch.Generator) -> Tensor:
    """F (*shape, min(n, p), p) with F'F as of n rows of p independent standard normals, in float64.

    The rows themselves for n <= p, and Bartlett's factor of their Wishart matrix for n > p.
    """
    F = torch.randn((*shape, min(n, p), p), generator=generator, dtype=torch.float64)
    if n <= p:
        return F
    halves = (n - torch.arange(p, dtype=torch.float64)) / 2
    chi2 = 2 * torch._standard_gamma(halves.expand(*shape, p), generator=generator)
    F = F.triu(1)
    F.diagonal(dim1=-2, dim2=-1).copy_(chi2.sqrt())
    return F


def _one(
    problem: LinearProblem, plan: Plans, config: MonteCarloConfig, generator: torch.Generator, tolerance: float
) -> tuple[float, float]:
    if abs(float(plan.rows) - problem.dimension) <= 1:
        return torch.inf, torch.inf
    part, scale = _part_of(problem, plan)
    tasks = float(part.tasks.sum())
    designs = min(config.max_designs, max(8, round(_FIRST / tasks)))
    values = design_risks(problem, part, designs, generator)
    while True:
        mean, error = float(values.mean()), float(values.std() / len(values) ** 0.5)
        if error <= tolerance * mean or len(values) >= config.max_designs:
            return scale * mean, scale * error
        wanted = len(values) * min(8.0, (error / (tolerance * mean)) ** 2) * 1.1
        more = min(config.max_designs, int(wanted) + 1) - len(values)
        values = torch.cat((values, design_risks(problem, part, more, generator)))


def _part_of(problem: LinearProblem, plan: Plans) -> tuple[Plans, float]:
    """A plan of fewer tasks in the same proportions, and the factor from its R to the R of the whole plan.

    Where the fluctuation is small, R is inversely proportional to the number of tasks but for a part of about the
    fluctuation, most of which the closed form has.
    """
    share = float(fluctuation(problem, plan)) / _CALM
    if share >= 0.5 or float(plan.rows) < problem.dimension:
        return plan, 1.0
    tasks = (plan.tasks * share).ceil()
    part = plan._replace(tasks=tasks)
    return part, float(risk(problem, plan).value / risk(problem, part).value)


def _many_rows(problem: LinearProblem, plan: Plans, designs: int, generator: torch.Generator) -> Tensor:
    """The part of R that rows bring, for N >= p, where P = M^-1 B' with M = B'B: sums over tasks are enough,
    tr M^-2 sum_i omega_i^2 B_i' D_i B_i, with D_i of ``_draw`` and M = sum omega_i B_i'B_i."""
    p = problem.dimension
    weights = outer_weights(problem, plan)[0]
    total = torch.zeros(designs, p, p, dtype=torch.float64)
    caught = total.clone()
    for group, weight in enumerate(weights.tolist()):
        tasks, most = int(plan.tasks[0, group]), max(1, _AT_ONCE // (designs * p * p))
        for start in range(0, tasks, most):
            B, D = _draw(problem, plan, group, (designs, min(most, tasks - start)), generator)
            tall = B.flatten(1, 2)
            total += weight * tall.mT @ tall
            caught += weight**2 * tall.mT @ (D @ B).flatten(1, 2)
    inverse = torch.linalg.inv(total)
    value: Tensor = ((inverse @ inverse) * caught).sum((-2, -1))
    return value


def _few_rows(problem: LinearProblem, plan: Plans, designs: int, generator: torch.Generator) -> Tensor:
    """The part of R that rows bring, for N < p, where P'P = K^-1 with K = BB': the sum of tr (K^-1)_ii D_i. Weights of
    the outer loss change nothing."""
    groups = [group for group, tasks in enumerate(plan.tasks[0].tolist()) if tasks > 0]
    drawn = [_draw(problem, plan, group, (designs, int(plan.tasks[0, group])), generator) for group in groups]
    stacked = torch.cat([B.flatten(1, 2) for B, _ in drawn], 1)
    inverse = torch.linalg.inv(stacked @ stacked.mT)
    value, start = torch.zeros(designs, dtype=torch.float64), 0
    for _, D in drawn:
        tasks, query = D.shape[1:3]
        end = start + tasks * query
        block = inverse[:, start:end, start:end].reshape(designs, tasks, query, tasks, query)
        value += (block.diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2) * D).sum((1, 2, 3))
        start = end
    return value


def _draw(
    problem: LinearProblem, plan: Plans, group: int, shape: tuple[int, int], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Rows B (*shape, r, p) of tasks of a group, and D (*shape, r, r), the covariance of what their targets are off by:
    (nu^2 / p) BB' + sigma^2 (I + (a / n_t)^2 VX'XV'). More query points than weights are drawn as p rows with the same
    V'V, on which alone R depends where N > p."""
    p, kind = problem.dimension, int(plan.kinds[group])
    n_t, n_v = int(plan.support[0, group]), int(plan.query[0, group])
    V = gaussian_factor(shape, n_v, p, generator)
    noise = torch.eye(V.shape[-2], dtype=torch.float64)
    B = V
    if problem.rate != 0:
        X = gaussian_factor(shape, n_t, p, generator)
        G = problem.rate / n_t * V @ X.mT
        B = V - G @ X
        noise = noise + G @ G.mT
    return B, problem.spread2[kind] / p * B @ B.mT + problem.noise2[kind] * noise
