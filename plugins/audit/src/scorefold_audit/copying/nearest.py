"""Nearest training points, and statistics of them: copies, closeness, and points nearer than chance would have them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import binom, binomtest, false_discovery_control, hypergeom, mannwhitneyu, norm
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from scorefold_toolkit.distances import CACHED
from scorefold_toolkit.index import Index, measured_again

Numbers = NDArray[np.float64]
Rows = NDArray[np.float32]
Places = NDArray[np.int64]

LARGE = 100_000
"""Points from which on faiss pays."""

NEIGHBOURS = 10
"""Number of neighbours in the search for one that does not duplicate the first."""

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

        Distances are computed from differences in float64, after faiss again. So copies have a distance of 0, and not
        the rounding error of a difference of large squares.
        """
        count = min(count, len(self.points))
        if self._index is None:
            near = self._found.nearest(torch.from_numpy(queries), count)
            return near[0].numpy(), near[1].numpy()
        rows, points = torch.from_numpy(queries), torch.from_numpy(self.points)
        found = torch.from_numpy(self._index.search(np.ascontiguousarray(queries), count)[1])
        squares, ordered = measured_again(points, rows, found)
        return squares.sqrt().numpy(), ordered.numpy()

    def around(self, places: Places, count: int) -> CopyNeighbours:
        """The ``count`` nearest points of the points at these places (k,). Each point finds itself, or a copy of it."""
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

    def without(self, places: Places) -> CopyNeighbours:
        """The neighbours of points that stand at these places (m,) themselves, without them: one column less."""
        own = self.index == places[:, None]
        own[~own.any(1), -1] = True  # more copies of a point than neighbours: it is not among them
        kept = (len(own), own.shape[1] - 1)
        return CopyNeighbours(self.distances[~own].reshape(kept), self.index[~own].reshape(kept))

    def apart(self, places: Places) -> Numbers:
        """The distance (m,) of points that stand at these places (m,) themselves from their nearest other point."""
        # A duplicate may come before the point itself: then both distances are 0.
        second = min(1, self.index.shape[1] - 1)
        return np.where(self.index[:, 0] == places, self.distances[:, second], self.distances[:, 0])


@dataclass(frozen=True)
class Near:
    """The nearest training point of each of m points: its ``distance`` (m,), its place ``index`` (m,), and a ``ratio``.

    The ``ratio`` (m,) is ``distance`` over the distance of the next training point, duplicates of the nearest aside.
    """

    distance: Numbers
    index: Places
    ratio: Numbers

    def take(self, rows: NDArray[np.bool_]) -> Near:
        return Near(self.distance[rows], self.index[rows], self.ratio[rows])

    @classmethod
    def of(cls, search: CopySearch, neighbours: CopyNeighbours, duplicate: float = 0.0, alone: bool = False) -> Near:
        """``duplicate`` is the distance up to which two training points count as one.

        With ``alone`` the ratio is 1 where the nearest training point has such a duplicate: being near to one of a kind
        is no copying.
        """
        distances, index = neighbours.distances, neighbours.index
        second, several = np.empty(len(index)), np.zeros(len(index), dtype=bool)
        step = max(1, CACHED // (index.shape[1] * max(1, search.points.shape[1])))
        for start in range(0, len(index), step):
            rows = slice(start, start + step)
            points = search.points[index[rows]].astype(np.float64)
            apart = np.linalg.norm(points - points[:, :1], axis=2) > duplicate
            several[rows] = alone and points.shape[1] > 1 and ~apart[:, 1]
            # Where all are duplicates of the first, the last one serves.
            first = np.where(apart.any(1), apart.argmax(1), index.shape[1] - 1)
            second[rows] = np.take_along_axis(distances[rows], first[:, None], 1)[:, 0]
        nearest = distances[:, 0]
        ratio = np.divide(nearest, second, out=np.zeros_like(second), where=second > 0)
        ratio[several] = 1.0
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


RATIO = 1 / 3
"""A sample whose nearest training point is three times as near as the next one counts as a copy (Yoon et al. 2023)."""

_CELLS, _WIDEST, _FEWEST_IN_CELL, _FITTED = 3, 64, 20, 10_000


@dataclass(frozen=True)
class Rates:
    """Counts among samples and among held-out points, and the sizes of both sets."""

    samples: int
    of_samples: int
    held_out: int
    of_held_out: int

    @property
    def sample_rate(self) -> float:
        return self.samples / self.of_samples

    @property
    def held_out_rate(self) -> float:
        return self.held_out / self.of_held_out

    def p_more(self) -> float:
        """The chance of so many or more among the samples if both sets had one rate (Fisher's exact test)."""
        return float(self._tail(self.samples))

    def p_fewer(self) -> float:
        """The chance of so few or fewer."""
        both, every = self.samples + self.held_out, self.of_samples + self.of_held_out
        return float(hypergeom.cdf(self.samples, every, both, self.of_samples))

    def _tail(self, samples: int | Places) -> Numbers:
        both, every = samples + self.held_out, self.of_samples + self.of_held_out
        tail: Numbers = hypergeom.sf(samples - 1, every, both, self.of_samples)
        return tail

    def excess(self) -> float:
        """(f_Q - f_H) / (1 - f_H): the share of samples that are copies, where each copy is seen."""
        rest = 1 - self.held_out_rate
        return (self.sample_rate - self.held_out_rate) / rest if rest > 0 else 0.0

    def interval(self) -> tuple[float, float]:
        """A 95 % interval of the excess: Newcombe's for a difference, from the Wilson intervals of both rates."""
        rest = 1 - self.held_out_rate
        if rest <= 0:
            return (0.0, 1.0)
        low_q, high_q = _wilson(self.samples, self.of_samples)
        low_h, high_h = _wilson(self.held_out, self.of_held_out)
        apart = self.sample_rate - self.held_out_rate
        below = math.hypot(self.sample_rate - low_q, high_h - self.held_out_rate)
        above = math.hypot(high_q - self.sample_rate, self.held_out_rate - low_h)
        return (apart - below) / rest, min(1.0, (apart + above) / rest)

    def detectable(self, level: float, power: float = 0.8) -> float | None:
        """The least share of copies that a test at this level finds with this chance; None where it can't be."""
        counts = np.arange(self.of_samples + 1)
        found = counts[self._tail(counts) <= level]
        if not len(found):
            return None
        # The least count that is significant among these samples, and the share of copies that reaches it often enough.
        needed, rate = int(found[0]), self.held_out_rate

        def missing(share: float) -> float:
            return float(binom.sf(needed - 1, self.of_samples, rate + share * (1 - rate))) - power

        return 0.0 if missing(0) >= 0 else float(brentq(missing, 0, 1))


def _wilson(count: int, of: int) -> tuple[float, float]:
    ends = binomtest(count, of).proportion_ci(0.95, method="wilson")
    return float(ends.low), float(ends.high)


@dataclass(frozen=True)
class Closeness:
    """Comparison of the distances of samples and of held-out points to their nearest training points.

    ``area`` is the chance that a sample is the nearer one, ties half (1/2 for both alike); ``z`` is Z_U of Meehan et
    al. 2020, standard normal for equal distributions given the training points, far below 0 for copies.
    """

    area: float
    interval: tuple[float, float]
    z: float

    @property
    def p(self) -> float:
        """The chance of so small a z."""
        return float(norm.cdf(self.z))


def closeness(samples: Numbers, held_out: Numbers) -> Closeness:
    """Closeness of samples by distances (m,) and (h,)."""
    m, h = len(samples), len(held_out)
    area = 1 - _above(samples, held_out) / (m * h)
    return Closeness(area, area_interval(area, m, h), z_of(samples, held_out))


def z_of(samples: Numbers, held_out: Numbers) -> float:
    """Z_U = (U - hm/2 + 1/2) / sqrt(hm (h + m + 1) / 12), U the pairs in which the sample is farther, ties half.

    Of distances (m,) and (h,) (Meehan et al. 2020).

    >>> round(z_of(np.zeros(500), np.ones(500)), 2)
    -27.37
    """
    m, h = len(samples), len(held_out)
    return (_above(samples, held_out) - h * m / 2 + 0.5) / math.sqrt(h * m * (h + m + 1) / 12)


def _above(samples: Numbers, held_out: Numbers) -> float:
    """U, the number of pairs in which the sample's distance is the larger one, ties half."""
    return float(mannwhitneyu(samples, held_out, method="asymptotic").statistic)


def area_interval(area: float, m: int, h: int) -> tuple[float, float]:
    """A 95 % interval of an area under the ROC curve of m and h points (Hanley and McNeil 1982)."""
    first, second = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (m - 1) * (first - area**2) + (h - 1) * (second - area**2)
    error = 1.96 * math.sqrt(max(variance, 0.0) / (m * h))
    return max(0.0, area - error), min(1.0, area + error)


def by_cells(training: Rows, samples: Rows, held_out: Rows, near: Near, near_held_out: Near, seed: int) -> float | None:
    """C_T of Meehan et al. 2020: the mean of Z_U over k-means cells of the training points, by their share of held-out
    points; None where no cell has enough samples and held-out points.

    64 principal directions at most, 3 cells, those with more than 20 samples; cells are found from 10,000 training
    points at most.
    """
    if len(training) > _FITTED:
        training = training[np.random.default_rng(seed).permutation(len(training))[:_FITTED]]
    if training.shape[1] > _WIDEST:
        directions = PCA(min(_WIDEST, len(training)), random_state=seed).fit(training)
        training, samples, held_out = (directions.transform(each) for each in (training, samples, held_out))
    cells = KMeans(min(_CELLS, len(np.unique(training, axis=0))), n_init=3, random_state=seed).fit(training)
    of_samples, of_held_out = cells.predict(samples), cells.predict(held_out)
    total = weight = 0.0
    for cell in range(cells.n_clusters):
        q, y = near.distance[of_samples == cell], near_held_out.distance[of_held_out == cell]
        if len(q) > _FEWEST_IN_CELL and len(y) > 0:
            total += len(y) / len(held_out) * z_of(q, y)
            weight += len(y) / len(held_out)
    return total / weight if weight else None


def authentic(search: CopySearch, near: Near, near_held_out: Near) -> Rates:
    """Number of points farther from their nearest training point than this is from its own (Alaa et al. 2022)."""
    places = np.unique(np.concatenate([near.index, near_held_out.index]))
    own = search.own(places)

    def count(each: Near) -> int:
        return int((each.distance > own[np.searchsorted(places, each.index)]).sum())

    return Rates(count(near), len(near.index), count(near_held_out), len(near_held_out.index))


@dataclass(frozen=True)
class Nearer:
    """The share of samples that are nearer to training than to held-out points, what it is for samples of equal
    distribution, and the chance of as large a share there, over all ways to name the points training and held-out."""

    share: float
    expected: float
    p: float


def nearer_to_training(near: Near, distance: Numbers, index: Places, n: int, h: int) -> Nearer:
    """The share of samples that are nearer to a training point than to any held-out point, with its p-value.

    ``distance`` (m,) is the distance of the nearest held-out point, and ``index`` (m,) its place. Ties count as
    held-out.

    With p = n / (n + h) the share has mean p and, for w_i the share of samples whose nearest is point i of all N,
    variance p (1 - p) N / (N - 1) (sum w_i^2 - 1 / N).
    """
    to_training = near.distance < distance
    share, every = float(to_training.mean()), n + h
    expected = n / every
    nearest = np.where(to_training, near.index, n + index)
    weights = np.bincount(nearest, minlength=every) / len(distance)
    variance = expected * (1 - expected) * every / (every - 1) * (float((weights**2).sum()) - 1 / every)
    p = float(norm.sf((share - expected) / math.sqrt(variance))) if variance > 0 else 1.0
    return Nearer(share, expected, p)


def p_values(ratio: Numbers, held_out: Numbers) -> Numbers:
    """The share (m,) of held-out ratios (h,) that are no larger, the sample itself counted: conformal p-values."""
    below = np.searchsorted(np.sort(held_out), ratio, side="right")
    return (1 + below) / (len(held_out) + 1)


def named_copies(p: Numbers, share: float) -> Places:
    """The places of the samples that are named as copies, the surest first: Benjamini and Hochberg's procedure.

    ``share`` is the expected share of false ones among them (Bates et al. 2023, for conformal p-values).
    """
    order = np.argsort(p, kind="stable")
    found: Places = order[false_discovery_control(p)[order] <= share]
    return found


def fewest_named(m: int, h: int, share: float) -> int:
    """Smallest number of copies among m samples for which any are named, with h held-out points.

    >>> fewest_named(500, 500, 0.1), fewest_named(1000, 10_000, 0.1)
    (10, 1)
    """
    return max(1, math.ceil(m / (share * (h + 1)) - 1e-9))
