"""Whether the dimension of columns hangs on their units, which nobody has settled."""

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
