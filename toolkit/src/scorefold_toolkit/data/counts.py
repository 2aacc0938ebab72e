"""The noise of counts, which fills directions of its own: it is as large as the square root of what is counted."""

from __future__ import annotations

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

UNSURE = 3.0
"""Variances up to here may be noise of counts that vary more than by chance alone."""


def count_noise(x: Tensor, scale: EventScale) -> tuple[str, bool]:
    """Text about columns of counts whose noise reaches as far as neighbours, and whether it is sure; empty without.

    Points (N, D) are in the units of ``scale``. Counts are whole numbers from 0 up, of three or more values. Neighbours
    of noisy ones do not move much farther apart when each count k is replaced with a Poisson one of mean k. Where
    counts are Poisson ones about fewer latent variables than columns, 2 sqrt(k + 3/8) (Anscombe 1948) varies by 1 along
    the other principal directions. Of many points the first 2,000 are read.

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
    again = raw.clone()
    again[:, columns] = torch.poisson(counts, generator=torch.Generator().manual_seed(0))
    distance = _neighbour_distance(points)
    noise = scale.from_raw(again) - points
    share = float((2 * noise.square().sum(1).mean()).sqrt()) / distance
    growth = _neighbour_distance(scale.from_raw(again)) / distance
    if share < SHARE or growth > GROWTH:
        return "", False
    large = counts[:, counts.mean(0) >= 1]  # the noise of smaller ones varies by less than 1
    if large.shape[1] < 2:
        return "", False
    variances = torch.linalg.eigvalsh((2 * (large + 3 / 8).sqrt()).T.cov())
    scatter = (large.shape[1] / len(points)) ** 0.5
    if not ALONE[0] * (1 - scatter) ** 2 < float(variances[0]) < UNSURE:
        return "", False
    alone = int((variances < ALONE[1] * (1 + scatter) ** 2).sum())
    if alone >= 2:
        return (
            f"the noise of counting counts as dimensions: {len(columns)} columns hold counts, and along {alone} of "
            f"{len(variances)} directions their square roots vary by this noise alone. Sums over more time or area "
            "have less of it"
        ), True
    return (
        f"{len(columns)} columns hold whole numbers from 0 up. If these are counts, the noise of counting reaches as "
        "far as neighbours, and counts as dimensions"
    ), False


def _are_counts(column: Tensor) -> bool:
    """True if raw values (n,) are whole numbers from 0 up, of more than two values."""
    whole = float(column.min()) > -_WHOLE and float((column - column.round()).abs().max()) < _WHOLE
    return whole and len(column.round().unique()) > 2


def _neighbour_distance(x: Tensor) -> float:
    """The median distance of the fifth neighbour of points (n, D)."""
    near = torch.cdist(x, x).topk(_NEIGHBOUR + 1, dim=1, largest=False).values
    return max(float(near[:, -1].median()), torch.finfo(x.dtype).tiny)
