"""Distances between points: Euclid's, angles, coordinates that repeat after a period, and distances that are given."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from scorefold.errors import DataError

Name = Literal["euclidean", "angle", "periodic", "precomputed"]

TREE_COLUMNS = 15
"""The most columns for which a k-d tree is faster than all pairs: beyond, it visits most of its leaves."""

_COPY = 1e-9
"""The share of a radius, a period or the median distance within which two points are copies."""

CACHED = 2**18
"""Numbers in float64 that fit into the cache of a CPU."""


class NeighbourSearch(Protocol):
    """The nearest of n points, for any rows (m, D)."""

    points: Tensor

    def nearest(self, rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Distances (m, k), ascending, and places (m, k) of the ``count`` nearest points, 1 <= k <= n."""


@dataclass(frozen=True)
class PointMetric:
    """A distance between two points.

    ``euclidean`` is the usual distance. ``angle`` is the angle between two points as seen from 0, in radians: what is
    near by it is near by cosine similarity. ``periodic`` is the Euclidean distance the shorter way round where
    coordinates repeat after ``periods`` (D,), 0 for one that does not. With ``precomputed`` the points are the matrix
    (n, n) of their distances.

    >>> clock = PointMetric("periodic", (12.0,))
    >>> clock.apart(clock.points(torch.tensor([[1.0], [11.0]])), torch.tensor([0]), torch.tensor([1]))
    tensor([[2.]])
    """

    name: Name = "euclidean"
    periods: tuple[float, ...] = ()

    def points(self, x: Tensor) -> Tensor:
        """Points (n, D) as ``apart`` and a search take them: of length 1 for ``angle``, within their periods.

        Raises ``DataError`` for a point at 0, which has no direction, and for another number of periods than columns.
        """
        if self.name == "angle":
            lengths = x.norm(dim=1, keepdim=True)
            if bool((lengths == 0).any()):
                raise DataError(
                    f"{int((lengths == 0).sum())} of the points are 0 in all coordinates, so they have no direction",
                    hint="leave them out, or use metric: euclidean",
                )
            unit: Tensor = x / lengths
            return unit
        if self.name == "periodic":
            if len(self.periods) != x.shape[1]:
                raise DataError(
                    f"there are {len(self.periods)} periods for {x.shape[1]} coordinates",
                    hint="give one number for all of them, or one for each, 0 for a coordinate without a period",
                )
            periods = torch.tensor(self.periods, dtype=x.dtype)
            repeated = torch.where(periods > 0, x.remainder(torch.where(periods > 0, periods, 1)), x)
            return torch.where((periods > 0) & (repeated >= periods), 0.0, repeated)  # as rounding may have it
        return x

    def keys(self, points: Tensor) -> Tensor:
        """Rows (n, K) that are equal where points are copies of each other.

        Euclidean copies are equal to the bit. Others may have been computed, so that they count up to a share of 1e-9.
        """
        if self.name == "angle":
            return (points / _COPY).round()
        if self.name == "periodic":
            periods = torch.tensor(self.periods, dtype=points.dtype)
            steps = (points / (periods.clamp(min=torch.finfo(points.dtype).tiny) * _COPY)).round().remainder(1 / _COPY)
            return torch.where(periods > 0, steps, points)
        if self.name == "precomputed":
            return (points <= _COPY * points.median()).int().argmax(1, keepdim=True)
        return points

    def part(self, points: Tensor, rows: Tensor) -> Tensor:
        """The points at ``rows`` (m,)."""
        return points[rows][:, rows] if self.name == "precomputed" else points[rows]

    def apart(self, points: Tensor, rows: Tensor, columns: Tensor | None = None) -> Tensor:
        """Distances (*B, m, n) of the points at ``rows`` (*B, m) from the points at ``columns`` (*B, n), or all."""
        columns = torch.arange(len(points)) if columns is None else columns
        rows, columns = rows.to(points.device), columns.to(points.device)
        if self.name == "precomputed":
            return points[rows[..., :, None], columns[..., None, :]]
        if self.name == "periodic":
            return self._around(points[rows], points[columns])
        distances = torch.cdist(points[rows], points[columns], compute_mode="donot_use_mm_for_euclid_dist")
        return angles(distances) if self.name == "angle" else distances

    def _around(self, a: Tensor, b: Tensor) -> Tensor:
        squares = a.new_zeros((*a.shape[:-1], b.shape[-2]))
        for x, y, period in zip(a.unbind(-1), b.unbind(-1), self.periods, strict=True):
            gaps = (x[..., :, None] - y[..., None, :]).abs()
            squares += torch.minimum(gaps, (period or math.inf) - gaps).square()
        return squares.sqrt()


EUCLIDEAN = PointMetric()


def angles(chords: Tensor) -> Tensor:
    """The angles between unit vectors at these distances."""
    return 2 * (chords / 2).clamp(max=1).asin()


class Angles:
    """A search among unit vectors by Euclidean distance, whose answers are angles."""

    def __init__(self, chords: NeighbourSearch) -> None:
        self.points = chords.points
        self._chords = chords

    def nearest(self, rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
        distances, places = self._chords.nearest(rows, count)
        return angles(distances), places


class ExactSearch:
    """The nearest by comparing all pairs, of points that repeat and of given distances; of few columns by a tree."""

    def __init__(self, points: Tensor, metric: PointMetric) -> None:
        self.points, self.metric = points, metric
        self._tree = None
        if metric.name == "periodic" and points.shape[1] <= TREE_COLUMNS:
            from scipy.spatial import cKDTree

            self._tree = cKDTree(points.numpy(), boxsize=metric.periods)

    def nearest(self, rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
        if self._tree is not None:
            distances, places = self._tree.query(rows.numpy(), range(1, count + 1))
            return torch.from_numpy(distances), torch.from_numpy(places)
        if self.metric.name == "precomputed":
            found = rows.topk(count, largest=False)
            return found.values, found.indices
        blocks = rows.split(max(1, CACHED // len(self.points)))
        parts = [self.metric._around(block, self.points).topk(count, largest=False) for block in blocks]
        return torch.cat([part.values for part in parts]), torch.cat([part.indices for part in parts])
