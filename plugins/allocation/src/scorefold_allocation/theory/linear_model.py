"""One-step MAML on mixed linear regression (Bernacchia 2021): the model, its solution, and its loss on new tasks.

Task i has weights w_i = w0 + (nu / sqrt p) xi_i and labels y = x . w_i + sigma z with standard normal x, xi and z. One
step of rate a on n_t support labels takes w to A_i w + (a / n_t) X_i' y_i, with A_i = I - a X_i' X_i / n_t. The outer
loss, half the mean squared error on n_v query labels, is linear least squares in w: rows B_i = V_i A_i, targets
g_i = v_i - (a / n_t) V_i X_i' y_i. Gradient flow from w_init ends at the solution that is nearest to it.

Expected traces of S = X'X / n, for X (n, p) of independent standard normals, and of A = I - a S.

All follow from the moments of the Wishart distribution. Arguments are tensors or numbers and broadcast; everything is
float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from scorefold.errors import ConfigError


@dataclass(frozen=True)
class LinearProblem:
    """p weights, the inner rate a, u2 = |w_init - w0|^2, and nu^2 and sigma^2 of each type of task, (K,) in float64.

    ``weighting`` is how query points weigh in the outer loss: ``pooled`` all alike, ``task-mean`` by 1 / n_v, ``best``
    by h / (n_v phi), which no other weights beat at leading order.
    """

    dimension: int
    rate: float
    start2: float
    spread2: Tensor
    noise2: Tensor
    weighting: str = "pooled"


class Plans(NamedTuple):
    """C plans of G groups of equal tasks: the type of each group (G,), and its tasks, support and query labels (C, G).

    Counts are whole numbers held in float64; a group of no tasks has sizes above 0 all the same.
    """

    kinds: Tensor
    tasks: Tensor
    support: Tensor
    query: Tensor

    @property
    def rows(self) -> Tensor:
        """N, the query labels of a plan: the rows of its least squares, (C,)."""
        return (self.tasks * self.query).sum(-1)

    def take(self, index: Tensor) -> Plans:
        """The plans at these positions."""
        return Plans(self.kinds, self.tasks[index], self.support[index], self.query[index])


class LinearTask(NamedTuple):
    """The rows (n_v, p) and targets (n_v,) of one task."""

    rows: Tensor
    targets: Tensor


def draw_task(
    problem: LinearProblem, w0: Tensor, kind: int, support: int, query: int, generator: torch.Generator
) -> LinearTask:
    """A task of a type around w0 (p,), as its part in the outer least squares."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    p, sigma = problem.dimension, problem.noise2[kind].sqrt()
    w = w0 + (problem.spread2[kind] / p).sqrt() * normal(p)
    X, V = normal(support, p), normal(query, p)
    return outer_rows(X, X @ w + sigma * normal(support), V, V @ w + sigma * normal(query), problem.rate)


def outer_rows(X: Tensor, y: Tensor, V: Tensor, v: Tensor, rate: float) -> LinearTask:
    """Rows and targets of a task with support X (n_t, p), y (n_t,) and query V (n_v, p), v (n_v,)."""
    step = rate / len(X)
    return LinearTask(V - step * (V @ X.mT) @ X, v - step * (V @ X.mT) @ y)


def meta_solution(tasks: list[LinearTask], start: Tensor) -> Tensor:
    """The minimiser (p,) of the outer loss that is nearest to ``start``, where gradient flow from there ends."""
    B, g = torch.cat([task.rows for task in tasks]), torch.cat([task.targets for task in tasks])
    found: Tensor = start + torch.linalg.lstsq(B, (g - B @ start)[:, None], driver="gelsd").solution[:, 0]
    return found


def adapted_loss(
    excess: Number, spread2: Number, noise2: Number, dimension: int, labels: Number, rate: Number, steps: int = 1
) -> Tensor:
    """Half the expected squared error on a new task after ``steps`` gradient steps on ``labels`` of its labels.

    ``excess`` is R = |w - w0|^2, or its expectation; everything broadcasts. For one step

        L = sigma^2 / 2 (1 + a^2 p / n) + h(a, n) / 2 (nu^2 + R),

    which is exact for any w. Raises ``ConfigError`` for other numbers of steps than 1 and 2.
    """
    a = torch.as_tensor(rate, dtype=torch.float64)
    if steps == 1:
        kept, caught = shrinkage(labels, dimension, a), a**2
    elif steps == 2:
        # The error of w is multiplied by A^2, and the noise X'z a/n by I + A = 2 I - a S.
        s = wishart_traces(labels, dimension)
        kept = shrunk_traces(labels, dimension, a).g3
        caught = a**2 * (4 * s.s1 - 4 * a * s.s2 + a**2 * s.s3)
    else:
        raise ConfigError(
            f"{steps} adaptation steps were asked for; the linear model's loss is known for 1 and 2",
            hint="engine: pilot takes a learner of any number of steps",
        )
    return noise2 / 2 * (1 + caught * dimension / labels) + kept / 2 * (spread2 + excess)


def best_rate(excess: Number, spread2: Number, noise2: Number, dimension: int, labels: Number) -> Tensor:
    """The rate of one adaptation step that makes ``adapted_loss`` least, D / (D (1 + (p+1)/n) + sigma^2 p/n).

    D = nu^2 + R; the rate is above 0 unless D is 0.
    """
    distance = torch.as_tensor(spread2 + excess, dtype=torch.float64)
    total = distance * (1 + (dimension + 1) / labels) + noise2 * dimension / labels
    return torch.where(total > 0, distance / total, 0.0)


Number = Tensor | float


class Traces(NamedTuple):
    """Expected normalised traces of powers of S and of products of traces, for n rows and p columns."""

    s1: Tensor  # E tr S / p
    s2: Tensor  # E tr S^2 / p
    s3: Tensor  # E tr S^3 / p
    s4: Tensor  # E tr S^4 / p
    s11: Tensor  # E (tr S)^2 / p^2
    s12: Tensor  # E tr S tr S^2 / p^2
    s22: Tensor  # E (tr S^2)^2 / p^2


class Shrunk(NamedTuple):
    """Expected normalised traces with A = I - a S."""

    h: Tensor  # E tr A^2 / p
    g1: Tensor  # E tr S A^2 / p
    g2: Tensor  # E tr S tr A^2 / p^2
    g3: Tensor  # E tr A^4 / p
    g4: Tensor  # E (tr A^2)^2 / p^2


def wishart_traces(n: Number, p: Number) -> Traces:
    """The traces for n >= 1 rows and p >= 1 columns."""
    n, p = (torch.as_tensor(value, dtype=torch.float64) for value in (n, p))
    one = torch.ones_like(n * p)
    s3 = (n**2 + p**2 + 3 * n * p + 3 * n + 3 * p + 4) / n**2
    s4 = n**3 + p**3 + 6 * n**2 * p + 6 * n * p**2 + 6 * n**2 + 6 * p**2 + 17 * n * p + 21 * n + 21 * p + 20
    s2 = (n + p + 1) / n
    # E (tr W^2)^2 of W = n S, divided by p^2 n^4 term by term: products of whole numbers would outgrow float64's.
    s22 = (1 + 2 * p / n + (p / n) ** 2 + 2 / n + 2 * p / n**2 + 8 / (n * p) + 21 / n**2 + 8 * p / n**3) + (
        20 / (n**2 * p) + 20 / n**3 + 20 / (n**3 * p)
    )
    return Traces(one, s2 * one, s3, s4 / n**3, 1 + 2 / (n * p), s2 * (n * p + 4) / (n * p), s22)


def shrunk_traces(n: Number, p: Number, rate: Number) -> Shrunk:
    """The traces with A = I - rate S, which one step of that rate on n labels multiplies the error of weights by."""
    a = torch.as_tensor(rate, dtype=torch.float64)
    s = wishart_traces(n, p)
    return Shrunk(
        h=shrinkage(n, p, a),
        g1=s.s1 - 2 * a * s.s2 + a**2 * s.s3,
        g2=s.s1 - 2 * a * s.s11 + a**2 * s.s12,
        g3=1 - 4 * a * s.s1 + 6 * a**2 * s.s2 - 4 * a**3 * s.s3 + a**4 * s.s4,
        g4=1 - 4 * a * s.s1 + 2 * a**2 * s.s2 + 4 * a**2 * s.s11 - 4 * a**3 * s.s12 + a**4 * s.s22,
    )


def shrinkage(n: Number, p: Number, rate: Number) -> Tensor:
    """h = E tr A^2 / p = (1 - a)^2 + a^2 (p + 1) / n; E A^2 = h I exactly."""
    n, p, a = (torch.as_tensor(value, dtype=torch.float64) for value in (n, p, rate))
    return (1 - a) ** 2 + a**2 * (p + 1) / n
