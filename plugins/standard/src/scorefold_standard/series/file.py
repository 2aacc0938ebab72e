"""Time series from files."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt

from scorefold.artefacts import digest_file, digest_folder
from scorefold.errors import DataError
from scorefold_standard.config import SeriesConfig
from scorefold_standard.data.config import ArrayConfig, TableConfig
from scorefold_standard.data.scaling import refuse_merged, scale_of_points, statistics_of
from scorefold_standard.data.stored import digest_files
from scorefold_standard.data.table_checks import kept_rows, shaped_points
from scorefold_standard.data.table_columns import NumberTable
from scorefold_standard.data.table_files import read_table
from scorefold_standard.data.table_summary import column_names
from scorefold_standard.series.cutting import CutSeries, Series, even_steps

_OF_ARRAYS = re.compile(r"(leave it out with columns: .*); names: (.+) names the rows by it, .*")
"""The hint about a column of text, with settings that data:array alone has."""


class SeriesFile(CutSeries):
    """A series from a file of numbers, one row a time step; see ``CutSeries`` for events and splits.

    Files are read as by ``data:array``; a npy file may also be (T,). ``rows`` are the rows of the file, named by the
    column of times. Raises ``DataError`` for times that do not rise in even steps, and as ``data:array`` does.

    >>> import tempfile
    >>> from scorefold_registry import Host
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/wave.npy", np.sin(np.arange(200.0)))
    ...     wave = Host.discover().create("data:series", {"path": f"{folder}/wave.npy", "window": 16})
    >>> wave.load("train"), wave.load("test").index.tolist()
    (Dataset(145 of shape (1, 16), index), [180, 181, 182, 183, 184])
    """

    def __init__(self, config: SeriesConfig) -> None:
        self._path = config.path.expanduser()
        shared = {name: getattr(config, name) for name in TableConfig.model_fields}
        reading = ArrayConfig(**shared, names=config.time)
        try:
            table = read_table(self._path, reading)
        except DataError as error:
            fix = r"\1" if config.time else r"time: \2, where it holds the times of the rows; else \1"
            error.hint = _OF_ARRAYS.sub(fix, error.hint or "") or None
            raise
        self._files, self._read_warnings = table.files, table.warnings
        shape = table.points.shape
        if len(shape) not in (1, 2):
            raise DataError(
                f"{self._path} holds an array of shape {shape}; expected a series (T,) or (T, C), one row a time step",
                hint="data:array reads events that are cut already, with event_shape: [C, L]"
                if shape
                else "save one number a time step",
            )
        values = np.asarray(table.points[:])
        points = np.asarray(shaped_points(values[:, None] if values.ndim == 1 else values, reading, self._path))
        kept = kept_rows(points, table, reading, self._path).rows
        whole = np.zeros(len(points), dtype=bool)
        whole[kept] = True
        if not len(kept):
            raise DataError(
                f"every row of {self._path} has a missing value", hint="leave out the columns that are empty"
            )
        joined = _joined(table, config, self._path)
        names = column_names(table.names, points.shape[1])
        scale = scale_of_points(statistics_of([points[kept]]), config.scale, vectors=True)
        refuse_merged(points, kept, scale, names, self._path)
        self.rows = table.rows
        exact = np.where(whole[:, None], points.astype(np.float64), np.nan)
        rounding = max(Series.rounding, 2 * float(np.finfo(points.dtype).eps)) if points.dtype.kind == "f" else 1e-9
        super().__init__(config, Series(exact, names, str(self._path), whole, joined, rounding=rounding))

    def data_warnings(self) -> tuple[str, ...]:
        return (*self._read_warnings, *super().data_warnings())

    def fingerprint(self) -> str:
        if not self._files:
            return digest_folder(self._path)
        return digest_file(self._files[0]) if len(self._files) == 1 else digest_files(self._files)


def _joined(table: NumberTable, config: SeriesConfig, path: Path) -> npt.NDArray[np.bool_]:
    """The mask (T - 1,) of rows that the next time step follows. Raises ``DataError`` for times that are none, do not
    rise, or rise in uneven steps where gaps are refused."""
    if config.time is None:
        return np.ones(max(0, len(table.points) - 1), dtype=bool)
    steps = np.diff(_times(table, config.time, path))
    back = np.flatnonzero(~(steps > 0))
    if len(back):
        first, second = table.rows[back[0]], table.rows[back[0] + 1]
        raise DataError(
            f"the times of {path} do not rise: row {back[0]} is at {first}, row {back[0] + 1} at {second}",
            hint=f"sort the rows by {config.time}, and keep one row of each time",
        )
    even = even_steps(steps)
    uneven = np.flatnonzero(~even)
    if len(uneven) and config.missing == "refuse":
        row = int(uneven[0])
        raise DataError(
            f"the times of {path} rise in uneven steps: {len(uneven)} of {len(steps)} differ from the usual one, the "
            f"first from row {row} at {table.rows[row]} to row {row + 1} at {table.rows[row + 1]}",
            hint="resample the series to even steps; or, if rows are missing, missing: drop leaves out the events that "
            "would bridge a gap",
        )
    return even


def _times(table: NumberTable, name: str, path: Path) -> npt.NDArray[np.float64]:
    """The times (T,) as numbers: the numbers of the column, or the seconds of its dates."""
    import pandas as pd

    column = pd.Series(table.others[name])
    numbers = pd.to_numeric(column, errors="coerce")
    if not numbers.isna().any():
        return numbers.to_numpy(dtype=np.float64)
    dates = pd.to_datetime(column, errors="coerce", utc=True, format="mixed")
    as_numbers = numbers.notna().sum() >= dates.notna().sum()  # what most times are
    missing = np.flatnonzero((numbers if as_numbers else dates).isna())
    if len(missing):
        raise DataError(
            f"row {missing[0]} of {path} has {column[missing[0]]!r} as its time; expected numbers or dates in column "
            f"{name!r}",
            hint="write times as numbers or as 2026-11-30 12:00:00, or leave time out for rows of even steps",
        )
    return np.asarray((dates - dates.iloc[0]).dt.total_seconds(), dtype=np.float64)
