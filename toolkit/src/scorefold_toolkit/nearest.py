"""Nearest neighbours, found in one place: by a tree in few columns, pair by pair in many, and exact in both.

Pairs are compared in float32, in blocks, and on a GPU where there is one. Every point that may be among the nearest,
by the bound on rounding, is measured again in float64. So the answers have the precision of float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scorefold.stage import Executor, reported
from scorefold_toolkit.distances import EUCLIDEAN, TREE_COLUMNS, Angles, ExactSearch, NeighbourSearch, PointMetric
from scorefold_toolkit.shards import in_shards

SHARD_ROWS = 2**13
"""Rows whose neighbours are one shard's."""

MOST_SENT = 2**24
"""The most numbers of a table that is sent to jobs: each of them gets the whole table."""

SPARE = 12
"""Further neighbours by float32 that are measured again in float64."""

FEW = 10
"""Times as many points as candidates up to which all pairs are measured in float64 at once."""

LISTED = 64
"""The neighbours that are found where estimators share them."""

_PAIRS = 2**22
"""Pairs that are compared at once, and a quarter of the numbers that are measured again at once."""

_ROWS = 64
"""Rows that are compared at once, at least: a product of fewer waits for the memory in which the points are."""

_GROUPS, _GROUPED = 8, 64
"""Groups of values whose minima are compared first, and the least number of values of each that is looked for."""

_LARGEST = torch.finfo(torch.float32).max / 8
"""The largest squared norm with which sums in float32 stay finite."""

_REDUCED, _SHORTER, _MOST = 64, 8, 256
"""Columns from which on points are compared along few directions first, times as few of these, and the most of them."""

_LOOKED_AT, _TURNS, _HELD = 4096, 2, 0.9
"""Points by which directions are chosen, rounds of the power method, and the least share of the variance."""

_PAYS = 32
"""Times as many pairs as numbers of the chosen points along the directions from which on these pay."""

_ON_GPU = 2**26
"""Pairs from which on a GPU is used, where there is one."""


class Index:
    """The nearest of n points (n, D), for any rows (m, D), by Euclidean distance.

    Up to 15 columns scipy's k-d tree finds them, in n log n steps where points are spread over few dimensions. More
    columns are compared pair by pair, first along few directions where these hold most of the variance. ``points`` may
    have any floating dtype; distances are float64.

    >>> index = Index(torch.tensor([[0.0], [1.0], [3.0]]))
    >>> index.nearest(torch.tensor([[2.5]]), 2)
    (tensor([[0.5000, 1.5000]], dtype=torch.float64), tensor([[2, 1]]))
    """

    def __init__(self, points: Tensor) -> None:
        self.points = points.detach().cpu()
        self.middle = self.points.mean(0, dtype=torch.float64)
        self._tree: Any = None
        if points.shape[1] <= TREE_COLUMNS:
            from scipy.spatial import cKDTree

            self._tree = cKDTree(self._moved(self.points).numpy())
            return
        self._norms = torch.cat([self._moved(part).square().sum(1) for part in self.points.split(SHARD_ROWS)])
        self._made: dict[tuple[torch.device, torch.dtype, bool], tuple[Tensor, Tensor]] = {}

    @property
    def way(self) -> str:
        """``tree`` or ``pairs``: how the nearest are found."""
        return "pairs" if self._tree is None else "tree"

    def nearest(self, rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Distances (m, k), ascending, and places (m, k) of the ``count`` nearest points, 1 <= k <= n."""
        if self._tree is not None:
            distances, places = self._tree.query(self._moved(rows).numpy(), range(1, count + 1))
            return torch.from_numpy(distances), torch.from_numpy(places)
        ways = (True, False) if self._pays(len(rows)) and self._directions is not None else (False,)
        found = [self._compared(part, count, ways) for part in rows.split(self._block(count))]
        distances, places = (torch.cat(parts) for parts in zip(*found, strict=True))
        return distances, places

    def _moved(self, rows: Tensor) -> Tensor:
        """Rows about the mean of the points, in float64: far from 0 squares leave no digits of differences."""
        return rows.detach().cpu().double() - self.middle

    def _block(self, count: int) -> int:
        n, columns = self.points.shape
        return max(1, min(max(_ROWS, _PAIRS // n), 4 * _PAIRS // ((count + SPARE) * columns)))

    def _compared(self, rows: Tensor, count: int, ways: tuple[bool, ...]) -> tuple[Tensor, Tensor]:
        """The nearest of a block of rows: candidates by a lower bound on their squares, measured again.

        ``ways`` has True for bounds along few directions, and False for bounds in all columns.
        """
        x = self._moved(rows)
        n = len(self.points)
        taken = min(n, count + SPARE)
        if n <= FEW * taken:
            return self._measured(x, count)
        squares, places = x.new_empty(len(x), count), torch.empty(len(x), count, dtype=torch.int64)
        left = torch.arange(len(x))
        for reduced in ways:
            found = self._among_candidates(rows[left], x[left], reduced, count, taken)
            squares[left], places[left] = found[0], found[1]
            left = left[found[2]]
            if len(left) == 0:
                return squares.sqrt(), places
        again = self._measured(x[left], count)
        squares[left], places[left] = again[0].square(), again[1]
        return squares.sqrt(), places

    def _among_candidates(
        self, rows: Tensor, x: Tensor, reduced: bool, count: int, taken: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Squared distances (m, k), ascending, and places (m, k) of the nearest by bounds, and a mask (m,) of the rows
        that may have nearer points. ``x`` are the rows about the middle."""
        if reduced:
            x = self._reduced(x)
        # What float32 may be wrong by, as a share of both squared norms: of a sum of so many products and of their
        # factors, as they are rounded (Higham 2002, section 3.1).
        terms = 2 * x.shape[1] + 12
        share = terms * torch.finfo(torch.float32).eps / 2
        last, places = self._candidates(x, share, taken, reduced)
        squares, places = measured_again(self.points, rows, places)
        # Any other point is at least as far as the last bound says, but for products below the least of float32.
        least = last.double() + (1 - share) * x.square().sum(1) - terms * torch.finfo(torch.float32).tiny
        unsure = ~(least >= squares[:, count - 1])  # also where a bound is no number
        return squares[:, :count], places[:, :count], unsure

    def _candidates(self, x: Tensor, share: float, count: int, reduced: bool) -> tuple[Tensor, Tensor]:
        """The last (m,) of the k lowest bounds on squared distances, and the places (m, k) of these, in any order.

        The term of the row's own squared norm is left out: it does not change the order.
        """
        largest = max(float(self._norms.max()), float(x.square().sum(1).max()))
        single = torch.get_float32_matmul_precision() == "highest" and largest < _LARGEST
        on_gpu = torch.cuda.is_available() and len(self.points) ** 2 >= _ON_GPU
        device = torch.device("cuda" if on_gpu else "cpu")
        points, norms = self._prepared(device, torch.float32 if single else torch.float64, reduced)
        rows, step = x.to(points), max(count, _PAIRS // len(x))
        found, places = [], []
        for start in range(0, len(points), step):
            part = slice(start, start + step)
            bounds = torch.addmm((1 - share) * norms[part], rows, points[part].T, alpha=-2)
            values, which = _lowest(bounds, count)
            found.append(values)
            places.append(which + start)
        values, which = _lowest(torch.cat(found, 1), count)
        return values.amax(1).cpu(), torch.cat(places, 1).gather(1, which).cpu()

    def _prepared(self, device: torch.device, dtype: torch.dtype, reduced: bool) -> tuple[Tensor, Tensor]:
        """The points as they are compared, made once."""
        key = (device, dtype, reduced)
        if key not in self._made:
            parts = (self._moved(part) for part in self.points.split(SHARD_ROWS))
            made = [(self._reduced(part) if reduced else part).to(device, dtype) for part in parts]
            self._made[key] = torch.cat(made), self._norms.to(device, dtype)
        return self._made[key]

    def _reduced(self, x: Tensor) -> Tensor:
        """Rows (m, D) about the middle as coordinates along the directions, and the size of the rest, (m, r + 1).

        Distances of these are at most the distances of the rows, by the triangle inequality for the rest.
        """
        assert self._directions is not None
        along = x @ self._directions
        rest = x.square().sum(1, keepdim=True) - along.square().sum(1, keepdim=True)
        return torch.cat([along, rest.clamp(min=0).sqrt()], 1)

    def _pays(self, rows: int) -> bool:
        """True if directions are chosen in less time than they save for so many rows."""
        n, columns = self.points.shape
        return columns >= _REDUCED and rows * n >= _PAYS * min(n, _LOOKED_AT) * min(columns // _SHORTER, _MOST)

    @cached_property
    def _directions(self) -> Tensor | None:
        """Orthonormal directions (D, r) that hold most of the points' variance; None where so few don't."""
        n, columns = self.points.shape
        some = self._moved(self.points[:: -(-n // _LOOKED_AT)])
        directions = some[: min(columns // _SHORTER, _MOST)].T
        for _ in range(_TURNS):
            directions = torch.linalg.qr(some.T @ (some @ directions)).Q
        held = (some @ directions).square().sum() / some.square().sum()
        return directions if float(held) > _HELD else None

    def _measured(self, x: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """The nearest by differences in float64 from every point."""
        every = self._moved(self.points)
        step = max(1, _PAIRS // len(every))
        found = [
            torch.cdist(part, every, compute_mode="donot_use_mm_for_euclid_dist").topk(count, largest=False)
            for part in x.split(step)
        ]
        return torch.cat([one.values for one in found]), torch.cat([one.indices for one in found])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_made": {}}


def measured_again(points: Tensor, rows: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distances (m, k), ascending, of rows (m, D) from the points at ``places`` (m, k), and these in order.

    They are sums over differences in float64, so that copies have a distance of 0.

    >>> points = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    >>> measured_again(points, points[:1], torch.tensor([[1, 0]]))
    (tensor([[ 0., 25.]], dtype=torch.float64), tensor([[0, 1]]))
    """
    apart = points[places.flatten()].double().view(*places.shape, -1)
    apart -= rows.detach().cpu().double()[:, None]
    squares, order = torch.linalg.vecdot(apart, apart).sort(dim=1, stable=True)
    return squares, places.gather(1, order)


def _lowest(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` lowest values of each row, all of fewer, in any order, and their places.

    They are among the values of the ``count`` groups with the lowest minima, so that few values are compared at length.

    >>> _lowest(torch.tensor([[3.0, 1.0, 2.0]]), 1)
    (tensor([[1.]]), tensor([[1]]))
    """
    n = values.shape[1]
    if n <= count:
        return values, torch.arange(n, device=values.device).expand(values.shape)
    if values.device.type != "cpu":
        found = values.topk(count, largest=False, sorted=False)
        return found.values, found.indices
    if n < _GROUPED * count:
        places = torch.from_numpy(np.argpartition(values.numpy(), count - 1, axis=1)[:, :count])
        return values.gather(1, places), places
    width = n // _GROUPS
    whole = width * _GROUPS
    _, groups = _lowest(values[:, :whole].unflatten(1, (_GROUPS, width)).amin(1), count)
    rest = torch.arange(whole, n).expand(len(values), -1)
    places = torch.cat([*(groups + width * number for number in range(_GROUPS)), rest], 1)
    lowest, which = _lowest(values.gather(1, places), count)
    return lowest, places.gather(1, which)


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

    def patches(self, count: int, block: int = 2**22) -> Iterator[tuple[slice, Tensor]]:
        """The ``count`` nearest others of each point, (b, k, D) in blocks of at most ``block`` numbers, by rows."""
        _, places = self.neighbours(count)
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
