"""Lists of nearest neighbours, found in one place and shared: in shards, cut for parts of the points, and kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from hashlib import blake2b

import torch
from torch import Tensor

from scorefold.stage import Executor, reported
from scorefold_toolkit.distances import CACHED, EUCLIDEAN, Angles, ExactSearch, NeighbourSearch, PointMetric
from scorefold_toolkit.index import SHARD_ROWS, Index
from scorefold_toolkit.shards import in_shards

MOST_SENT = 2**24
"""The most numbers of a table that is sent to jobs: each of them gets the whole table."""

LISTED = 64
"""The neighbours that are found where estimators share them."""


@dataclass(frozen=True)
class NeighbourShard:
    """The ``rows`` (m, D) of a table from row ``start`` on, whose ``neighbours`` nearest others an index finds."""

    index: NeighbourSearch
    rows: Tensor
    start: int
    neighbours: int


def search_of(points: Tensor, metric: PointMetric = EUCLIDEAN) -> NeighbourSearch:
    """A search among points (n, D), as ``metric.points`` has made them."""
    if metric.name in ("periodic", "precomputed"):
        return ExactSearch(points, metric)
    return Angles(Index(points)) if metric.name == "angle" else Index(points)


def nearest_neighbours(
    points: Tensor, neighbours: int, executor: Executor | None = None, metric: PointMetric = EUCLIDEAN
) -> tuple[Tensor, Tensor]:
    """The distances (n, k) of points (n, D) to their k nearest others, ascending, and the places (n, k) of these.

    ``search_of`` finds them, for 1 <= k < n. Points are searched in shards of 8,192, which are jobs where an
    ``executor`` runs these in parallel and the table has at most 2^24 numbers. The answer does not depend on it.

    >>> nearest_neighbours(torch.tensor([[0.0], [1.0], [3.0]]), 1)[0].flatten()
    tensor([1., 1., 2.], dtype=torch.float64)
    """
    index = search_of(points, metric)
    sent = executor if points.numel() <= MOST_SENT else None
    target = f"{__name__}:search"
    shards = in_shards(target, _shards(index, neighbours), sent, "nearest neighbours")
    found = list(reported(shards, len(points), "points whose neighbours are found", SHARD_ROWS))
    distances, places = zip(*found, strict=True)
    return torch.cat(distances), torch.cat(places)


def _shards(index: NeighbourSearch, neighbours: int) -> Iterator[NeighbourShard]:
    for start in range(0, len(index.points), SHARD_ROWS):
        yield NeighbourShard(index, index.points[start : start + SHARD_ROWS], start, neighbours)


def search(shard: NeighbourShard) -> tuple[Tensor, Tensor]:
    """The distances (m, k) of a shard's rows to their nearest others, and the places (m, k) of these in the table."""
    own = shard.start + torch.arange(len(shard.rows))
    return _others(shard.index, shard.rows, own, shard.neighbours)


def _others(index: NeighbourSearch, rows: Tensor, places: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The nearest others of the points of an index at these places (m,)."""
    distances, found = index.nearest(rows, count + 1)
    others = found != places[:, None]
    if not bool(others[:, 0].any()):  # usual: each point is the nearest to itself
        return distances[:, 1:], found[:, 1:]
    # A row that comes behind more copies of itself than are looked at is not among them: then the first goes.
    others[others.all(dim=1), 0] = False
    shape = (len(rows), count)
    return distances[others].view(shape), found[others].view(shape)


class Cloud:
    """Points (n, D) with the lists of their neighbours, which are searched once and cut for every part of the points.

    Distances are measured by ``metric``, for which ``points`` are made.

    >>> cloud = Cloud(torch.arange(6.0)[:, None])
    >>> cloud.neighbours(1)[0].flatten().tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    >>> cloud.part(torch.tensor([0, 2, 5])).neighbours(1)[0].flatten().tolist()
    [2.0, 2.0, 3.0]
    """

    def __init__(self, points: Tensor, executor: Executor | None = None, metric: PointMetric = EUCLIDEAN) -> None:
        self.points = points
        self.executor = executor
        self.metric = metric
        self._lists: tuple[Tensor, Tensor] | None = None

    def __len__(self) -> int:
        return len(self.points)

    def neighbours(self, count: int) -> tuple[Tensor, Tensor]:
        """The distances (n, k) to the ``count`` nearest others, ascending, and their places (n, k)."""
        if self._lists is None or self._lists[0].shape[1] < count:
            self._lists = _searched(self.points, count, self.executor, self.metric)
        distances, places = self._lists
        return distances[:, :count], places[:, :count]

    def apart(self, rows: Tensor, columns: Tensor | None = None) -> Tensor:
        """Distances (*B, m, n) of the points at ``rows`` (*B, m) from the points at ``columns`` (*B, n), or all."""
        return self.metric.apart(self.points, rows, columns)

    def part(self, rows: Tensor) -> Cloud:
        """The cloud of the points at ``rows`` (m,), ascending, whose lists are cut from the lists of this cloud."""
        return _Part(self, rows)

    def patches(self, count: int, block: int | None = None) -> Iterator[tuple[slice, Tensor]]:
        """The ``count`` nearest others of each point, (b, k, D) in blocks of at most ``block`` numbers, by rows.

        By default the blocks of a CPU fit into its cache.
        """
        _, places = self.neighbours(count)
        block = block or (CACHED if self.points.device.type == "cpu" else 2**22)
        step = max(1, block // (count * max(count, self.points.shape[1])))
        for start in range(0, len(self), step):
            rows = slice(start, min(start + step, len(self)))
            yield rows, self.points[places[rows]]


def wide(count: int) -> int:
    """The length of lists whose halves hold ``count`` of a random half of the points, but for one in a thousand.

    >>> wide(20)
    64
    """
    return 14 + -(-5 * count // 2)


class _Part(Cloud):
    """A part of a cloud. Lists that hold too few of its points are found anew."""

    def __init__(self, whole: Cloud, rows: Tensor) -> None:
        super().__init__(whole.metric.part(whole.points, rows), whole.executor, whole.metric)
        self._whole, self._rows = whole, rows

    def neighbours(self, count: int) -> tuple[Tensor, Tensor]:
        if self._lists is None or self._lists[0].shape[1] < count:
            self._lists = self._cut(count)
        distances, places = self._lists
        return distances[:, :count], places[:, :count]

    def _cut(self, count: int) -> tuple[Tensor, Tensor]:
        whole = self._whole
        distances, places = (each[self._rows] for each in whole.neighbours(min(len(whole) - 1, wide(count))))
        number = torch.full((len(whole),), -1)
        number[self._rows] = torch.arange(len(self._rows))
        places = number[places]
        # The k first of a list that are in the part, in their order.
        kept = places >= 0
        kept &= kept.cumsum(1) <= count
        full = kept.sum(1) == count
        near = distances.new_empty(len(self), count), places.new_empty(len(self), count)
        for found, every in zip(near, (distances, places), strict=True):
            found[full] = every[full][kept[full]].view(-1, count)
        if not bool(full.all()):
            short = (~full).nonzero().flatten()
            found_again = _others(search_of(self.points, self.metric), self.points[short], short, count)
            near[0][short], near[1][short] = found_again
        return near


_SHARED: ContextVar[dict[bytes, tuple[Tensor, Tensor]] | None] = ContextVar("shared neighbours", default=None)


@contextmanager
def shared_neighbours() -> Iterator[None]:
    """A block in which the neighbours of equal points are searched once, whoever asks for them.

    >>> with shared_neighbours():
    ...     first, second = (Cloud(torch.arange(3.0)[:, None]).neighbours(1)[0] for _ in range(2))
    >>> first.data_ptr() == second.data_ptr()
    True
    """
    token = _SHARED.set({})
    try:
        yield
    finally:
        _SHARED.reset(token)


def _searched(points: Tensor, count: int, executor: Executor | None, metric: PointMetric) -> tuple[Tensor, Tensor]:
    known = _SHARED.get()
    if known is None:
        return nearest_neighbours(points, count, executor, metric)
    key = blake2b(points.numpy().tobytes(), digest_size=16).digest() + bytes(f"{points.shape} {metric}", "ascii")
    if key not in known or known[key][0].shape[1] < count:
        known[key] = nearest_neighbours(points, min(len(points) - 1, max(count, LISTED)), executor, metric)
    return known[key]
