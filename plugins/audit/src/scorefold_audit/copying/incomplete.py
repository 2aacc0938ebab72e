"""Samples and training points with missing values: they are compared in the columns that they have."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from scorefold.data import Dataset
from scorefold.errors import DataError
from scorefold_audit.config import AuditOptions
from scorefold_audit.copying import nearest as copies
from scorefold_audit.copying.nearest import (
    NEIGHBOURS,
    CopyNeighbours,
    CopySearch,
    Near,
    Numbers,
    Rates,
    duplicate_distance,
)
from scorefold_audit.copying.spaces import GAPS, GAPS_OF_BOTH, TRAINING_GAPS, SpaceMatches, column_units, need_points
from scorefold_audit.sets import Sets, column_order
from scorefold_toolkit.data.splits import HasIncompleteRows

_MOST, _AT_MOST = 500, 1e9
"""The most samples, and the most held-out points, that are compared, and the most numbers of training points times
these."""

_FEWEST_PRESENT, _FEWEST = 2, 100

_TRIED = 3
"""Training points with missing values that a point with some is compared with in full."""

_ROUNDING = 4 * float(np.finfo(np.float32).eps)
_Floats = NDArray[np.floating]


IncompleteName = Literal["samples", "training"]


@dataclass(frozen=True)
class IncompletePoints:
    """The points of ``name``, samples or training, that were left out for missing values: their ``count``, how many of
    them have ``few`` values, one or none, and the ``sets`` with others, drawn at random where there are many, in place
    of the complete points."""

    count: int
    few: int
    sets: Sets
    name: IncompleteName

    @property
    def compared(self) -> str:
        """Text about the number of them that are compared; empty where these are all."""
        known, shown = self.count - self.few, len(getattr(self.sets, self.name))
        return "" if shown == known else f"{shown:,} of {known:,} were drawn at random and compared"


def incomplete_points(sets: Sets, source: object, name: IncompleteName, seed: int) -> IncompletePoints | None:
    """The points (m, D) of a source that were left out for missing values, NaN where a value is missing; None without
    any. A point of one value is like many others, and is not compared."""
    if not isinstance(source, HasIncompleteRows):
        return None
    index, rows = source.incomplete_rows()
    if not len(rows):
        return None
    order = column_order(name, source, sets.columns)
    rows = rows if order is None else rows[:, order]
    rows = rows.where(rows.isfinite(), torch.nan)
    known = (~rows.isnan()).sum(1) >= _FEWEST_PRESENT
    drawn = np.sort(np.random.default_rng(seed).permutation(known.nonzero()[:, 0].numpy())[: _most(sets)])
    points = Dataset(sets.scale.from_raw(rows[drawn]).float(), index=index[drawn])
    others = replace(sets, groups=None)
    others = replace(others, samples=points) if name == "samples" else replace(others, training=points)
    return IncompletePoints(len(rows), int((~known).sum()), others, name)


def _most(sets: Sets) -> int:
    return max(_FEWEST, min(_MOST, int(_AT_MOST / max(1, sets.training.x.numel()))))


def gap_copies(sets: Sets, options: AuditOptions, seed: int) -> SpaceMatches:
    """Comparison of these samples with held-out points that have the gaps of one of them each, drawn at random, as
    ``copying`` compares complete ones.

    Raises ``DataError`` for fewer than 20 held-out or training points.
    """
    random = np.random.default_rng(seed)
    training, held_out, rows = (each.x.flatten(1).numpy() for each in (sets.training, sets.held_out, sets.samples))
    need_points({"held-out points": held_out, "training points": training})
    unit = _units(training, options)
    held_out = held_out[random.permutation(len(held_out))[: _most(sets)]]
    with_gaps = _with_gaps_of(rows, held_out, random)
    training, complete = (np.asarray(each / unit, dtype=np.float32) for each in (training, held_out))
    search = CopySearch(training)
    whole = Near.of(search, CopyNeighbours.of(search, complete))
    duplicate = duplicate_distance(whole.distance, whole.ratio)
    near, other = (nearest_with_gaps(each, training, duplicate) for each in (rows / unit, with_gaps / unit))
    return _matches(GAPS, near, other, options)


def _with_gaps_of(rows: _Floats, points: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    """Points (h, D) with the gaps of one of some rows (m, D) each, drawn at random."""
    found = points.copy()
    found[np.isnan(rows[random.permutation(len(rows))[np.arange(len(points)) % len(rows)]])] = np.nan
    return found


def copies_of_gaps(sets: Sets, complete: Dataset, options: AuditOptions, seed: int = 0) -> tuple[SpaceMatches, int]:
    """Comparison of samples, and of held-out points, with training points (r, D) that are NaN where a value is missing.
    ``complete`` are the others. A point that one of them repeats in its columns is left out: their number is the second
    answer.

    Samples (m, D) may be NaN too. They are compared in the columns that both have, and held-out points get the gaps of
    one of them each, by ``seed``.

    Raises ``DataError`` for fewer than 20 samples, held-out or complete training points, and where all are repeated.
    """
    samples, held_out, training = (each.x.flatten(1).numpy() for each in (sets.samples, sets.held_out, complete))
    need_points({"samples": samples, "held-out points": held_out, "training points": training})
    space = TRAINING_GAPS
    if np.isnan(samples).any():
        random, space = np.random.default_rng(seed), GAPS_OF_BOTH
        held_out = _with_gaps_of(samples, held_out[random.permutation(len(held_out))[: _most(sets)]], random)
    unit = _units(training, options)
    rows, others = sets.training.x.numpy() / unit, training / unit
    rounding = _ROUNDING * np.abs(others).max(0)
    own = np.array([_apart(others, row, rounding).min() for row in rows])
    if not (own > 0).any():
        raise DataError(f"each of these {len(rows)} points is repeated by a complete one in the columns that it has")
    if space == GAPS_OF_BOTH:
        near, other = (_nearest_in_common(each / unit, rows, own, others, rounding) for each in (samples, held_out))
    else:
        near, other = (_nearest_of_gaps(each / unit, rows, own, rounding) for each in (samples, held_out))
    return _matches(space, near, other, options), int((own == 0).sum())


def _nearest_of_gaps(points: _Floats, rows: _Floats, own: _Floats, rounding: _Floats) -> Near:
    """The nearest row (r, D) of each of some points (m, D), in the columns that the row has, relative to the distance
    ``own`` (r,) of the row from another row; rows without any are left out."""
    distance, index, ratio = (np.full(len(points), value) for value in (np.inf, 0, np.inf))
    for place in np.flatnonzero(own > 0):
        found = _apart(points, rows[place], rounding)
        nearer = found / own[place] < ratio
        distance[nearer], index[nearer], ratio[nearer] = found[nearer], place, found[nearer] / own[place]
    return Near(distance, index.astype(np.int64), ratio)


def _nearest_in_common(points: _Floats, rows: _Floats, own: _Floats, others: _Floats, rounding: _Floats) -> Near:
    """The nearest row (r, D) of each of some points (m, D), in the columns that both have, relative to the distance of
    the row from the nearest of ``others`` (n, D) in these columns. These are two at least.

    A few rows are tried for a point: the nearest relative to ``own`` (r,), with distances scaled up to all columns of
    the row, and of equally near ones those with the most columns. A row that one of ``others`` repeats is left out.
    """
    known, present = ~np.isnan(rows), ~np.isnan(points)
    found = np.full((len(points), len(rows)), np.inf)
    common = present.astype(np.int64) @ known.T.astype(np.int64)
    for place in (own > 0).nonzero()[0]:
        scaled = np.sqrt(known[place].sum() / np.maximum(common[:, place], 1)) / own[place]
        found[:, place] = scaled * _apart(points, rows[place], rounding)
    found[common < _FEWEST_PRESENT] = np.inf
    tried = np.lexsort((-common, found), axis=1)[:, :_TRIED]
    distance, index, ratio = (np.full(len(points), value) for value in (np.inf, 0, np.inf))
    pairs = ((point, place) for point, places in enumerate(tried) for place in places)
    for point, place in pairs:
        if np.isinf(found[point, place]):
            continue
        row = np.where(present[point], rows[place], np.nan)
        away, apart = _apart(points[point : point + 1], row, rounding)[0], _apart(others, row, rounding).min()
        if apart > 0 and away / apart < ratio[point]:
            distance[point], index[point], ratio[point] = away, place, away / apart
    return Near(distance, index.astype(np.int64), ratio)


def _apart(points: _Floats, row: _Floats, rounding: _Floats) -> Numbers:
    """Distances (m,) of points (m, D) from a row (D,) in the columns that it has; up to ``rounding`` they count as 0.

    >>> _apart(np.array([[1.0, 2.0, 7.0]]), np.array([1.0, np.nan, 3.0]), np.zeros(3))
    array([4.])
    """
    present = ~np.isnan(row)
    apart: Numbers = np.abs(points[:, present].astype(np.float64) - row[present])
    apart[~(apart > rounding[present])] = 0  # NaN too: a column that a point lacks
    found: Numbers = np.linalg.norm(apart, axis=1)
    return found


def _units(training: NDArray[np.float32], options: AuditOptions) -> NDArray[np.float32]:
    return column_units(training) if options.scale == "columns" else np.ones(training.shape[1], dtype=np.float32)


def _matches(space: str, near: Near, other: Near, options: AuditOptions) -> SpaceMatches:
    p = copies.p_values(near.ratio, other.ratio)
    count = [int((each.ratio < copies.RATIO).sum()) for each in (near, other)]
    rates = Rates(count[0], len(near.ratio), count[1], len(other.ratio))
    return SpaceMatches(space, near, other, rates, p, copies.named_copies(p, options.listed))


def nearest_with_gaps(rows: NDArray[np.floating], points: NDArray[np.floating], duplicate: float = 0.0) -> Near:
    """The nearest of n points (n, D) of each row (m, D), NaN where a value is missing, in the columns that it has.

    The next point is as far as ``duplicate`` from it in all columns, and another one in these.

    >>> nan = float("nan")
    >>> near = nearest_with_gaps(np.array([[1, nan, 3]]), np.array([[1, 2, 3], [1, 9, 7], [5, 2, 3]]))
    >>> near.distance, near.index, near.ratio
    (array([0.]), array([0]), array([0.]))
    """
    rounding = _ROUNDING * np.abs(points).max(0)
    distance, index, second = np.empty(len(rows)), np.empty(len(rows), dtype=np.int64), np.empty(len(rows))
    for place, row in enumerate(rows):
        present, found = ~np.isnan(row), _apart(points, row, rounding)
        around = np.argpartition(found, min(NEIGHBOURS, len(points)) - 1)[:NEIGHBOURS]
        around = around[np.argsort(found[around], kind="stable")]
        away = np.abs(points[around].astype(np.float64) - points[around[0]])
        others = (np.linalg.norm(away, axis=1) > duplicate) & (away > rounding)[:, present].any(axis=1)
        # Where all are duplicates of the first, the last one serves.
        next_one = around[others.argmax() if others.any() else -1]
        index[place], distance[place], second[place] = around[0], found[around[0]], found[next_one]
    ratio = np.divide(distance, second, out=np.zeros_like(second), where=second > 0)
    return Near(distance, index, ratio)
