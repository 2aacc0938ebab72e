"""Precision, recall, density and coverage from distances: whether points of one set lie among those of another."""

from __future__ import annotations

import torch
from torch import Tensor


def neighbour_measures(
    apart: Tensor, truths: Tensor, samples: Tensor, precision_neighbours: int = 3, density_neighbours: int = 5
) -> dict[str, float]:
    """Precision, recall, density and coverage of m samples next to h truths, by name.

    ``apart`` (m, h) are the distances between them, ``truths`` (h, h) and ``samples`` (m, m) those within each set. A
    ball around a point reaches to its k-th nearest neighbour in its own set: with k ``precision_neighbours`` for
    precision and recall (Kynkaanniemi et al. 2019), ``density_neighbours`` for density and coverage (Naeem et al.
    2020). Each set needs more points than neighbours.

    >>> x = torch.arange(10.0)[:, None]
    >>> neighbour_measures(torch.cdist(x, x), torch.cdist(x, x), torch.cdist(x, x), 1, 1)["precision"]
    1.0
    """
    own, few, many = (
        _radii(samples, precision_neighbours),
        _radii(truths, precision_neighbours),
        _radii(truths, density_neighbours),
    )
    inside = apart <= many
    return {
        "precision": float((apart <= few).any(1).double().mean()),
        "recall": float((apart <= own[:, None]).any(0).double().mean()),
        "density": float(inside.sum(1).double().mean()) / density_neighbours,
        "coverage": float(inside.any(0).double().mean()),
    }


def _radii(within: Tensor, neighbours: int) -> Tensor:
    """The distances (N,) of points from their k-th nearest other point, of the distances (N, N) within their set."""
    # The nearest of all is the point itself.
    others = within + torch.diag(torch.full((len(within),), torch.inf, dtype=within.dtype))
    return others.kthvalue(neighbours, dim=1).values
