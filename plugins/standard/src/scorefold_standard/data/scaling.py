"""Centring and scaling of points in float64, before they become float32, and the values that float32 would merge."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from scorefold.data import EventScale, PerCoordinate, own_centre
from scorefold.errors import DataError
from scorefold.summary import LOOKED_AT
from scorefold_standard.data.table_checks import Rows
from scorefold_standard.data.table_columns import Points
from scorefold_standard.data.table_summary import column_names

Array = npt.NDArray[np.float64]
How = Literal["none", "table", "columns", "robust"]

FAR = 100.0
"""Deviations from 0 at which a column is centred whatever the scale: from there float32 keeps less than 1e-5 of one."""

_QUARTILES_OF_NORMAL = 1.349
_LOST, _GRAVE = 0.05, 0.5  # shares of a column's distinct values that float32 merges
_COMPARED = 20_000  # rows in which values are compared: more of them meet in float32 by chance


@dataclass(frozen=True, eq=False)
class ColumnStatistics:
    """Statistics of each coordinate, (D,) in float64: mean, standard deviation, least and greatest value.

    Where they were measured: the median, and the distance of the quartiles over its value for a standard normal.
    """

    mean: Array
    std: Array
    least: Array
    greatest: Array
    median: Array | None = None
    robust: Array | None = None


def statistics_of(blocks: Iterable[Array], every: int | None = None) -> ColumnStatistics:
    """The statistics of points given in blocks (n, D), at least one row; with ``every`` n, the quartiles of each n-th
    row of a block too."""
    count, mean, squares = 0, np.zeros(1), np.zeros(1)
    least, greatest = np.full(1, np.inf), np.full(1, -np.inf)
    rows: list[Array] = []
    for raw in blocks:
        block = raw.astype(np.float64)
        # Chan et al. (1983): means and squared deviations of parts joined without loss for data far from 0.
        total, own = count + len(block), block.mean(axis=0)
        apart = own - mean
        squares = squares + ((block - own) ** 2).sum(axis=0) + apart**2 * (count * len(block) / total)
        mean, count = mean + apart * (len(block) / total), total
        least, greatest = np.minimum(least, block.min(axis=0)), np.maximum(greatest, block.max(axis=0))
        if every is not None:
            rows.append(block[::every])
    std = np.where(least == greatest, 0.0, np.sqrt(squares / max(count, 1)))
    if every is None:
        return ColumnStatistics(mean, std, least, greatest)
    low, median, high = np.quantile(np.concatenate(rows), [0.25, 0.5, 0.75], axis=0)
    return ColumnStatistics(mean, std, least, greatest, median, (high - low) / _QUARTILES_OF_NORMAL)


def scale_of_points(
    found: ColumnStatistics,
    how: How,
    *,
    vectors: bool,
    low: float | None = None,
    high: float | None = None,
    levels: int | None = None,
) -> EventScale:
    """The units of events whose raw coordinates have these statistics, for a ``scale`` of the config.

    ``vectors`` says that events are vectors without bounds, whose columns are centred one by one; images and bounded
    data have one shift and one factor.
    """
    bounded = low is not None or high is not None
    if vectors:
        shift, factor = _of_columns(found, how)
    else:
        common = _deviation(found.mean, found.std, bounded) or 1.0
        far = max(abs(found.least.min()), abs(found.greatest.max())) > FAR * common and bool(found.std.any())
        shift = float(found.mean.mean()) if how != "none" or (far and not bounded) else 0.0
        factor = 1.0 if how == "none" else common
    mean, std = (found.mean - np.asarray(shift)) / np.asarray(factor), found.std / np.asarray(factor)
    whole, deviation = float(mean.mean()), _deviation(mean, std, bounded)
    return EventScale(
        low=None if low is None else float((low - np.asarray(shift)) / np.asarray(factor)),
        high=None if high is None else float((high - np.asarray(shift)) / np.asarray(factor)),
        levels=levels,
        mean=whole,
        std=deviation or 1.0,
        shift=shift,
        factor=factor,
        centre=own_centre(mean.tolist(), whole, deviation) if vectors else None,
    )


def _of_columns(found: ColumnStatistics, how: How) -> tuple[PerCoordinate, PerCoordinate]:
    if how == "none":
        far = np.maximum(np.abs(found.least), np.abs(found.greatest)) > FAR * found.std
        shift = np.where(far & (found.std > 0), found.mean, 0.0)
        return tuple(shift.tolist()) if shift.any() else 0.0, 1.0
    if how == "table":
        return tuple(found.mean.tolist()), _root_mean_square(found.std) or 1.0
    middle, size = found.mean, found.std
    if how == "robust":
        assert found.median is not None
        assert found.robust is not None
        middle, size = found.median, found.robust
    size = np.where(size > 0, size, found.std)
    return tuple(middle.tolist()), tuple(np.where(size > 0, size, 1.0).tolist())


def _deviation(mean: Array, std: Array, bounded: bool) -> float:
    """The deviation of an ``EventScale`` from the means and deviations of coordinates."""
    return _root_mean_square(np.hypot(std, mean - mean.mean()) if bounded else std)


def _root_mean_square(values: Array) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _distinct(values: Array) -> int:
    """The number of different values (N,), but for differences that rounding makes: a sine's of equal phases."""
    found = np.unique(values)
    if found.dtype.kind != "f":
        return len(found)
    low, high = np.quantile(values, (0.05, 0.95))
    return 1 + int(np.count_nonzero(np.diff(found) > _ROUNDING * (high - low)))


_ROUNDING = 1e-12


def refuse_merged(
    points: Points, rows: Rows, scale: EventScale, names: Sequence[str] | None, path: Path
) -> dict[int, tuple[int, int]]:
    """The columns of vectors whose distinct values float32 merges, more than 5 % of them.

    Raises ``DataError`` for one that loses more than half.
    """
    exact = (points.dtype.kind in "iub" and points.dtype.itemsize <= 2) or points.dtype in (np.float16, np.float32)
    if points.ndim != 2 or (exact and scale == replace(scale, shift=0.0, factor=1.0)):
        return {}
    few = rows[:: max(1, len(rows) // min(_COMPARED, max(2, LOOKED_AT // points.shape[1])))]
    before = np.asarray(points[few])  # in its own type: float64 merges whole numbers beyond 2**53
    after = scale.from_raw(torch.from_numpy(before.astype(np.float64))).float().numpy()
    found: dict[int, tuple[int, int]] = {}
    for column in range(points.shape[1]):
        counts = _distinct(before[:, column]), len(np.unique(after[:, column]))
        lost = counts[0] - counts[1]
        if lost > _GRAVE * counts[0]:
            name = column_names(names, points.shape[1])[column]
            raise DataError(
                f"float32 would merge the {counts[0]:,} distinct values of column {name!r} of {path} into "
                f"{counts[1]:,}: they lie too close together for how far the column reaches",
                hint="scale: robust separates them where a few rows lie far out; or leave these rows or the column out",
            )
        if lost > _LOST * counts[0]:
            found[column] = counts
    return found
