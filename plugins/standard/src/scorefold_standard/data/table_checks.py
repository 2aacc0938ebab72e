"""Checks of a table before it becomes points: gaps, copies, bounds, labels and conditions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scorefold.data import ConditionSpec, TensorSpec
from scorefold.errors import ConfigError, DataError
from scorefold_standard.config.data import ArrayConfig
from scorefold_standard.data.stored import Array, StoredPoints
from scorefold_standard.data.table_columns import Points, Table

Rows = npt.NDArray[np.int64]
_LARGEST = float(np.finfo(np.float32).max)  # events are float32
_OFF_LEVEL = 0.01  # in steps between levels: far above the rounding of float32, far below half a step
_BLOCK = 2**20  # entries looked at once, so that stored points never have to fit in memory


@dataclass(frozen=True, eq=False)
class Kept:
    """The rows of a file that are used: their places (n,) in order, and how many others had gaps or were copies."""

    rows: Rows
    incomplete: int = 0
    dropped_copies: int = 0


def shaped(points: Points, config: ArrayConfig, path: Path) -> Points:
    """The points (N, *E) as the config shapes them. Raises ``DataError`` and ``ConfigError`` where they have no such
    shape."""
    if points.dtype.kind not in "fiub":
        hint = "save real numbers, such as points.astype('float32')"
        raise DataError(f"{path} holds values of type {points.dtype}; expected real numbers", hint=hint)
    if points.ndim < 2:
        raise DataError(
            f"{path} holds an array of shape {points.shape}; expected (N, ...), one point a row",
            hint="for N numbers, save points[:, None]",
        )
    if points.shape[0] == 0 or 0 in points.shape:
        raise DataError(f"{path} holds an array of shape {points.shape}, which has no points")
    if config.event_shape is None:
        return points
    if int(np.prod(config.event_shape)) != int(np.prod(points.shape[1:])):
        raise ConfigError(
            f"event_shape {config.event_shape} has {int(np.prod(config.event_shape))} coordinates; "
            f"a row of {path} has {int(np.prod(points.shape[1:]))}"
        )
    return points.reshape(len(points), *config.event_shape)


def blocks(points: Points, rows: Rows | None = None) -> Iterator[tuple[int, Array]]:
    """The points, or those at some rows, flattened to (n, D) a block, each with the place of its first one."""
    count = len(points) if rows is None else len(rows)
    size = max(1, _BLOCK // max(1, int(np.prod(points.shape[1:]))))
    for start in range(0, count, size):
        part = points[start : start + size] if rows is None else points[rows[start : start + size]]
        yield start, np.asarray(part).reshape(len(part), -1)


def row_name(points: Points, row: int | np.int64) -> str:
    """A row for an error, with its file where there are several."""
    return points.where(int(row)) if isinstance(points, StoredPoints) else str(row)


def kept_rows(points: Points, table: Table, config: ArrayConfig, path: Path) -> Kept:
    """The rows to use, perhaps none. Raises ``DataError`` for gaps where they are refused."""
    whole = np.concatenate([(np.abs(block.astype(np.float64)) <= _LARGEST).all(axis=1) for _, block in blocks(points)])
    bad = np.flatnonzero(~whole)
    if len(bad) and config.missing == "refuse":
        shown = ", ".join(row_name(points, int(row)) for row in bad[:5]) + (
            f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        )
        raise DataError(
            f"{path} holds NaN, infinity, empty fields or numbers beyond {_LARGEST:.2g} in "
            f"row{'s' * (len(bad) > 1)} {shown} (rows count from 0)",
            hint="missing: drop leaves these rows out; or fill them in",
        )
    if config.missing == "drop":
        whole &= _present(table, len(points), path)
    rows = np.flatnonzero(whole)
    incomplete, copies = len(points) - len(rows), 0
    if config.duplicates == "drop" and len(rows):
        first = np.sort(np.unique(digests(points, rows), return_index=True)[1])
        rows, copies = rows[first], len(rows) - len(first)
    return Kept(rows, incomplete, copies)


def _present(table: Table, count: int, path: Path) -> npt.NDArray[np.bool_]:
    """The rows (N,) that have a label and a condition, where the file has any."""
    import pandas as pd

    found = np.ones(count, dtype=bool)
    for values, what in ((table.label, "label"), (table.condition, "condition")):
        if values is not None:
            gaps = pd.isna(of_rows(values, what, count, path))
            found &= ~gaps.reshape(count, -1).any(axis=1)
    return found


def digests(points: Points, rows: Rows) -> npt.NDArray[np.uint64]:
    """A hash of each of some rows (n,): the same for exact copies, and for others different almost surely."""
    found = []
    for _, block in blocks(points, rows):
        # Adding 0 makes -0.0 and 0.0 one.
        plain = np.ascontiguousarray(block + block.dtype.type(0)) if block.dtype.kind == "f" else block.copy()
        found.append(b"".join(hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in plain))
    return np.frombuffer(b"".join(found), dtype=np.uint64)


def check_bounds(points: Points, rows: Rows, config: ArrayConfig, path: Path) -> None:
    """Raises ``DataError`` for values that are not what ``low``, ``high`` and ``levels`` say."""
    if config.low is None and config.high is None:
        return
    low = -np.inf if config.low is None else config.low
    high = np.inf if config.high is None else config.high
    for start, block in blocks(points, rows):
        outside = np.flatnonzero(np.any((block < low) | (block > high), axis=1))
        if len(outside):
            raise DataError(
                f"row {row_name(points, rows[start + outside[0]])} of {path} holds values from "
                f"{block[outside[0]].min():g} to {block[outside[0]].max():g}; low and high say [{low:g}, {high:g}]",
                hint="set low and high to the range of the values",
            )
        if config.levels is None or config.low is None or config.high is None:
            continue
        steps = (block.astype(np.float64) - config.low) * ((config.levels - 1) / (config.high - config.low))
        between = np.flatnonzero(np.any(np.abs(steps - np.round(steps)) > _OFF_LEVEL, axis=1))
        if len(between):
            raise DataError(
                f"row {row_name(points, rows[start + between[0]])} of {path} holds values that are none of the "
                f"{config.levels} levels from {low:g} to {high:g}",
                hint="set levels to how many values there are (256 for bytes from 0 to 255), or leave it out",
            )


def of_rows(values: Array, what: str, count: int, path: Path) -> Array:
    """Values of which each point has one. Raises ``DataError`` where they are not as many."""
    if values.ndim == 0 or len(values) != count:
        raise DataError(f"the {what} in {path} has shape {values.shape}; there are {count} points")
    return values


def classes(label: Array) -> tuple[Tensor, tuple[str, ...]]:
    """Labels of any type as the classes 0, 1, ... in sorted order, (N,), with what each of them is called."""
    import pandas as pd

    if label.ndim != 1:
        raise DataError(f"the labels have shape {label.shape}; expected (N,)")
    missing = np.flatnonzero(pd.isna(label))
    if len(missing):
        raise DataError(f"row {int(missing[0])} has no label (rows count from 0)", hint="remove the row or fill it in")
    found, codes = np.unique(label.astype(str) if label.dtype.kind == "O" else label, return_inverse=True)
    called = tuple(f"{value:.15g}" if label.dtype.kind == "f" else str(value) for value in found)
    return torch.from_numpy(codes).long(), called


def conditions(values: Array | None, count: int, path: Path) -> tuple[Tensor | None, ConditionSpec | None]:
    """The condition of each point in float32 with its spec. Raises ``DataError`` for one that isn't finite numbers."""
    if values is None:
        return None, None
    values = of_rows(values, "condition", count, path)
    if values.dtype.kind not in "fiub" or not np.isfinite(values).all():
        raise DataError(f"the condition in {path} isn't made of finite real numbers")
    condition = torch.from_numpy(np.array(values, dtype=np.float32))
    if condition.dim() == 1:
        condition = condition[:, None]
    return condition, TensorSpec(tuple(condition.shape[1:]))
