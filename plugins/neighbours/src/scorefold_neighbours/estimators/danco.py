"""DANCo: norms and angles of neighbours, compared with balls of each dimension (Ceruti et al. 2014)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from importlib.resources import files

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scorefold_neighbours.config import DANCoConfig
from scorefold_neighbours.estimators.formulas import most_likely_growth
from scorefold_toolkit.nearest import Cloud

Array = npt.NDArray[np.float64]

TABLE = "balls.csv"
"""Mean statistics of balls with ten neighbours: a line for each dimension and number of points, from
``benchmarks/_balls.py``."""


def danco(config: DANCoConfig, cloud: Cloud, seed: int) -> float:
    """The dimension whose balls have norms and angles most like the norms and angles of the points.

    Between whole dimensions it is the minimum of a spline of the divergence (see ``divergences``), sought from the best
    one on.
    """
    columns = max(2, cloud.points.shape[1])
    largest = min(columns, config.max_dimension or 100)
    found = statistics(cloud, config.n_neighbors, largest)
    if not np.isfinite(found[:2]).all():
        return math.nan
    if config.version == "DANCoFit":
        known = of_balls(len(cloud), largest)
    else:
        known = simulated_statistics(len(cloud), config.n_neighbors, largest, seed)
    return _least(divergences(found, known, config.n_neighbors))


def statistics(cloud: Cloud, k: int, largest: int) -> Array:
    """The most likely growth of norms up to ``largest``, and the mean direction and concentration of angles: (3,).

    In each neighbourhood the angles between neighbours, as seen from the point, have a von Mises distribution.
    """
    distances, _ = cloud.neighbours(k + 1)
    growth = most_likely_growth((distances[:, 0] / distances[:, -1]).log(), k, largest)
    first, second = torch.triu_indices(k, k, offset=1)
    directions, strengths = [], []
    for rows, patches in cloud.patches(k):
        vectors = patches - cloud.points[rows, None]
        units = vectors / vectors.norm(dim=2, keepdim=True)
        cosines = (units @ units.mT)[:, first, second].clamp(-1, 1)
        sine, cosine = (1 - cosines.square()).sqrt().mean(1), cosines.mean(1)
        directions.append((sine / cosine).atan())
        strengths.append(_concentration((sine.square() + cosine.square()).sqrt()))
    return np.array([growth, float(torch.cat(directions).mean()), float(torch.cat(strengths).mean())])


def _concentration(length: Tensor) -> Tensor:
    """The concentration of von Mises angles whose mean vector has a length (Best and Fisher 1981)."""
    low = 2 * length + length**3 + 5 * length**5 / 6
    middle = -0.4 + 1.39 * length + 0.43 / (1 - length)
    high = 1 / (length**3 - 4 * length**2 + 3 * length)
    return torch.where(length < 0.53, low, torch.where(length < 0.85, middle, high))


def divergences(found: Array, known: Array, k: int) -> Array:
    """Divergences of statistics (3,) from the statistics of balls (d, 3): the divergence of norms and of angles,
    (d,).

    Both are Kullback-Leibler divergences, in closed form (Ceruti et al. 2014, equations 9 and 12).
    """
    from scipy.special import comb, digamma, i0e, i1e

    ratio = known[:, 0] / found[0]
    places = np.arange(k + 1)
    signs = (-1.0) ** places * comb(k, places)
    inner = (signs * digamma(1 + places / ratio[:, None])).sum(1)
    norms = (1 / np.arange(1, k + 1)).sum() * ratio - np.log(ratio) - (k - 1) * inner
    (nu, tau), (nus, taus) = found[1:], known[:, 1:].T
    # Concentrations beyond this are one direction; their Bessel functions would be too large for a number.
    tau = min(tau, 1e12)
    logs = (np.log(i0e(taus)) + taus) - (np.log(i0e(tau)) + tau)
    angles = logs + i1e(tau) / i0e(tau) * (tau - taus * np.cos(nu - nus))
    result: Array = norms + angles
    return result


def _least(divergence: Array) -> float:
    """Minimum of a spline through divergences (d,) at 1, 2, ..., d, searched from the smallest of them."""
    from scipy.interpolate import interp1d
    from scipy.optimize import minimize

    count = len(divergence)
    best = int(divergence.argmin()) + 1
    if count == 1:
        return 1.0
    kind = {2: "linear", 3: "quadratic"}.get(count, "cubic")
    ends = (1, count + 1)
    spline = interp1d(np.arange(1, count + 1), divergence, kind=kind, bounds_error=False, fill_value=ends)
    return float(minimize(spline, best, bounds=[ends], tol=1e-3)["x"][0])


def of_balls(count: int, largest: int) -> Array:
    """The statistics (d, 3) of balls of 1 to ``largest`` dimensions with ``count`` points.

    They are interpolated between the entries of the table, in the logarithms of both numbers, by cubics that keep the
    order of neighbouring values.
    """
    from scipy.interpolate import PchipInterpolator

    dimensions, counts, table = _table()
    at_count = PchipInterpolator(np.log(counts), table, axis=1)(math.log(count))
    found: Array = PchipInterpolator(np.log(dimensions), at_count, axis=0)(np.log(np.arange(1, largest + 1)))
    return found


@cache
def _table() -> tuple[Array, Array, Array]:
    """The dimensions (a,) and numbers of points (b,) of the table, and its statistics (a, b, 3)."""
    text = (files(__package__) / TABLE).read_text(encoding="utf-8").splitlines()[1:]
    lines = np.array([[float(word) for word in line.split(",")] for line in text])
    dimensions, counts = np.unique(lines[:, 0]), np.unique(lines[:, 1])
    return dimensions, counts, lines[:, 2:].reshape(len(dimensions), len(counts), 3)


def simulated_statistics(count: int, k: int, largest: int, seed: int) -> Array:
    """The statistics (d, 3) of one ball of each dimension from 1 to ``largest``, with so many points."""
    return np.array([of_ball(ball, k) for ball in points_in_balls(count, largest, seed)])


def points_in_balls(count: int, largest: int, seed: int) -> Iterator[Tensor]:
    """Points (n, d), uniform in a ball, for each dimension d from 1 to ``largest``."""
    draws = torch.Generator().manual_seed(seed)
    for dimension in range(1, largest + 1):
        yield ball(count, dimension, draws)


def ball(count: int, dimension: int, draws: torch.Generator) -> Tensor:
    """Points (n, d), uniform in the ball of radius 1."""
    x = torch.randn(count, dimension, generator=draws, dtype=torch.float64)
    radii = torch.rand(count, 1, generator=draws, dtype=torch.float64) ** (1 / dimension)
    found: Tensor = x / x.norm(dim=1, keepdim=True) * radii
    return found


def of_ball(points: Tensor, k: int) -> Array:
    """The statistics (3,) of points (n, d) in a ball. On a line the angles are 0 and pi, and count as in the paper's
    code: direction 0, concentration 1."""
    dimension = points.shape[1]
    found = statistics(Cloud(points), k, 2 * dimension + 5)
    if dimension == 1:
        found[1:] = 0, 1
    return found
