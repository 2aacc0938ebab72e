"""The nearest neighbours of every point of a table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.neighbors import NearestNeighbors

from scorefold.stage import Executor, reported
from scorefold_toolkit.shards import in_shards

Array = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]

TREE_COLUMNS = 15
"""The most columns for which a k-d tree is faster than all pairs: beyond, it visits most of its leaves."""

SHARD_ROWS = 2**13
"""Rows whose neighbours are one shard's."""

MOST_SENT = 2**24
"""The most numbers of a table that is sent to jobs: each of them gets the whole table."""


@dataclass(frozen=True)
class Shard:
    """The ``rows`` (m, D) of a table from row ``start`` on, whose ``neighbours`` nearest others an index finds."""

    index: NearestNeighbors
    rows: Array
    start: int
    neighbours: int


def nearest_neighbours(points: Array, neighbours: int, executor: Executor | None = None) -> tuple[Array, Places]:
    """The distances (n, k) of points (n, D) to their k nearest others, ascending, and the places (n, k) of these.

    The answers are exact but for rounding, which is that of points about their mean. Up to 15 columns a k-d tree of
    scikit-learn finds them, in n log n steps where the points are spread over few dimensions. More columns are compared
    pair by pair, in blocks: 1 <= k < n. Points are searched in shards of 8,192, which are jobs where an ``executor``
    runs these in parallel and the table has at most 2^24 numbers.
    """
    points = points - points.mean(0)
    index = NearestNeighbors(algorithm="kd_tree" if points.shape[1] <= TREE_COLUMNS else "brute").fit(points)
    sent = executor if points.size <= MOST_SENT else None
    target = f"{__name__}:search"
    shards = in_shards(target, _shards(index, points, neighbours), sent, "nearest neighbours")
    found = list(reported(shards, len(points), "points whose neighbours are found", SHARD_ROWS))
    distances, places = zip(*found, strict=True)
    return np.concatenate(distances), np.concatenate(places)


def _shards(index: Any, points: Array, neighbours: int) -> Iterator[Shard]:
    for start in range(0, len(points), SHARD_ROWS):
        yield Shard(index, points[start : start + SHARD_ROWS], start, neighbours)


def search(shard: Shard) -> tuple[Array, Places]:
    """The distances (m, k) of a shard's rows to their nearest others, and the places (m, k) of these in the table."""
    distances, places = shard.index.kneighbors(shard.rows, shard.neighbours + 1)
    own = shard.start + np.arange(len(shard.rows))
    others = places != own[:, None]
    # A row that rounding puts behind its own neighbours is not among them: then the nearest is taken for itself.
    others[others.all(axis=1), 0] = False
    shape = (len(shard.rows), shard.neighbours)
    return distances[others].reshape(shape), places[others].reshape(shape)


def sample_size(limit: int | Literal["auto"] | None, columns: int) -> int | None:
    """The largest number of points for a ``limit`` of the config: ``auto`` is 100,000 up to 15 columns, where a tree
    finds neighbours, and 10,000 of more."""
    if limit == "auto":
        return 100_000 if columns <= TREE_COLUMNS else 10_000
    return limit
