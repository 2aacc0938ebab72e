"""Checks of the scale of points: a dimension that depends on units, and distances that are lost in rounding."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

NEIGHBOURS = 20
DISAGREE = 1.25
"""How many times as large one of the two dimensions may be."""

_MOST = 1000


@runtime_checkable
class HasUnits(Protocol):
    """A data source of columns; ``unsettled_units`` says that their spreads differ more than tenfold, and that nobody
    has said whether they have one unit."""

    @property
    def unsettled_units(self) -> bool: ...


def dimensions_by_units(x: Tensor) -> tuple[float, float] | None:
    """The dimensions that maximum likelihood reads from points (n, D) as they are, and with each column divided by its
    own spread, where one is a quarter larger than the other.

    Of many points the first 1,000 are read; none where there are too few for 20 neighbours.

    >>> line = torch.linspace(0, 1, 400, dtype=torch.float64)
    >>> noise = torch.rand(400, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    >>> [round(found) for found in dimensions_by_units(torch.stack([line, 1e-6 * noise], 1))]
    [1, 2]
    >>> dimensions_by_units(torch.stack([line, 1e-6 * line], 1)) is None
    True
    """
    points = x[:_MOST].detach().cpu().double().flatten(1).unique(dim=0)
    if len(points) <= NEIGHBOURS:
        return None
    spread = points.std(0)
    kept = spread > 0
    plain, scaled = _maximum_likelihood(points), _maximum_likelihood(points[:, kept] / spread[kept])
    return (plain, scaled) if max(plain, scaled) > DISAGREE * min(plain, scaled) else None


def _maximum_likelihood(x: Tensor) -> float:
    """The dimension of points (n, D), no two of them the same (Levina and Bickel 2004), averaged as MacKay and
    Ghahramani propose."""
    x = x - x.mean(0)
    distances = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(torch.inf)
    near = distances.topk(NEIGHBOURS, dim=1, largest=False).values
    return float(1 / ((near[:, -1:] / near[:, :-1]).log().sum(1) / (NEIGHBOURS - 1)).mean())


_QUERIES, _NUMBERS = 200, 2**22
_FREE = 1e-6  # of the spread: no data of a practical size have nearer neighbours


def rounding_warning(x: Tensor) -> str | None:
    """A warning where points (N, *E) lie so far from 0 that rounding hides how far neighbours are away.

    With q the distance of neighbouring numbers at the largest value of a coordinate, rounding adds the sum of q^2 / 6
    over the coordinates to a squared distance: 1 % of it where the nearest neighbours are 4 root(sum of q^2) away.
    Points that float32 can hold are taken to have been rounded to it, whatever their dtype. Whole numbers below 2^23
    are exact.
    """
    if len(x) < 3 or not x.is_floating_point():
        return None
    flat = x.detach().cpu().flatten(1)
    flat = flat[:: max(1, len(flat) * flat.shape[1] // _NUMBERS)].double()
    largest = flat.abs().amax(0)
    if not bool(largest.isfinite().all()):
        return None
    single = bool((flat.float().double() == flat).all())
    mantissa = 24 if single else 53
    if single and float(largest.max()) < 2**23 and bool((flat == flat.round()).all()):
        return None
    # frexp gives 2^(e-1) <= largest < 2^e, between which numbers lie 2^(e - mantissa) apart.
    steps = torch.ldexp(torch.ones_like(largest), torch.frexp(largest).exponent - mantissa)
    least = 4 * float(steps.square().sum().sqrt())
    centred = flat - flat.mean(0)
    if least <= _FREE * float(centred.square().sum(1).mean().sqrt()):
        return None
    queries = centred[:: max(1, len(centred) // _QUERIES)]
    near = torch.cat([_nearest(part, centred) for part in queries.split(max(1, _NUMBERS // len(centred)))])
    near = near[near.isfinite()]
    distance = float(near.median()) if len(near) else 0.0
    if distance >= least:
        return None
    kind = "float32" if single else "float64"
    return (
        f"the coordinates reach {float(largest.max()):.3g}, where {kind} numbers lie {float(steps.max()):.2g} apart, "
        f"and neighbouring points are {distance:.2g} apart: their distances are lost in rounding. Subtract each "
        "column's mean in float64 before the points become float32"
    )


def _nearest(queries: Tensor, points: Tensor) -> Tensor:
    """The distance of each query to the nearest point that isn't itself (n,)."""
    distances = torch.cdist(queries, points, compute_mode="donot_use_mm_for_euclid_dist")
    return distances.masked_fill_(distances == 0, torch.inf).amin(1)
