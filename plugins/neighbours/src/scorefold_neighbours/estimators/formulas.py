"""Intrinsic dimension from the distances to the nearest neighbours alone."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from scorefold_neighbours.config import GeoMLEConfig, GRIDEConfig, LogLogConfig, MiNDMLConfig, MLEConfig, TwoNNConfig
from scorefold_toolkit.nearest import Cloud


def mle(config: MLEConfig, distances: Tensor) -> Tensor:
    """The dimension at each point (N,) of the distances (N, k) to its neighbours, in ascending order.

    (k - 1) / sum log(r_k / r_j) (Levina and Bickel 2004, equation 8); ``unbiased`` has k - 2.

    >>> import numpy as np
    >>> mle(MLEConfig(), torch.tensor([[1.0, np.e, np.e**2]])).round(decimals=3)
    tensor([0.6670])
    """
    count = distances.shape[1]
    logs = (distances[:, -1:] / distances).log().sum(1)
    return (count - (2 if config.unbiased else 1)) / logs


def two_nn(config: TwoNNConfig, distances: Tensor) -> float:
    """The dimension of the distances (N, 2) to the first and second neighbour (Facco et al. 2017).

    log(r_2 / r_1) is exponential at the rate of the dimension; its largest ``discard`` are left out. ``linear`` is the
    slope through the origin of -log(1 - F) against it, ``mle`` the unbiased estimate of the rate under censoring.
    Points at distance 0 of another, as rounding makes them, have no ratio and are left out; where all ratios are 1, as
    on a grid, the slope is 0.
    """
    ratios = (distances[:, 1] / distances[:, 0]).log()
    ratios = ratios[ratios.isfinite()].sort().values
    kept = int(len(ratios) * (1 - config.discard))
    few = ratios[:kept]
    if kept < 2:
        return math.nan
    if config.method == "mle":
        return float((kept - 1) / (few.sum() + (len(ratios) - kept) * few[-1]))
    share = torch.arange(1, kept + 1, dtype=few.dtype, device=few.device) / len(ratios)
    # Where nothing is left out the last has the share 1, whose logarithm is not finite.
    few, share = few[share < 1], share[share < 1]
    size = float(few @ few)
    return float(few @ -(1 - share).log()) / size if size > 0 else 0.0


def moment_dimension(distances: Tensor) -> Tensor:
    """The dimension at each point (N,) of the distances (N, k) to its neighbours, by their first moment.

    In d dimensions the mean distance is d / (d + 1) of the largest (Amsaleg et al. 2018, section 3.2).

    >>> moment_dimension(torch.tensor([[1.0, 2.0, 3.0]]))
    tensor([2.])
    """
    mean, largest = distances.mean(1), distances[:, -1]
    return mean / (largest - mean)


def manifold_adaptive(distances: Tensor) -> Tensor:
    """The dimension at each point (N,) by which the number of neighbours doubles from r_(k/2) to r_k.

    log 2 / log(r_k / r_(k/2)), with k/2 rounded down (Farahmand et al. 2007, equation 2). Infinite where both distances
    are the same.

    >>> manifold_adaptive(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    tensor([1.])
    """
    half = distances.shape[1] // 2
    return math.log(2) / (distances[:, -1] / distances[:, half - 1]).log()


def mind_ml(config: MiNDMLConfig, distances: Tensor, largest: int) -> float:
    """The dimension, at most ``largest``, of the distances (N, k + 1) to the first k + 1 neighbours.

    With p = r_1 / r_(k+1) the likelihood is k d p^(d-1) (1 - p^d)^(k-1) (Rozza et al. 2012, equation 6), whose
    logarithm is concave in d. ``MLi`` takes the most likely whole number, ``MLk`` any number. Points whose ratio is 0
    or 1 have no likelihood and are left out.
    """
    logs = (distances[:, 0] / distances[:, -1]).log()
    found = most_likely_growth(logs, distances.shape[1] - 1, largest)
    if config.version == "MLk" or math.isnan(found):
        return found
    logs = _between(logs)
    whole = {max(1, math.floor(found)), min(largest, math.ceil(found))}
    return float(max(sorted(whole), key=lambda d: _log_likelihood(logs, distances.shape[1] - 1, d)))


def most_likely_growth(logs: Tensor, k: int, largest: int) -> float:
    """The most likely d in (0, ``largest``], of logarithms (N,) of r_1 / r_(k+1). NaN where none is below 0."""
    logs = _between(logs)
    if len(logs) == 0:
        return math.nan
    total, count = float(logs.sum()), len(logs)

    def slope(d: float) -> float:
        # p^d / (1 - p^d) = 1 / (p^-d - 1)
        return count / d + total - (k - 1) * float((logs / (-d * logs).expm1()).sum())

    return float(largest) if slope(largest) >= 0 else root_of(slope, float(largest))


def _between(logs: Tensor) -> Tensor:
    return logs[logs.isfinite() & (logs < 0)]


def _log_likelihood(logs: Tensor, k: int, d: float) -> float:
    return float(len(logs) * math.log(k * d) + (d - 1) * logs.sum() + (k - 1) * (-(d * logs).expm1()).log().sum())


def log_log(config: LogLogConfig, distances: Tensor, say: Callable[[str], None]) -> float:
    """The dimension of the distances (N, k) to neighbours, by the mean of log log (r_far / r_near).

    (r_i / r_j)^d is Beta(i, j - i) where points are locally uniform, so the mean is E log(-log Beta) - log d. Its
    error of 1.28 / sqrt(N) for neighbours 1 and 2 does not depend on the density. The idea is Ong et al. (2026); their
    own corrections are not in it. Ties are left out, and ``say`` hears of them. NaN where no ratio is left.
    """
    logs = (distances[:, config.far - 1] / distances[:, config.near - 1]).log()
    usual = logs.isfinite() & (logs > 0)
    if left_out := int((~usual).sum()):
        say(f"{left_out} points have two neighbours at one distance, and were left out")
    return math.exp(mean_log_log(config.near, config.far) - float(logs[usual].log().mean()))


def mean_log_log(near: int, far: int) -> float:
    """E log(-log B) of B, Beta(near, far - near): the logarithm of the log-ratio of distances in one dimension.

    >>> print(f"{mean_log_log(1, 2):.6f}")  # minus Euler's constant
    -0.577216
    """
    from scipy.integrate import quad
    from scipy.special import betaln

    between = far - near - 1

    def density(t: float) -> float:  # of t = log(-log B), at its logarithm's scale
        y = math.exp(t)
        tail = between * math.log(-math.expm1(-y)) if between else 0.0
        return t * math.exp(t - near * y + tail - betaln(near, far - near))

    return float(quad(density, -60, 6, epsabs=1e-13, epsrel=1e-12, limit=400, points=[-4, -2, 0, 2])[0])


def gride(config: GRIDEConfig, distances: Tensor, say: Callable[[str], None]) -> float:
    """The dimension of the distances (N, k) to neighbours, by the ratio of those to ``near`` and ``far``.

    The root of the derivative of the likelihood (Denti et al. 2022, equation 8), with N - 1 in place of N, which is
    without bias for ``near`` 1. Ties and ratios above q50 + 20 (q95 - q50) are left out, and ``say`` hears of ties.
    NaN where fewer than two ratios are left.
    """
    near, far = config.near, config.far
    logs = (distances[:, far - 1] / distances[:, near - 1]).log()
    usual = logs.isfinite() & (logs > 0)
    if left_out := int((~usual).sum()):
        say(f"{left_out} points have two neighbours at one distance, and were left out")
    logs = logs[usual]
    if len(logs) < 2:
        return math.nan
    ratios = logs.exp()
    middle, high = ratios.quantile(torch.tensor([0.5, 0.95], dtype=logs.dtype, device=logs.device)).tolist()
    logs = logs[ratios < middle + 20 * (high - middle)]
    if len(logs) < 2:
        return math.nan
    count, total, between = len(logs), float(logs.sum()), far - near - 1

    def slope(d: float) -> float:
        inside = float((logs / -(-d * logs).expm1()).sum()) if between else 0.0
        return (count - 1) / d + between * inside - (far - 1) * total

    return root_of(slope, 1.0)


def root_of(slope: Callable[[float], float], high: float, low: float = 0.0) -> float:
    """Zero of a falling function of d, between ``low`` and ``high`` or beyond."""
    from scipy.optimize import brentq

    while slope(high) > 0:
        high *= 2
    return float(brentq(slope, low or min(1e-8, high / 2), high, xtol=1e-13, rtol=1e-13))


PENALTY = 0.005
"""Of the squares of both slopes (Gomtsyan et al. 2019, their published program)."""
_KEPT = 1 - math.exp(-1)
"""The share of points that a draw of so many with replacement holds."""


def list_length(far: int) -> int:
    """The length of lists that hold ``far`` of a bootstrap's points, but for one in some ten thousand.

    >>> list_length(40)
    101
    """
    return math.ceil((far + 4 * math.sqrt(far) * (1 - _KEPT) + 14) / _KEPT)


def geomle(config: GeoMLEConfig, cloud: Cloud, seed: int) -> Tensor:
    """The dimension at each point (N,), as its neighbourhood shrinks (Gomtsyan et al. 2019, algorithm 1).

    Each of ``bootstraps`` draws as many points as there are, with replacement, and gives every point its estimate m
    (``mle`` with k - 2) and the radius R for each k from ``near`` to ``far``. Over k, the mean m is a + b R + c R^2
    with weights 1 / s, s its deviation over bootstraps, and a penalty of b^2 + c^2; a is the answer.
    """
    draws = torch.Generator().manual_seed(seed)
    points, sizes = len(cloud), torch.arange(config.near, config.far + 1)
    distances, places = cloud.neighbours(min(points - 1, list_length(config.far)))
    mean = distances.new_zeros(points, len(sizes))
    squares, radii = torch.zeros_like(mean), torch.zeros_like(mean)
    for number in range(1, config.bootstraps + 1):
        kept = torch.zeros(points, dtype=torch.bool)
        kept[torch.randint(points, (points,), generator=draws)] = True
        near = _nearest_kept(cloud, kept, distances, places, config.far)
        logs = near.log()
        found = (sizes - 2) / ((sizes - 1) * logs[:, sizes - 1] - logs.cumsum(1)[:, sizes - 2])
        # The variance as it grows, number by number (Welford 1962).
        step = found - mean
        mean += step / number
        squares += step * (found - mean)
        radii += near[:, sizes - 1] / config.bootstraps
    spread = (squares / (config.bootstraps - 1)).sqrt()
    if config.penalty == "scaled":
        radii = radii / radii.mean()
    return _at_radius_0(mean, radii, 1 / spread)


def _nearest_kept(cloud: Cloud, kept: Tensor, distances: Tensor, places: Tensor, count: int) -> Tensor:
    """The distances (N, count) of all points to their nearest among those kept (N,), ascending."""
    chosen = kept[places]
    chosen &= chosen.cumsum(1) <= count
    full = chosen.sum(1) == count
    near = distances.new_empty(len(cloud), count)
    near[full] = distances[full][chosen[full]].view(-1, count)
    few = (~full).nonzero().flatten()
    if len(few):
        apart = torch.cdist(cloud.points[few], cloud.points, compute_mode="donot_use_mm_for_euclid_dist")
        apart[:, ~kept] = math.inf
        apart[torch.arange(len(few)), few] = math.inf
        near[few] = apart.topk(count, largest=False).values
    return near


def _at_radius_0(found: Tensor, radii: Tensor, weights: Tensor) -> Tensor:
    """The value (N,) at radius 0 of a parabola in the radius, fitted to estimates (N, K) with weights (N, K).

    Both slopes have the penalty of ridge regression; the value at 0 has none.
    """
    share = weights / weights.sum(1, keepdim=True)
    powers = torch.stack([radii, radii.square()], -1)
    middle = (share[..., None] * powers).sum(1)
    level = (share * found).sum(1)
    powers = powers - middle[:, None]
    normal = torch.einsum("nk,nki,nkj->nij", weights, powers, powers)
    normal = normal + PENALTY * torch.eye(2, dtype=normal.dtype)
    right = torch.einsum("nk,nki,nk->ni", weights, powers, found - level[:, None])
    slopes: Tensor = torch.linalg.solve(normal, right)
    return level - (slopes * middle).sum(1)
