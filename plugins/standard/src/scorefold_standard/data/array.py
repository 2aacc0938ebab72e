"""Points from files of numbers, in memory or read as they are needed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scorefold.artefacts import digest_file, digest_folder
from scorefold.data import ConditionSpec, Dataset, StreamedDataset, TensorSpec
from scorefold.errors import ConfigError, DataError
from scorefold.interfaces import DataSource
from scorefold.seeds import derive_generator
from scorefold.summary import DataSummary, without
from scorefold_standard.data.config import ArrayConfig
from scorefold_standard.data.scaling import refuse_merged, scale_of_points, statistics_of
from scorefold_standard.data.stored import Array, StoredPoints, digest_files
from scorefold_standard.data.table_checks import (
    Rows,
    blocks,
    check_bounds,
    kept_rows,
    name_of_row,
    of_rows,
    shaped_points,
    units_warning,
)
from scorefold_standard.data.table_columns import NumberTable, Points
from scorefold_standard.data.table_files import read_table
from scorefold_standard.data.table_summary import column_names, inspect_table, summarise_table
from scorefold_toolkit.data.splits import pick, source_seed, split_positions

_QUARTILE_NUMBERS = 2**22
_FETCHED_NUMBERS = 2**20  # that are in float64 at once


class ArrayFile(DataSource):
    """The rows of files as events, centred and scaled in float64, then float32.

    Npy and parquet files, Zarr arrays and saved datasets that are larger than ``memory`` are streamed in blocks
    (``StoredPoints``). Labels become the classes 0, 1, ... in sorted order. ``index`` is the row, from 0, in the order
    of the files. Raises ``DataError`` for a file that is missing, isn't
    numeric, holds NaN, infinity or numbers beyond single precision (unless ``missing: drop``), or has too few rows,
    for values that are not what ``low``, ``high`` and ``levels`` say, and for a column most of whose values float32
    would merge.

    >>> import tempfile
    >>> import numpy as np
    >>> from scorefold_registry import Host
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/points.npy", np.arange(40.0).reshape(20, 2))
    ...     table = Host.discover().create("data:array", {"path": f"{folder}/points.npy", "scale": "table"})
    ...     table.load("train")
    Dataset(16 of shape (2,), index)
    >>> table.event_scale.factor > 1
    True
    """

    def __init__(self, config: ArrayConfig, *, generator: torch.Generator | None = None) -> None:
        self._config, self._path = config, config.path.expanduser()
        self._table = table = read_table(self._path, config)
        self._points = points = shaped_points(table.points, config, self._path)
        self.rows = table.rows
        self.event_shape = tuple(points.shape[1:])
        if len(self.event_shape) > 1 and config.scale in ("columns", "robust"):
            raise ConfigError(
                f"scale is {config.scale}, which is for columns, and events have the shape {self.event_shape}",
                hint="scale: table",
            )
        self._kept = kept_rows(points, table, config, self._path)
        if len(self._kept.rows) == 0:
            raise DataError(f"every row of {self._path} has a missing value", hint=_without_gaps(points, table))
        rows = torch.from_numpy(self._kept.rows)
        self._seed = seed = source_seed(config.seed, generator)
        positions = split_positions(len(rows), config.fractions, seed, config.limit)
        self._rows = {name: rows[position] for name, position in positions.items()}
        measured = np.sort((self._rows["train"] if len(self._rows["train"]) else rows).numpy())
        every = (
            max(1, len(measured) * int(np.prod(self.event_shape)) // _QUARTILE_NUMBERS)
            if config.scale == "robust"
            else None
        )
        statistics = statistics_of((block for _, block in blocks(points, measured)), every)
        self._bounded = config.low is not None or config.high is not None
        self.event_scale = scale_of_points(
            statistics,
            config.scale or "none",
            vectors=len(self.event_shape) == 1 and not self._bounded,
            low=config.low,
            high=config.high,
            levels=config.levels,
        )
        check_bounds(points, self._kept.rows, config, self._path)
        self._merged = refuse_merged(points, self._kept.rows, self.event_scale, table.names, self._path)
        fetch = self._fetcher(table)
        self._streams = points.size * 4 > config.memory * 2**20
        self._splits = {
            name: self._streamed(fetch, rows, derive_generator(seed, "order", name)) if self._streams else fetch(rows)
            for name, rows in self._rows.items()
        }
        if isinstance(points, StoredPoints) and not self._streams:
            points.forget()

    def _fetcher(self, table: NumberTable) -> Callable[[Tensor], Dataset]:
        """Function that returns the points at some rows of the files."""
        points, kept, path = self._points, self._kept.rows, self._path
        label = None
        if table.label is not None:
            label, self.label_names = classes(of_rows(table.label, "label", len(points), path)[kept])
        condition = table.condition
        if condition is not None:
            condition = of_rows(condition, "condition", len(points), path)[kept]
        given, self.condition_spec = conditions(condition, kept, points, path, self._config.condition)
        at_once = max(1, _FETCHED_NUMBERS // math.prod(self.event_shape))

        def fetch(rows: Tensor) -> Dataset:
            # Rows that are left out may have no label and no condition.
            place = torch.from_numpy(np.searchsorted(kept, rows.numpy()))
            x = torch.empty(len(rows), *self.event_shape, dtype=torch.float32)
            for part in rows.argsort().split(at_once):  # in order, so that each block is read once
                chosen = torch.from_numpy(np.asarray(points[rows[part].numpy()], dtype=np.float64))
                x[part] = self.event_scale.from_raw(chosen).float()
            return Dataset(
                x=x,
                condition=None if given is None else given[place],
                label=None if label is None else label[place],
                index=rows,
            )

        return fetch

    def _streamed(
        self, fetch: Callable[[Tensor], Dataset], rows: Tensor, generator: torch.Generator
    ) -> StreamedDataset:
        """A split whose points are read as they are needed, in an order that reads each block once."""
        stored = self._points if isinstance(self._points, StoredPoints) else None
        if stored is not None:
            rows = rows[stored.shuffle(rows, generator)]
        return StreamedDataset(
            x=torch.empty(0, *self.event_shape),
            index=rows,
            fetch=lambda index: fetch(rows[index]),
            size=len(rows),
            workers=self._config.workers,
            shuffle=None if stored is None else partial(stored.shuffle, rows),
        )

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the source so that its files are opened and split again."""
        return type(self), (self._config.model_copy(update={"seed": self._seed}),)

    def load(self, split: str) -> Dataset:
        return pick(self._splits, split)

    def fingerprint(self) -> str:
        files = self._table.files
        if not files:
            return digest_folder(self._path)
        return digest_file(files[0]) if len(files) == 1 else digest_files(files)

    @classmethod
    def inspect(cls, config: ArrayConfig) -> DataSummary:
        """Summary of a file, also if it can't be loaded with this config: text and gaps are allowed."""
        return inspect_table(config)

    @cached_property
    def _summary(self) -> DataSummary:
        rows: dict[str, Rows] = {name: rows.numpy() for name, rows in self._rows.items()}
        return summarise_table(self._table, self._points, self._kept, self._config, rows, self._merged)

    def summary(self) -> DataSummary:
        return self._summary

    def data_warnings(self) -> tuple[str, ...]:
        return (*self._table.warnings, *self._large_blocks(), *self._summary.warnings)

    @property
    def unsettled_units(self) -> bool:
        """True if columns are in units of their own, far apart, and ``scale`` says nothing of it."""
        return bool(units_warning(self._points, self._config, self._summary.columns))

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of the columns of points (N, D), as the file has them; none where it has none."""
        return tuple(self._table.names or ()) if len(self.event_shape) == 1 else ()

    def incomplete_rows(self) -> tuple[Tensor, Tensor]:
        """The rows (m,) that were left out for missing values, and their values (m, D) in float64 and the units of the
        files."""
        left = np.setdiff1d(np.arange(len(self._points)), self._kept.rows)
        parts = [np.asarray(block, dtype=np.float64) for _, block in blocks(self._points, left)]
        values = np.concatenate(parts) if parts else np.empty((0, math.prod(self.event_shape)))
        gaps = np.isnan(values).any(axis=1)
        return torch.from_numpy(left[gaps]), torch.from_numpy(values[gaps])

    def _large_blocks(self) -> list[str]:
        """A warning where two blocks are more than may be kept in memory; below 1 MiB each that is of no account."""
        points, memory = self._points, self._config.memory
        if not (self._streams and isinstance(points, StoredPoints) and points.block_bytes > max(memory, 2) * 2**19):
            return []
        size = points.block_bytes / 2**20
        return [
            f"the files are read in blocks of {size:.0f} MiB, two of them at once, which is more than memory: "
            f"{memory:g} allows: save them in smaller row groups or chunks, or set memory: {math.ceil(2 * size)}"
        ]


def _without_gaps(points: Points, table: NumberTable) -> str:
    """The advice where no row is complete: leave out the columns that are empty, or the one with the most gaps."""
    width = math.prod(points.shape[1:])
    present = sum((np.isfinite(block).sum(axis=0) for _, block in blocks(points)), np.zeros(width, dtype=int))
    if not (present < len(points)).any():
        return "divide the columns by a large number: values beyond 3.4e38 count as missing, as float32 can't hold them"
    if points.ndim > 2 or width < 2:
        return "fill the missing values in"
    names = column_names(table.names, width)
    empty = [name for name, count in zip(names, present, strict=True) if count == 0]
    if empty and len(empty) < width:
        said = "column is empty" if len(empty) == 1 else "columns are empty"
        return f"columns: {without(empty)}, as {'this' if len(empty) == 1 else 'these'} {said}"
    most = int(present.argmin())
    lacking = f"{names[most]}, which lacks {len(points) - present[most]} of {len(points)}"
    return f"fill the missing values in, or leave out columns with many of them, first {lacking}"


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


def conditions(
    values: Array | None, rows: Rows, points: Points, path: Path, names: Sequence[str]
) -> tuple[Tensor | None, ConditionSpec | None]:
    """The condition of each of some rows (n,) of a file in float32, with its spec. Raises ``DataError`` for one that
    isn't finite numbers."""
    if values is None:
        return None, None
    if values.dtype.kind not in "fiub":
        raise DataError(f"the condition {names[0]} in {path} holds {values.dtype}; expected real numbers")
    gaps = ~np.all(np.isfinite(values).reshape(len(values), len(names), -1), axis=2)
    if gaps.any():
        named = ", ".join(name for name, gap in zip(names, np.any(gaps, axis=0), strict=True) if gap)
        bad = rows[np.any(gaps, axis=1)]
        shown = ", ".join(name_of_row(points, row) for row in bad[:5]) + (
            f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        )
        raise DataError(
            f"the condition {named} in {path} holds NaN, infinity or empty fields in row{'s' * (len(bad) > 1)} {shown} "
            "(rows count from 0)",
            hint="missing: drop leaves these rows out; or fill them in",
        )
    condition = torch.from_numpy(np.array(values, dtype=np.float32))
    if condition.dim() == 1:
        condition = condition[:, None]
    return condition, TensorSpec(tuple(condition.shape[1:]))
