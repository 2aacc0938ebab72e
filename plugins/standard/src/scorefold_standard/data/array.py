"""Points from a file of numbers: npy, npz, csv or parquet."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scorefold.artefacts import digest_file
from scorefold.data import Dataset, StreamedDataset
from scorefold.data_summary import DataSummary
from scorefold.errors import ConfigError, DataError
from scorefold.interfaces import DataSource
from scorefold_standard.data.scaling import scale_of, statistics_of
from scorefold_standard.data.table_checks import (
    Kept,
    Rows,
    blocks,
    check_bounds,
    classes,
    conditions,
    kept_rows,
    of_rows,
    shaped,
)
from scorefold_standard.data.table_files import Table, read_table
from scorefold_standard.data.table_summary import refuse_merged, summarise_table
from scorefold_standard.data_config import ArrayConfig
from scorefold_toolkit.data.splits import pick, source_seed, split_positions

_QUARTILE_NUMBERS = 2**22
_FETCHED_NUMBERS = 2**22  # that are in float64 at once


class ArrayFile(DataSource):
    """The rows of a file as events, centred and scaled in float64, then float32.

    A large npy file is mapped, not read: only the rows that are needed are. Labels become the classes 0, 1, ... in
    sorted order. ``index`` is the row in the file, from 0. Raises ``DataError`` for a file that is missing, isn't
    numeric, holds NaN, infinity or numbers beyond single precision (unless ``missing: drop``), or has too few rows,
    for values that are not what ``low``, ``high`` and ``levels`` say, and for a column most of whose values float32
    would merge.
    """

    def __init__(self, config: ArrayConfig, *, generator: torch.Generator | None = None) -> None:
        self._config, self._path = config, Path(config.path).expanduser()
        self._table = table = read_table(self._path, config)
        self._points = points = shaped(table.points, config, self._path)
        self.event_shape = tuple(points.shape[1:])
        if len(self.event_shape) > 1 and config.scale in ("columns", "robust"):
            raise ConfigError(
                f"scale is {config.scale}, which is for columns, and events have the shape {self.event_shape}",
                hint="scale: table",
            )
        self._kept = kept_rows(points, table, config, self._path)
        rows = torch.from_numpy(self._kept.rows)
        seed = source_seed(config.seed, generator)
        positions = split_positions(len(rows), config.fractions, seed, config.limit)
        self._rows = {name: rows[position] for name, position in positions.items()}
        measured = np.sort((self._rows["train"] if len(self._rows["train"]) else rows).numpy())
        every = max(1, len(measured) * points[0].size // _QUARTILE_NUMBERS) if config.scale == "robust" else None
        statistics = statistics_of((block for _, block in blocks(points, measured)), every)
        self._bounded = config.low is not None or config.high is not None
        self.event_scale = scale_of(
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
        in_memory = points.size * 4 <= config.memory * 2**20
        self._splits = {
            name: fetch(rows) if in_memory else _streamed(fetch, rows, self.event_shape)
            for name, rows in self._rows.items()
        }

    def _fetcher(self, table: Table) -> Callable[[Tensor], Dataset]:
        """What gives the points at some rows of the file."""
        points, kept, path = self._points, self._kept.rows, self._path
        # Rows that are left out may have no label and no condition.
        place = torch.full((len(points),), -1)
        place[torch.from_numpy(kept)] = torch.arange(len(kept))
        label = None if table.label is None else classes(of_rows(table.label, "label", len(points), path)[kept])
        condition = table.condition
        if condition is not None:
            condition = of_rows(condition, "condition", len(points), path)[kept]
        given, self.condition_spec = conditions(condition, len(kept), path)
        size = path.stat().st_size

        def fetch(rows: Tensor) -> Dataset:
            # Reading a mapped file beyond an end that has moved would end the process.
            if path.suffix.lower() == ".npy" and (now := path.stat().st_size) != size:
                raise DataError(f"{path} had {size} bytes when it was opened and has {now}: it changed meanwhile")
            x = torch.empty(len(rows), *self.event_shape)
            few = max(1, _FETCHED_NUMBERS // points[0].size)
            for part, scaled in zip(rows.split(few), x.split(few), strict=True):
                chosen = torch.from_numpy(np.asarray(points[part.numpy()], dtype=np.float64))
                scaled.copy_(self.event_scale.from_raw(chosen))
            return Dataset(
                x=x,
                condition=None if given is None else given[place[rows]],
                label=None if label is None else label[place[rows]],
                index=rows,
            )

        return fetch

    def load(self, split: str) -> Dataset:
        return pick(self._splits, split)

    def fingerprint(self) -> str:
        return digest_file(self._path)

    @classmethod
    def inspect(cls, config: ArrayConfig) -> DataSummary:
        """What a file holds, whether or not it can be loaded with this config: text and gaps are allowed."""
        path = Path(config.path).expanduser()
        table = read_table(path, config, text=True)
        if table.points.ndim == 2 and table.points.shape[1] == 0:
            return summarise_table(table, table.points, Kept(np.arange(0)), config, {})
        points = shaped(table.points, config, path)
        kept = kept_rows(points, table, config.model_copy(update={"missing": "drop"}), path)
        return summarise_table(table, points, kept, config, {})

    @cached_property
    def _summary(self) -> DataSummary:
        rows: dict[str, Rows] = {name: rows.numpy() for name, rows in self._rows.items()}
        return summarise_table(self._table, self._points, self._kept, self._config, rows, self._merged)

    def summary(self) -> DataSummary:
        return self._summary

    def data_warnings(self) -> tuple[str, ...]:
        return self._summary.warnings


def _streamed(fetch: Callable[[Tensor], Dataset], rows: Tensor, event_shape: tuple[int, ...]) -> StreamedDataset:
    return StreamedDataset(x=torch.empty(0, *event_shape), fetch=lambda index: fetch(rows[index]), size=len(rows))
