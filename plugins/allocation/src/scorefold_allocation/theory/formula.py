"""R = E |w_hat - w0|^2 of one-step MAML on mixed linear regression, by closed form.

With N query labels in all and p weights there are two regimes, N < p (over-parameterised) and N > p (under-), with a
peak where N = p that no closed form here describes. At a = 0 the expressions are exact. All take mixtures of types and
sizes of tasks that share w0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefold.errors import ConfigError
from scorefold_allocation.theory.linear_model import LinearProblem, Number, Plans, shrinkage, shrunk_traces

VALID_ERROR = 0.25
"""A closed form is taken as valid where the error stated for it is at most this."""

OVER, UNDER = 0.75, 1.5
"""N / p up to which, and from which on, plans are far enough from the peak at N = p for a closed form."""

EXPRESSIONS = ("exact", "coupled", "patched")
"""What ``risk`` uses: at a = 0, for N < p, and for N > p; ``expression`` of a ``Risk`` counts in this order."""


@dataclass(frozen=True)
class Risk:
    """R of C plans with what is known of its error, each (C,).

    ``error`` is about the largest relative error that was seen in simulations of such plans, infinite where there is no
    closed form; ``valid`` where that is at most ``VALID_ERROR``; ``expression`` the position in ``EXPRESSIONS``.
    """

    value: Tensor
    error: Tensor
    valid: Tensor
    expression: Tensor


def noise_factor(n: Number, p: Number, rate: Number) -> Tensor:
    """f = (1 + a^2 p / n) / h(a, n): what the label noise of a row of ``n`` support labels counts for where N < p.

    It grows with n exactly where (1 - a)^2 < 1 + 1/p.
    """
    a = torch.as_tensor(rate, dtype=torch.float64)
    return (1 + a**2 * p / n) / shrinkage(n, p, a)


def best_training_rate(n: int, p: int) -> float:
    """The training rate a < 0 at which ``noise_factor`` is least (Bernacchia 2021: it is never above 0)."""
    slope = 1 + 1 / n
    return -n / (2 * p) * (slope + math.sqrt(slope**2 + 4 * p / n))


def task_variance(
    support: Number, query: Number, dimension: int, rate: Number, spread2: Number, noise2: Number
) -> tuple[Tensor, Tensor]:
    """The parts of phi that come of label noise and of the spread of tasks: R is phi / (m h^2) for m tasks, N >> p.

    phi = (p/n_v) {sigma^2 [h + (a^2/n_t) ((n_v+1) g1 + p g2)] + (nu^2/p) [(n_v+1) g3 + p g4]}, with the traces of
    ``shrunk_traces``.
    """
    a, p = torch.as_tensor(rate, dtype=torch.float64), dimension
    query = torch.as_tensor(query, dtype=torch.float64)
    g = shrunk_traces(support, p, a)
    noise = noise2 * p / query * (g.h + a**2 / support * ((query + 1) * g.g1 + p * g.g2))
    spread = spread2 / query * ((query + 1) * g.g3 + p * g.g4)
    return noise, spread


def expected_excess(problem: LinearProblem, plans: Plans, leading: bool = False) -> Tensor:
    """R of plans, (C,). ``leading`` keeps to leading order in N/p or in p/N, for any rate.

    Otherwise: N < p takes the exact form of a = 0 with the noise of a row multiplied by ``noise_factor``; N > p
    multiplies the leading order by what the exact form of a = 0 differs from its own leading order by. Infinite for
    |N - p| <= 1, where the expectation is. Raises ``ConfigError`` for an unknown weighting.
    """
    p, N = problem.dimension, plans.rows
    value = torch.where(p > N, _over(problem, plans, leading), _under(problem, plans, leading))
    return value if leading else value.where((N - p).abs() > 1, torch.inf)


def risk(problem: LinearProblem, plans: Plans, leading: bool = False) -> Risk:
    """``expected_excess`` with what is known of its error. Raises as that does."""
    p, N = problem.dimension, plans.rows
    exact = (p > N) | _is_alike(problem, plans) if problem.rate == 0 else torch.zeros_like(N, dtype=torch.bool)
    error = _stated_error(problem, plans, exact) if not leading else _leading_error(problem, plans)
    expression = torch.where(exact, 0, torch.where(p > N, 1, 2))
    return Risk(expected_excess(problem, plans, leading), error, error <= VALID_ERROR, expression)


def regime(problem: LinearProblem, plans: Plans) -> str:
    """``over`` or ``under``-parameterised, or near the ``threshold``, of a plan (C = 1)."""
    ratio = float(plans.rows) / problem.dimension
    return "over" if ratio <= OVER else "under" if ratio >= UNDER else "threshold"


def validity(problem: LinearProblem, known: Risk) -> str:
    """Expression of a ``Risk`` (C = 1), and its validity."""
    name, error = EXPRESSIONS[int(known.expression)], float(known.error)
    text = {
        "exact": "exact for an inner rate of 0",
        "coupled": "exact for an inner rate of 0, with the noise of its rows for other rates",
        "patched": "leading order in weights over query labels, corrected as it is exactly for an inner rate of 0",
    }[name]
    if error == float("inf"):
        return f"{text}; not valid here, with about as many query labels as weights or a single task"
    trust = "valid" if bool(known.valid) else "uncertain"
    return f"{text}; {trust}, simulations were within {error:.0%} of it" if error > 0 else text


def outer_weights(problem: LinearProblem, plans: Plans) -> Tensor:
    """Weights of the query points of each group in the outer loss, (C, G), up to a factor.

    Raises ``ConfigError`` for an unknown weighting.
    """
    if problem.weighting == "pooled":
        return torch.ones_like(plans.query)
    if problem.weighting == "task-mean":
        return 1 / plans.query
    if problem.weighting == "best":
        noise, spread = _variances(problem, plans)
        phi = noise + spread
        # Tasks without noise and spread give w0 exactly: their weight is large next to any other's, and not infinite.
        phi = phi.clamp_min(1e-9 * float(phi.max()) or 1.0)
        return shrinkage(plans.support, problem.dimension, problem.rate) / (plans.query * phi)
    raise ConfigError(
        f"the weighting is {problem.weighting!r}; expected pooled, task-mean or best", hint="weighting: pooled"
    )


def _variances(problem: LinearProblem, plans: Plans) -> tuple[Tensor, Tensor]:
    spread2, noise2 = problem.spread2[plans.kinds], problem.noise2[plans.kinds]
    return task_variance(plans.support, plans.query, problem.dimension, problem.rate, spread2, noise2)


def _over(problem: LinearProblem, plans: Plans, leading: bool) -> Tensor:
    """R for N < p: the start's error in the directions that no row sees, and what the rows catch."""
    p, N = problem.dimension, plans.rows[:, None]
    rows, rest = plans.tasks * plans.query, (p - N - 1).clamp_min(1e-9)
    noise = problem.noise2[plans.kinds] * rows * noise_factor(plans.support, p, problem.rate)
    spread = problem.spread2[plans.kinds] * rows / p
    caught = (noise + p * spread) / p if leading else noise / rest + spread * (1 + (N - plans.query) / rest)
    return (1 - N[:, 0] / p) * problem.start2 + caught.sum(-1)


def _under(problem: LinearProblem, plans: Plans, leading: bool) -> Tensor:
    """R for N > p: the variance of a weighted mean over tasks."""
    p, N = problem.dimension, plans.rows[:, None]
    points = outer_weights(problem, plans) * plans.query
    total = (plans.tasks * points * shrinkage(plans.support, p, problem.rate)).sum(-1)
    noise, spread = ((plans.tasks * points**2 * part).sum(-1) / total**2 for part in _variances(problem, plans))
    if leading:
        return noise + spread
    rest = (N - p - 1).clamp_min(1e-9)
    shared = plans.query * (N - plans.query) / (N * (N - 1).clamp_min(1) * (N + 2))
    own = plans.query * (plans.query + 2) / (N * (N + 2)) - shared
    spread2 = plans.tasks * problem.spread2[plans.kinds]
    exact = (spread2 * (own + shared * (N * p - 2) / rest)).sum(-1)
    first = (spread2 * plans.query * (plans.query + 1 + p) / N**2).sum(-1)
    return noise * (N / rest)[:, 0] + spread * torch.where(first > 0, exact / first, 1.0)


def _is_alike(problem: LinearProblem, plans: Plans) -> Tensor:
    """Mask of plans whose rows have equal weights in the outer loss, (C,)."""
    weights = torch.where(plans.tasks > 0, outer_weights(problem, plans), torch.nan)
    high = weights.nan_to_num(-torch.inf).amax(-1)
    low = weights.nan_to_num(torch.inf).amin(-1)
    return high - low <= 1e-12 * high


def fluctuation(problem: LinearProblem, plans: Plans) -> Tensor:
    """Fluctuation of the sum of B_i'B_i, (C,): its relative variance, the small parameter of N > p.

    (p + 1) / N at a rate of 0, and more at others the fewer support labels there are; in proportion to 1 / m.
    """
    p = problem.dimension
    g = shrunk_traces(plans.support, p, problem.rate)
    own = ((plans.query + 1) * g.g3 + p * g.g4) / (plans.query * g.h**2) - 1
    mean = outer_weights(problem, plans) * plans.query * g.h
    return (plans.tasks * mean**2 * own).sum(-1) / (plans.tasks * mean).sum(-1) ** 2


def _stated_error(problem: LinearProblem, plans: Plans, exact: Tensor) -> Tensor:
    """Bound of the error in simulations of homogeneous plans, with p from 6 to 40 and a from -0.4 to 0.8. For N > p it
    grows with the distance of the fluctuation from its value at a rate of 0, where the correction is right."""
    p, N = problem.dimension, plans.rows
    apart = (fluctuation(problem, plans) - (p + 1) / N.clamp_min(1)).abs()
    under = (0.02 + 5 * apart).where(N / p >= UNDER, torch.inf)
    over = torch.full_like(N, 0.15).where(N / p <= OVER, torch.inf)
    # The expectation over one task is infinite where the spectrum of S may hold 1/a.
    stated = torch.where(p > N, over, under).where(plans.tasks.sum(-1) >= 2, torch.inf)
    return stated.where(~exact, torch.zeros_like(N).where((N - p).abs() > 1, torch.inf))


def _leading_error(problem: LinearProblem, plans: Plans) -> Tensor:
    """Leading order misses by up to twice the fluctuation for N > p, and the more below the more rows there are."""
    p, N = problem.dimension, plans.rows
    error = torch.where(p > N, 0.3 * N / (p - N).clamp_min(1e-9), 2 * fluctuation(problem, plans))
    return torch.where(plans.tasks.sum(-1) >= 2, error, torch.inf)
