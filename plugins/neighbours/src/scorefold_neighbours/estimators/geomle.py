"""GeoMLE: the maximum-likelihood dimension of growing neighbourhoods, continued to a radius of 0."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scorefold_neighbours.config import GeoMLEConfig
from scorefold_toolkit.nearest import Cloud

PENALTY = 0.005
"""Of the squares of both slopes (Gomtsyan et al. 2019, their published program)."""
_KEPT = 1 - math.exp(-1)
"""The share of points that a draw of so many with replacement holds."""


def listed(far: int) -> int:
    """The length of lists that hold ``far`` of a bootstrap's points, but for one in some ten thousand.

    >>> listed(40)
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
    distances, places = cloud.neighbours(min(points - 1, listed(config.far)))
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
