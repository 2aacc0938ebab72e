"""Intrinsic dimension at each point from the shape of its neighbourhood, many neighbourhoods at once."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scorefold_neighbours.config import ESSConfig, LPCAConfig

TIGHT = 1e-4
"""The share of the radius below which a measurement of ``tight_dimensions`` is left out."""


def local_pca(config: LPCAConfig, patches: Tensor) -> Tensor:
    """The number of components (b,) of neighbourhoods (b, k, D), by the rule of the config.

    The variances are about the mean of a neighbourhood, largest first, min(k, D) of them. FO counts those above a share
    of the largest (Fukunaga and Olsen 1971), maxgap those before the largest ratio of successive ones, and ratio the
    fewest that hold all but a share of the sum. Kaiser counts those above their mean, and broken_stick those before the
    first that is below its part of a stick broken at random. participation_ratio is (sum v)^2 / sum v^2.

    >>> square = torch.tensor([[[1.0, 1.0, 0.0], [1.0, -1.0, 0.0], [-1.0, 1.0, 0.0], [-1.0, -1.0, 0.0]]])
    >>> local_pca(LPCAConfig(), square.double())
    tensor([2.], dtype=torch.float64)
    """
    variances = local_variances(patches)
    total = variances.sum(1, keepdim=True)
    if config.rule == "FO":
        found = (variances > config.share * variances[:, :1]).sum(1)
    elif config.rule == "maxgap":
        found = (variances[:, :-1] / variances[:, 1:]).nan_to_num(0, posinf=math.inf).argmax(1) + 1
    elif config.rule == "ratio":
        held = variances.cumsum(1)
        found = (held / held[:, -1:] < 1 - config.share).sum(1) + 1
    elif config.rule == "participation_ratio":
        found = total.squeeze(1).square() / variances.square().sum(1)
    elif config.rule == "Kaiser":
        found = (variances > variances.mean(1, keepdim=True)).sum(1)
    else:
        below = variances / total < broken_stick(variances.shape[1]).to(variances)
        found = torch.where(below.any(1), below.int().argmax(1), 0)
    return found.double()


def broken_stick(parts: int) -> Tensor:
    """The expected lengths (n,) of the parts of a stick of length 1 that is broken at random, longest first.

    >>> broken_stick(2)
    tensor([0.7500, 0.2500], dtype=torch.float64)
    """
    return (1 / torch.arange(1, parts + 1, dtype=torch.float64)).flip(0).cumsum(0).flip(0) / parts


def local_variances(patches: Tensor) -> Tensor:
    """The variances (b, min(k, D)) of the components of neighbourhoods (b, k, D), largest first; rounding becomes 0."""
    count, columns = patches.shape[1:]
    centred = patches - patches.mean(1, keepdim=True)
    products = centred @ centred.mT if count < columns else centred.mT @ centred
    variances = torch.linalg.eigvalsh(products).flip(1) / (count - 1)
    rounding = max(count, columns) * torch.finfo(variances.dtype).eps
    return torch.where(variances > rounding * variances[:, :1], variances, 0.0)


def simplex_skewness(config: ESSConfig, patches: Tensor) -> Tensor:
    """The dimension (b,) of neighbourhoods (b, k, D) by the expected skewness of simplices (Johnsson et al. 2015).

    With v_i the points about their mean, sums are over all pairs. Version a is the sum of the areas of parallelograms
    over the sum of |v_i| |v_j|, and b the sum of |v_i . v_j| over it. Between whole dimensions, whose values in a ball
    are known, the dimension is linear.
    """
    centred = patches - patches.mean(1, keepdim=True)
    products = centred @ centred.mT
    lengths = products.diagonal(dim1=1, dim2=2).clamp(min=0).sqrt()
    rectangles = lengths[:, :, None] * lengths[:, None, :]
    parts = (rectangles.square() - products.square()).clamp(min=0).sqrt() if config.version == "a" else products.abs()
    count = patches.shape[1]
    first, second = torch.triu_indices(count, count, offset=1)
    values = parts[:, first, second].sum(1) / rectangles[:, first, second].sum(1)
    return dimension_of_skewness(values, config.version)


def dimension_of_skewness(values: Tensor, version: str) -> Tensor:
    """The dimensions (b,), at least 1, of skewnesses (b,): linear between the skewnesses of balls of whole dimensions.

    In a ball of m dimensions the skewness is (m - 1) f(m)^2 / 2 for version a and f(m) / root(pi) for b, with f(m) =
    gamma(m / 2) / gamma((m + 1) / 2), so f(m + 2) = f(m) m / (m + 1).

    >>> dimension_of_skewness(torch.tensor([0.0, torch.pi / 4]), "a").round(decimals=3)
    tensor([1., 3.])
    """
    count = 32
    while True:
        known = _skewnesses(count, version).to(values)
        ends = known[-1] > values if version == "a" else known[-1] < values
        if bool((ends | values.isnan()).all()) or count >= 2**20:
            break
        count *= 2
    rising = known if version == "a" else -known
    at = values if version == "a" else -values
    low = (torch.searchsorted(rising, at.contiguous(), right=True) - 1).clamp(0, count - 2)
    whole = (at - rising[low]) / (rising[low + 1] - rising[low])
    return (low + 1 + whole).clamp(min=1)


def _skewnesses(count: int, version: str) -> Tensor:
    """The skewness of balls of 1 to ``count`` dimensions."""
    m = torch.arange(1, count + 1, dtype=torch.float64)
    f = torch.empty(count, dtype=torch.float64)
    for start, first in ((0, math.sqrt(math.pi)), (1, 2 / math.sqrt(math.pi))):
        steps = (m / (m + 1))[start:-2:2]
        f[start::2] = first * torch.cat([torch.ones(1, dtype=torch.float64), steps]).cumprod(0)
    return (m - 1) * f.square() / 2 if version == "a" else f / math.sqrt(math.pi)


def tight_dimensions(patches: Tensor, distances: Tensor) -> Tensor:
    """The dimension (b,) of neighbourhoods (b, k, D) at ``distances`` (b, k), ascending, from all pairs in them.

    The tight estimator of Amsaleg et al. (2019): maximum likelihood with a measurement s for each ordered pair (i, j),
    the distance of j from i as seen from inside the ball, and one t for i and the reflection of j:
    s = r (root(A^2 + 4 v^2 (r^2 - u_i^2)) - A) / (2 (r^2 - u_i^2)) with A = u_i^2 + v^2 - u_j^2, where u are the
    distances of the neighbours, r the largest, and v the distance of i and j; t has 2 u_i^2 + 2 u_j^2 - v^2 in place of
    v^2. Measurements below 1e-4 r are left out. 0 where all distances are nearly the same.
    """
    count = distances.shape[1]
    radius = distances[:, -1:, None]
    u = distances.square()
    apart = torch.cdist(patches, patches, compute_mode="donot_use_mm_for_euclid_dist").square()
    reflected = (2 * u[:, :, None] + 2 * u[:, None, :] - apart).clamp(min=0)
    pairs = ~torch.eye(count, dtype=torch.bool, device=u.device)
    s, t = (_inside(v, u, radius) / radius for v in (apart, reflected))
    kept = pairs & (s >= TIGHT) & (t >= TIGHT)
    sums = torch.where(kept, s * t, 1.0).log().sum((1, 2))
    near = distances / distances[:, -1:]
    central = near >= TIGHT
    alone = torch.where(central, near, 1.0).log().sum(1)
    dropped = (pairs & ~kept).sum((1, 2)) + (~central).sum(1)
    found = -2 * (count**2 - dropped) / (sums + 2 * alone)
    return torch.where(sums > -TIGHT, 0.0, found)


def _inside(v: Tensor, u: Tensor, radius: Tensor) -> Tensor:
    """The measurements (b, k, k) of squared distances v (b, k, k) and u (b, k)."""
    a = u[:, :, None] + v - u[:, None, :]
    left = (radius.square() - u[:, :, None]).clamp(min=0)
    root = (a.square() + 4 * v * left).sqrt()
    # The two forms are equal; each is the one without a difference of near numbers.
    safe = torch.where(left > 0, left, 1.0)
    return radius * torch.where(a > 0, 2 * v / torch.where(a > 0, root + a, 1.0), (root - a) / (2 * safe))
