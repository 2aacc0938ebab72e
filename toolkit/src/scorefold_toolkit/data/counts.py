"""The noise of counts, which fills directions of its own: it is as large as the square root of what is counted."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scorefold.data import EventScale

_NEIGHBOUR = 5
_MOST_POINTS, _FEWEST_POINTS = 2000, 50
_MOST_COLUMNS = 200
_WHOLE = 1e-3  # float32 units hold counts up to some 10,000 as exactly

GROWTH = 1.5
"""The factor by which a second noise of counting moves neighbours apart, at most, where they have a first one: it is
at most the square root of 2, and 2 to 4 for measurements that are rounded to whole numbers."""

SHARE = 0.5
"""The least noise of counting that matters, as a share of the distance of neighbours."""

ALONE = (0.6, 1.1)
"""Variances of transformed counts along directions that hold the noise of counting alone. It is 1 for large counts and
two thirds for a mean of 1."""

SLOPE = 0.8
"""The least power of its mean with which the noise of overdispersed counts grows: 1 for Poisson ones, 2 for large."""

FEW, MANY = 10, 100
"""The 5 % quantile of columns below which Poisson counts, and overdispersed ones, are looked for in few directions."""


def count_noise(x: Tensor, scale: EventScale) -> tuple[str, bool]:
    """Text about columns of counts whose noise reaches as far as neighbours, and whether it is sure; empty without.

    Points (N, D) are in the units of ``scale``. Counts are whole numbers from 0 up, of three or more values. Neighbours
    of noisy ones do not move much farther apart when each count k is replaced with a Poisson one of mean k. Where
    counts are Poisson ones about fewer latent variables than columns, 2 sqrt(k + 3/8) (Anscombe 1948) varies by 1 along
    the other principal directions. Where they vary more, ``overdispersion`` reads the excess from these directions. Of
    many points the first 2,000 are read.

    >>> generator = torch.Generator().manual_seed(0)
    >>> latent = torch.randn(500, 2, generator=generator) @ torch.randn(2, 6, generator=generator)
    >>> counts = torch.poisson(10 * (latent / 2).exp(), generator=generator)
    >>> count_noise(counts, EventScale())[1], count_noise(latent, EventScale())
    (True, ('', False))
    """
    if x.dim() != 2 or x.shape[1] > _MOST_COLUMNS or scale.bounded:
        return "", False
    points = torch.unique(x[:_MOST_POINTS].detach().cpu().double(), dim=0)
    raw = scale.to_raw(points)
    columns = [place for place, column in enumerate(raw.T) if _are_counts(column)]
    if len(points) < _FEWEST_POINTS or len(columns) < 2:
        return "", False
    counts = raw[:, columns].round().clamp(min=0)
    large = counts[:, counts.mean(0) >= 1]  # the noise of smaller ones varies by less than 1
    if large.shape[1] < 2:
        return "", False
    again = raw.clone()
    again[:, columns] = torch.poisson(counts, generator=torch.Generator().manual_seed(0))
    alone, sure = _by_chance(points, scale.from_raw(again), large)
    if sure:
        return (
            f"the noise of counting counts as dimensions: {len(columns)} columns hold counts, and along {alone} of "
            f"{large.shape[1]} directions they vary by this noise alone. Sums over more time or area have less of it"
        ), True
    excess = _overdispersed(large)
    if alone == 0 and excess == 0:
        return "", False
    grows = f", whose noise grows with them (dispersion {excess:.2g})" if excess else ""
    return (
        f"{len(columns)} columns hold whole numbers from 0 up{grows}. If these are counts, the noise of counting "
        "reaches as far as neighbours, and counts as dimensions"
    ), False


def _by_chance(points: Tensor, again: Tensor, counts: Tensor) -> tuple[int, bool]:
    """The number of directions that Poisson counts (n, C) fill by their noise alone, and whether they are counts for
    sure. Points (n, D) are moved to ``again`` by a second noise of counting."""
    distance = _neighbour_distance(points)
    share = float((2 * (again - points).square().sum(1).mean()).sqrt()) / distance
    low, high = _edges(counts)
    variances = _variances(counts, 0.0)
    if share < SHARE or _neighbour_distance(again) > GROWTH * distance or float(variances[0]) <= ALONE[0] * low:
        return 0, False
    alone = int((variances < ALONE[1] * high).sum())
    return (alone, alone >= 2 and _dependent(counts, 0.0)) if alone >= 2 or _least(counts) < FEW else (0, False)


def _overdispersed(counts: Tensor) -> float:
    """The dispersion of counts (n, D) that may vary more than by chance; 0 where nothing says so.

    Their noise must fill directions, reach as far as neighbours and grow with the mean, and latent variables must make
    columns depend on each other. Whole amounts that are known to some per cent look the same, so it is never sure.
    """
    excess = overdispersion(counts)
    if excess == 0 or _least(counts) >= MANY:
        return 0.0
    stable = _stabilised(counts, excess)
    alone = int((_variances(counts, excess) < ALONE[1] * _edges(counts)[1]).sum())
    reaches = (2 * counts.shape[1]) ** 0.5 / _neighbour_distance(stable) >= SHARE
    if alone < 2 or not reaches or not _dependent(counts, excess):
        return 0.0
    return excess if _growth_with_mean(stable, excess, alone) >= SLOPE else 0.0


def _dependent(counts: Tensor, dispersion: float) -> bool:
    """True if stabilised counts (n, D) are correlated by more than chance: independent ones have no latent variables,
    and a dimension for each column."""
    largest = float(torch.linalg.eigvalsh(_stabilised(counts, dispersion).T.corrcoef())[-1])
    return largest > ALONE[1] * _edges(counts)[1]


def overdispersion(counts: Tensor) -> float:
    """The dispersion a of counts (n, D) with the variance m + a m^2 about latent variables; 0 for Poisson ones.

    It is the least a for which the direction of least variance varies by no more than 1 in stabilised counts.

    >>> generator = torch.Generator().manual_seed(0)
    >>> overdispersion(torch.poisson(torch.full((500, 4), 9.0), generator=generator))
    0.0
    """
    low = _edges(counts)[0]
    if float(_variances(counts, 0.0)[0]) <= ALONE[1]:
        return 0.0
    below, above = 0.0, 10.0
    for _ in range(_HALVINGS):
        middle = (below + above) / 2
        less = float(_variances(counts, middle)[0]) < low
        below, above = (below, middle) if less else (middle, above)
    return below


_HALVINGS = 30


def _stabilised(counts: Tensor, dispersion: float) -> Tensor:
    """Counts (n, D) as numbers whose noise has the variance 1 where their mean is large (Anscombe 1948)."""
    roots = (counts + 3 / 8).sqrt()
    root = math.sqrt(dispersion)
    return 2 * roots if dispersion == 0 else 2 / root * torch.asinh(root * roots)


def _variances(counts: Tensor, dispersion: float) -> Tensor:
    """The variances (D,) of stabilised counts (n, D) along their principal directions, increasing."""
    variances: Tensor = torch.linalg.eigvalsh(_stabilised(counts, dispersion).T.cov())
    return variances


def _least(counts: Tensor) -> float:
    """The median over columns (n, D) of their 5 % quantile."""
    return float(torch.quantile(counts, 0.05, dim=0).median())


def _edges(counts: Tensor) -> tuple[float, float]:
    """The least and greatest variance along a direction of n points (n, D) of unit normal noise."""
    scatter = (counts.shape[1] / len(counts)) ** 0.5
    return (1 - scatter) ** 2, (1 + scatter) ** 2


def _growth_with_mean(stable: Tensor, dispersion: float, alone: int) -> float:
    """The median over columns of the power of the mean with which noise grows, squared.

    Of stabilised counts (n, D) the ``alone`` directions of least variance are noise, and the others give the mean. The
    fifth of the points with the lowest mean is compared with the fifth with the highest.
    """
    centred = stable - stable.mean(0)
    axes = torch.linalg.eigh(centred.T.cov()).eigenvectors[:, :alone]
    noise = centred @ axes @ axes.T
    root = math.sqrt(dispersion)
    mean = ((root / 2 * (stable - noise)).sinh().square() / dispersion - 3 / 8).clamp(min=_LEAST_MEAN)
    order = mean.argsort(0)
    part = max(1, len(mean) // 5)
    lowest, highest = (mean.gather(0, rows).mean(0) for rows in (order[:part], order[-part:]))
    small, large = (noise.gather(0, rows).square().mean(0) for rows in (order[:part], order[-part:]))
    before, after = small * (lowest + dispersion * lowest**2), large * (highest + dispersion * highest**2)
    return float(((after / before).log() / (highest / lowest).log().clamp(min=_LEAST_RISE)).median())


_LEAST_MEAN, _LEAST_RISE = 0.05, 0.3


def _are_counts(column: Tensor) -> bool:
    """True if raw values (n,) are whole numbers from 0 up, of more than two values."""
    whole = float(column.min()) > -_WHOLE and float((column - column.round()).abs().max()) < _WHOLE
    return whole and len(column.round().unique()) > 2


def _neighbour_distance(x: Tensor) -> float:
    """The median distance of the fifth neighbour of points (n, D)."""
    near = torch.cdist(x, x).topk(_NEIGHBOUR + 1, dim=1, largest=False).values
    return max(float(near[:, -1].median()), torch.finfo(x.dtype).tiny)
