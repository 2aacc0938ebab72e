"""The nearest of fixed points, exactly: by a tree in few columns or along few directions, else pair by pair.

Pairs are compared in float32, in blocks, and on a GPU where there is one. Every point that may be among the nearest,
by the bound on rounding, is measured again in float64. So the answers have the precision of float64.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scorefold_toolkit.distances import CACHED, TREE_COLUMNS

SHARD_ROWS = 2**13
"""Rows whose neighbours are one shard's."""

SPARE = 12
"""Further neighbours by float32 that are measured again in float64; by a tree, at most so many."""

FEW = 10
"""Times as many points as candidates up to which all pairs are measured in float64 at once."""

_PAIRS = 2**22
"""Pairs that are compared at once."""

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

_NEARLY, _SETTLED = 0.99, 0.9
"""The share of the variance along a tree's directions, and the least share of rows that a first way has to settle."""

_ON_GPU = 2**26
"""Pairs from which on a GPU is used, where there is one."""


class Index:
    """The nearest of n points (n, D), for any rows (m, D), by Euclidean distance.

    Up to 15 columns scipy's k-d tree finds them, in n log n steps where points are spread over few dimensions. In more
    columns a tree along few directions finds candidates, as long as these are enough. Where they are not, pairs are
    compared, first along few directions where these hold most of the variance. ``points`` may have any floating dtype;
    distances are float64.

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

    def nearest(self, rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Distances (m, k), ascending, and places (m, k) of the ``count`` nearest points, 1 <= k <= n."""
        if self._tree is not None:
            distances, places = self._tree.query(self._moved(rows).numpy(), range(1, count + 1))
            return torch.from_numpy(distances), torch.from_numpy(places)
        ways = self._ways(len(rows))
        # A few rows show first whether the cheapest way will do.
        parts = (rows[:_ROWS], *rows[_ROWS:].split(max(_ROWS, _PAIRS // len(self.points))))
        found = [self._compared(part, count, ways) for part in parts if len(part)]
        distances, places = (torch.cat(parts) for parts in zip(*found, strict=True))
        return distances, places

    def _ways(self, rows: int) -> list[str]:
        """Ways to find candidates, the cheapest first: a ``tree`` along few directions, pairs along a ``few``, ``all``
        columns."""
        pays = self._pays(rows)
        few = pays and self.points.shape[1] >= _REDUCED and self._directions is not None
        return ["tree"] * pays + ["few"] * few + ["all"]

    def _moved(self, rows: Tensor) -> Tensor:
        """Rows about the mean of the points, in float64: far from 0 squares leave no digits of differences."""
        return rows.detach().cpu().double() - self.middle

    def _compared(self, rows: Tensor, count: int, ways: list[str]) -> tuple[Tensor, Tensor]:
        """The nearest of a block of rows: candidates by a lower bound on their squares, measured again.

        A first way that settles too few of the rows is taken out of ``ways``.
        """
        x = self._moved(rows)
        n = len(self.points)
        taken = min(n, count + SPARE)
        if n <= FEW * taken:
            return self._measured(x, count)
        squares, places = x.new_empty(len(x), count), torch.empty(len(x), count, dtype=torch.int64)
        left = torch.arange(len(x))
        for way in tuple(ways):
            looked_at = min(count + count // 3 + 4, taken) if way == "tree" else taken
            least, candidates = self._bounded(x[left], way, looked_at)
            near, at = measured_again(self.points, rows[left], candidates)
            squares[left], places[left] = near[:, :count], at[:, :count]
            left = left[~(least >= near[:, count - 1])]  # also where a bound is no number
            if len(left) > (1 - _SETTLED) * len(x) and way == ways[0] != "all":
                ways.remove(way)
            if len(left) == 0:
                return squares.sqrt(), places
        again = self._measured(x[left], count)
        squares[left], places[left] = again[0].square(), again[1]
        return squares.sqrt(), places

    def _bounded(self, x: Tensor, way: str, taken: int) -> tuple[Tensor, Tensor]:
        """The places (m, k) of candidates for rows about the middle, and the least squared distance (m,) that any other
        point can have."""
        # What rounding may change, as a share of both squared norms: of a sum of so many products and of their factors,
        # as they are rounded (Higham 2002, section 3.1).
        terms = 2 * x.shape[1] + 12
        if way == "tree":
            directions, tree = self._short_tree
            distances, places = tree.query(_along(x, directions).numpy(), range(1, taken + 1))
            # The rest of a row is the root of a difference of sums, so its error is a root as well.
            share = (terms * torch.finfo(torch.float64).eps) ** 0.5
            apart = (1 - share) * torch.from_numpy(distances[:, -1]) - 2 * share * x.norm(dim=1)
            return apart.clamp(min=0).square(), torch.from_numpy(places)
        if reduced := way == "few":
            x = self._reduced(x)
            terms = 2 * x.shape[1] + 12
        share = terms * torch.finfo(torch.float32).eps / 2
        last, places = self._candidates(x, share, taken, reduced)
        # Any other point is at least as far as the last bound says, but for products below the least of float32.
        return last.double() + (1 - share) * x.square().sum(1) - terms * torch.finfo(torch.float32).tiny, places

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
        """Rows (m, D) about the middle along the few directions."""
        assert self._directions is not None
        return _along(x, self._directions)

    def _pays(self, rows: int) -> bool:
        """True if directions are chosen in less time than they save for so many rows."""
        n, columns = self.points.shape
        size = min(columns // _SHORTER, _MOST) if columns >= _REDUCED else TREE_COLUMNS
        return rows * n >= _PAYS * min(n, _LOOKED_AT) * size

    @cached_property
    def _leading(self) -> tuple[Tensor, Tensor]:
        """Orthonormal directions (D, r) of nearly the most variance, most first, and its share along each (r,)."""
        n, columns = self.points.shape
        some = self._moved(self.points[:: -(-n // _LOOKED_AT)])
        directions = some[: max(min(columns // _SHORTER, _MOST), self._branches)].T
        for _ in range(_TURNS):
            directions = torch.linalg.qr(some.T @ (some @ directions)).Q
        along = some @ directions
        shares, turned = torch.linalg.eigh(along.T @ along)
        return directions @ turned.flip(1), shares.flip(0) / some.square().sum()

    @property
    def _branches(self) -> int:
        """The most directions along which a tree is faster than pairs: half as many as doublings make the points."""
        return min(TREE_COLUMNS - 1, int(math.log2(len(self.points))) // 2)

    @cached_property
    def _directions(self) -> Tensor | None:
        """Directions that hold most of the points' variance; None where so few don't."""
        few = min(self.points.shape[1] // _SHORTER, _MOST)
        directions, shares = self._leading
        return directions[:, :few] if float(shares[:few].sum()) > _HELD else None

    @cached_property
    def _short_tree(self) -> tuple[Tensor, Any]:
        """As few directions as hold nearly all variance, at most ``_branches``, and a tree along them."""
        from scipy.spatial import cKDTree

        directions, shares = self._leading
        enough = min(1 + int((shares.cumsum(0) < _NEARLY).sum()), self._branches)
        directions = directions[:, :enough]
        parts = [_along(self._moved(part), directions) for part in self.points.split(SHARD_ROWS)]
        return directions, cKDTree(torch.cat(parts).numpy(), leafsize=32)

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


def _along(x: Tensor, directions: Tensor) -> Tensor:
    """Rows (m, D) about the middle as coordinates along orthonormal directions (D, r), and the size of the rest,
    (m, r + 1).

    Distances of these are at most the distances of the rows, by the triangle inequality for the rest.

    >>> _along(torch.tensor([[1.0, 3.0, 4.0]]), torch.tensor([[1.0], [0.0], [0.0]]))
    tensor([[1., 5.]])
    """
    along = x @ directions
    rest = x.square().sum(1, keepdim=True) - along.square().sum(1, keepdim=True)
    return torch.cat([along, rest.clamp(min=0).sqrt()], 1)


def measured_again(points: Tensor, rows: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distances (m, k), ascending, of rows (m, D) from the points at ``places`` (m, k), and these in order.

    They are sums over differences in float64, so that copies have a distance of 0. Blocks of rows fit into a cache.

    >>> points = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    >>> measured_again(points, points[:1], torch.tensor([[1, 0]]))
    (tensor([[ 0., 25.]], dtype=torch.float64), tensor([[0, 1]]))
    """
    step = max(1, CACHED // max(1, places.shape[1] * points.shape[1]))
    parts = zip(rows.split(step), places.split(step), strict=True)
    squares, ordered = zip(*(_measured_rows(points, *part) for part in parts), strict=True)
    return torch.cat(squares), torch.cat(ordered)


def _measured_rows(points: Tensor, rows: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
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
