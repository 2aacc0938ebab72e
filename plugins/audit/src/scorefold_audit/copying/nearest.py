"""Nearest training points: distances, and how many points are nearer than chance would have them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scorefold_toolkit.nearest import Index

Numbers = NDArray[np.float64]
Rows = NDArray[np.float32]
Places = NDArray[np.int64]

LARGE = 100_000
"""Points from which on faiss pays."""

NEIGHBOURS = 10
"""Number of neighbours in the search for one that does not duplicate the first."""

_AT_ONCE = 2**22
"""Numbers that are held at once while distances are taken again."""

_NEAREST = 0.13
"""A near-duplicate is nearer than this share of the median distance, whatever the dimension (cleanlab)."""

BY_CHANCE = 1e-4
"""The share of points that chance puts so near."""


class CopySearch:
    """Nearest points among n fixed ones (n, D), all of them exact: by faiss above 100,000 points where it is installed
    (the extra ``large``), else by ``Index``."""

    def __init__(self, points: Rows) -> None:
        self.points = points
        self._index: Any = None
        if len(points) > LARGE and find_spec("faiss") is not None:
            import faiss

            self._index = faiss.IndexFlatL2(points.shape[1])
            self._index.add(np.ascontiguousarray(points))
        else:
            self._found = Index(torch.from_numpy(points))

    def nearest(self, queries: Rows, count: int = 1) -> tuple[Numbers, Places]:
        """Distances (m, k) in increasing order and places (m, k) of the ``count`` nearest points, or of all if fewer.

        Distances are taken again by differences in float64: those of copies are 0, and not what is left of a
        difference of large squares.
        """
        count = min(count, len(self.points))
        found: Places
        if self._index is not None:
            found = self._index.search(np.ascontiguousarray(queries), count)[1]
        else:
            found = self._found.nearest(torch.from_numpy(queries), count)[1].numpy()
        distances = np.empty(found.shape)
        step = max(1, _AT_ONCE // (count * max(1, queries.shape[1])))
        for start in range(0, len(queries), step):
            rows = slice(start, start + step)
            apart = self.points[found[rows]].astype(np.float64) - queries[rows, None]
            distances[rows] = np.sqrt(np.einsum("mkd,mkd->mk", apart, apart))
        order = np.argsort(distances, axis=1, kind="stable")
        return np.take_along_axis(distances, order, 1), np.take_along_axis(found, order, 1)

    def around(self, places: Places, count: int) -> CopyNeighbours:
        """The ``count`` nearest points of those at these places (k,), which are among them unless they have copies."""
        return CopyNeighbours(*self.nearest(self.points[places], count))

    def own(self, places: Places) -> Numbers:
        """The distance (k,) of the points at these places (k,) from their nearest other point."""
        return self.around(places, 2).apart(places)


@dataclass(frozen=True)
class CopyNeighbours:
    """The ``distances`` (m, k) of the nearest training points, increasing, and their places ``index`` (m, k)."""

    distances: Numbers
    index: Places

    @classmethod
    def of(cls, search: CopySearch, queries: Rows) -> CopyNeighbours:
        """So many of each of m points that one which is no duplicate of the first is among them."""
        return cls(*search.nearest(queries, NEIGHBOURS))

    def take(self, rows: NDArray[np.bool_]) -> CopyNeighbours:
        return CopyNeighbours(self.distances[rows], self.index[rows])

    def apart(self, places: Places) -> Numbers:
        """The distance (m,) of points that stand at these places (m,) themselves from their nearest other point."""
        # A duplicate may come before the point itself: then both distances are 0.
        second = min(1, self.index.shape[1] - 1)
        return np.where(self.index[:, 0] == places, self.distances[:, second], self.distances[:, 0])


@dataclass(frozen=True)
class Near:
    """The nearest training point of each of m points: its ``distance`` (m,), its place ``index`` (m,), and the
    ``ratio`` (m,) of that distance to the one of the next training point that is no duplicate of it."""

    distance: Numbers
    index: Places
    ratio: Numbers

    @classmethod
    def of(cls, search: CopySearch, neighbours: CopyNeighbours, duplicate: float = 0.0) -> Near:
        """``duplicate`` is the distance up to which two training points count as one."""
        distances, index = neighbours.distances, neighbours.index
        second = np.empty(len(index))
        step = max(1, _AT_ONCE // (index.shape[1] * max(1, search.points.shape[1])))
        for start in range(0, len(index), step):
            rows = slice(start, start + step)
            points = search.points[index[rows]].astype(np.float64)
            apart = np.linalg.norm(points - points[:, :1], axis=2) > duplicate
            # Where all are duplicates of the first, the last one serves.
            first = np.where(apart.any(1), apart.argmax(1), index.shape[1] - 1)
            second[rows] = np.take_along_axis(distances[rows], first[:, None], 1)[:, 0]
        nearest = distances[:, 0]
        ratio = np.divide(nearest, second, out=np.zeros_like(second), where=second > 0)
        return cls(nearest, index[:, 0], ratio)


def dimension_of(ratio: Numbers) -> float:
    """The dimension d by which (d1 / d2)^d is uniform: log 2 over minus the logarithm of the median ratio.

    The median, so that duplicates, whose ratios are 0, don't count.
    """
    median = float(np.median(ratio))
    return math.log(2) / -math.log(median) if 0 < median < 1 else 1.0


def duplicate_distance(distance: Numbers, ratio: Numbers) -> float:
    """The distance below which two points are near-duplicates, of the distances and ratios of points to their nearest.

    P(distance < c median) = 1 - 2^(-c^d) where points are locally uniform in d dimensions: c is such that chance has
    one in 10,000 so near, and 0.13 at most.
    """
    dimension = dimension_of(ratio)
    share = float((-math.log2(1 - BY_CHANCE)) ** (1 / dimension))
    return min(_NEAREST, share) * float(np.median(distance))
