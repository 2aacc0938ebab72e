"""Intrinsic dimension from pairs of points: how many are near, how long graphs are, and what hyperplanes separate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from scorefold_neighbours.config import CorrIntConfig, FisherSConfig, KNNConfig, PHConfig
from scorefold_toolkit.nearest import Cloud

_AT_ONCE = 2**20
"""Pairs that are held at once: they fit into a cache, and few points are halved by symmetry too."""

_ROUNDING = 1e-12
"""The share by which two ways to compute a distance may differ."""

MARGINS = np.arange(0.6, 1, 0.02)
"""The margins at which separability is measured, as in Albergante et al. (2019)."""


def correlation(config: CorrIntConfig, cloud: Cloud) -> float:
    """The slope of the correlation integral between two radii (Grassberger and Procaccia 1983, equation 1).

    The radii are the median distances to the neighbours ``near`` and ``far``; a pair at just that distance is not
    counted.
    """
    distances, _ = cloud.neighbours(config.far)
    radii = [_median(distances[:, count - 1]) for count in (config.near, config.far)]
    small, large = (float(count) for count in _pairs_within(cloud, radii))
    if radii[0] == radii[1] or small == 0:
        return math.nan
    return math.log(large / small) / math.log(radii[1] / radii[0])


def _median(x: Tensor) -> float:
    """The mean of the two in the middle, where the number is even."""
    return float(x.quantile(0.5)) if len(x) < 2**23 else float(np.median(x.cpu().numpy()))


def _pairs_within(cloud: Cloud, radii: list[float]) -> list[int]:
    """Number of ordered pairs of points that are nearer than each radius by more than rounding."""
    counts = [-len(cloud)] * len(radii)
    for rows in torch.arange(len(cloud)).split(max(1, _AT_ONCE // len(cloud))):
        apart = cloud.apart(rows, torch.arange(int(rows[0]), len(cloud)))
        for number, radius in enumerate(radii):
            near = apart < radius * (1 - _ROUNDING)
            counts[number] += int(near[:, : len(rows)].count_nonzero()) + 2 * int(near[:, len(rows) :].count_nonzero())
    return counts


def _blocks(count: int) -> Iterator[slice]:
    step = max(1, _AT_ONCE // count)
    for start in range(0, count, step):
        yield slice(start, start + step)


def graph_growth(config: KNNConfig, cloud: Cloud, seed: int, sizes: np.ndarray) -> float:
    """The whole number of dimensions by which the length of the neighbour graph grows (Costa and Hero 2004).

    Of p points drawn with replacement, ``repeats`` times for each p in ``sizes``, the edges to the k nearest sum up to
    c p^((m - 1) / m) in m dimensions: the m whose curve leaves the least squares, between 1 and the columns.
    """
    x, draws = cloud.points, np.random.RandomState(seed)
    lengths = []
    for size in sizes.tolist():
        drawn = torch.from_numpy(np.stack([draws.randint(0, len(x), size) for _ in range(config.repeats)]))
        apart = cloud.apart(drawn, drawn)
        # The nearest of all is the point itself, or a copy of it.
        lengths.append(apart.topk(config.n_neighbors + 1, largest=False).values.sum((1, 2)))
    found = torch.stack(lengths).double()
    columns = torch.arange(1, max(2, x.shape[1]) + 1, dtype=torch.float64)
    powers = torch.from_numpy(sizes).double()[:, None] ** ((columns - 1) / columns)
    found = found.cpu()
    scale = (powers * found.sum(1, keepdim=True)).sum(0) / (powers.square().sum(0) * config.repeats)
    left = (found[:, :, None] - (scale * powers)[:, None, :]).square().sum((0, 1))
    return float(left.argmin()) + 1


def tree_growth(config: PHConfig, cloud: Cloud, seed: int) -> float:
    """The dimension by which minimum spanning trees grow with the number of points (Schweinhart 2020, definition 1).

    The sum of their edges to the ``power`` a of n points grows as n^((d - a) / d). With s the slope of the sum's
    logarithm against log n, d = a / (1 - s). The slope is over ``sizes`` from half of the points to all, ``repeats``
    draws each.
    """
    x, draws = cloud.points, np.random.RandomState(seed)
    sizes = np.repeat(np.ceil(np.linspace(math.ceil(0.5 * len(x)), len(x), config.sizes)).astype(int), config.repeats)
    drawn = [torch.from_numpy(draws.choice(len(x), size, replace=False)) for size in sizes]
    apart = cloud.apart(torch.arange(len(x))).pow(config.power)
    lengths = spanning_lengths(apart, drawn)
    at, heights = torch.from_numpy(np.log(sizes)), lengths.cpu().double().log()
    centred = at - at.mean()
    return config.power / (1 - float(centred @ heights / centred.square().sum()))


def spanning_lengths(apart: Tensor, drawn: list[Tensor]) -> Tensor:
    """The lengths (m,) of the minimum spanning trees of parts of points, given by places, with distances (n, n).

    All grow at once, each by the point that is nearest to it (Prim 1957).

    >>> spanning_lengths(torch.tensor([[0.0, 1.0, 5.0], [1.0, 0.0, 2.0], [5.0, 2.0, 0.0]]), [torch.arange(3)])
    tensor([3.])
    """
    n, count = len(apart), max(map(len, drawn))
    part = torch.zeros(len(drawn), n, dtype=torch.bool, device=apart.device)
    for row, places in enumerate(drawn):
        part[row, places.to(apart.device)] = True
    rows = torch.arange(len(drawn), device=apart.device)
    last = torch.stack([places[0] for places in drawn]).to(apart.device)
    left = part.clone()
    left[rows, last] = False
    # The distance of each point that is left from the tree.
    gaps = torch.where(left, apart[last], math.inf)
    total = torch.zeros(len(drawn), dtype=apart.dtype, device=apart.device)
    for _ in range(count - 1):
        least, last = gaps.min(1)
        total += torch.where(least.isfinite(), least, 0.0)
        left[rows, last] = False
        gaps = torch.where(left, torch.minimum(gaps, apart[last]), math.inf)
    return total


def separability(config: FisherSConfig, cloud: Cloud, say: Callable[[str], None]) -> float:
    """The dimension of the sphere whose points hyperplanes separate as often (Albergante et al. 2019).

    Points are whitened along the components whose variance is above 1 / ``condition`` of the largest, and put on the
    sphere. On a sphere of n dimensions the share of ordered pairs with x . y >= a, for a margin a, is
    p = (1 - a^2)^((n - 1) / 2) / (a root(2 pi n)). So n = W(-w / (2 pi p^2 a^2 (1 - a^2))) / -w with w = log(1 - a^2)
    and Lambert's W. The margin is the one nearest to nine tenths of the largest that some pairs reach. NaN where no
    pair reaches any, and ``say`` hears of it.
    """
    from scipy.special import lambertw

    x = cloud.points - cloud.points.mean(0)
    left, spread, _ = torch.linalg.svd(x, full_matrices=False)
    kept = spread.square() > spread[0].square() / config.condition
    white = left[:, kept]
    unit = white / white.norm(dim=1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)
    margins = MARGINS
    shares = _above(unit, margins) / (len(x) * (len(x) - 1))
    some = np.flatnonzero(shares > 0)
    if len(some) == 0:
        say("all points are separable from all others at every margin: they are too few for their dimension")
        return math.nan
    place = int(np.abs(margins - 0.9 * margins[some].max()).argmin())
    if shares[place] == 0:
        return math.nan
    margin, share = margins[place], shares[place]
    w = math.log(1 - margin**2)
    return float(lambertw(-w / (2 * math.pi * share**2 * margin**2 * (1 - margin**2))).real / -w)


def _above(unit: Tensor, margins: np.ndarray) -> np.ndarray:
    """Number of ordered pairs of different unit vectors (n, r) whose product is at least each margin, ascending."""
    edges = torch.from_numpy(margins).to(unit)
    counts = torch.zeros(len(margins) + 1, dtype=torch.int64, device=unit.device)
    for rows in _blocks(len(unit)):
        products = unit[rows] @ unit.T
        products[torch.arange(products.shape[0]), torch.arange(len(unit), device=unit.device)[rows]] = 0
        near = products[products >= edges[0]]
        counts += torch.bincount(torch.bucketize(near, edges, right=True), minlength=len(margins) + 1)
    # Bin b holds the products that are at least margin b - 1 and below margin b.
    found: np.ndarray = counts[1:].flip(0).cumsum(0).flip(0).cpu().numpy()
    return found
