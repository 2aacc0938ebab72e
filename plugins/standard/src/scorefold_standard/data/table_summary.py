"""The summary of a table of numbers. No torch here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from scorefold.summary import LOOKED_AT, MOST_COLUMNS, ColumnSummary, DataSummary, describe_column, describe_event
from scorefold_standard.data.config import ArrayConfig
from scorefold_standard.data.patterns import with_categories
from scorefold_standard.data.stored import Array
from scorefold_standard.data.table_checks import (
    KeptRows,
    Rows,
    digests,
    kept_rows,
    shaped_points,
    table_warnings,
    with_times,
)
from scorefold_standard.data.table_columns import (
    NumberTable,
    Points,
    by_name,
    comma_warning,
    date_warning,
    unit_warning,
)
from scorefold_standard.data.table_files import read_table

Merged = Mapping[int, tuple[int, int]]
"""The distinct values of a column before and after it became float32, by the column's position."""


def column_names(names: Sequence[str] | None, count: int) -> tuple[str, ...]:
    """The names of the columns in the file, or x0, x1, ..."""
    return tuple(names) if names is not None else tuple(f"x{i}" for i in range(count))


def inspect_table(config: ArrayConfig) -> DataSummary:
    """Summary of a file, also if it can't be loaded with this config: text and gaps are allowed."""
    path = config.path.expanduser()
    table = read_table(path, config, text=True)
    if table.points.ndim == 2 and table.points.shape[1] == 0:
        return summarise_table(table, table.points, KeptRows(np.arange(0)), config, {})
    points = shaped_points(table.points, config, path)
    kept = kept_rows(points, table, config.model_copy(update={"missing": "drop"}), path)
    seen = summarise_table(table, points, kept, config, {})
    return replace(seen, warnings=(*table.warnings, *seen.warnings))


def summarise_table(
    table: NumberTable,
    points: Points,
    kept: KeptRows,
    config: ArrayConfig,
    splits: Mapping[str, Rows],
    merged: Merged | None = None,
) -> DataSummary:
    """The summary of a file: ``points`` (N, *E), of which rows are kept and are in splits."""
    every = max(1, points.size // LOOKED_AT)
    vectors = points.ndim == 2
    columns: list[ColumnSummary] = []
    if vectors and points.shape[1] <= MOST_COLUMNS:
        names = column_names(table.names, points.shape[1])
        looked = np.array(points[::every], dtype=np.float64)
        columns = [by_name(describe_column(name, looked[:, i]), len(looked)) for i, name in enumerate(names)]
        columns = with_categories(looked, with_times(points, columns))
        for i, (before, after) in (merged or {}).items():
            text = f"float32 merges {before:,} values into {after:,}"
            columns[i] = replace(columns[i], warnings=(text, *columns[i].warnings))
    elif points.size:
        columns = [describe_event(points[kept.rows[::every]])]
    copies, shared = _copies(points, kept.rows, table.condition, splits)
    others = [_other(name, values, config, table.named) for name, values in table.others.items()]
    found = table_warnings(points, kept, table, config, columns, others, copies, shared)
    return DataSummary(
        rows=len(points),
        event_shape=tuple(points.shape[1:]),
        columns=(*columns, *others),
        incomplete=kept.incomplete,
        copies=copies + kept.dropped_copies,
        shared=shared,
        warnings=tuple(found),
        gaps=table.gaps,
    )


def _other(name: str, values: Array, config: ArrayConfig, named: str | None) -> ColumnSummary:
    """The summary of a column that is no coordinate."""
    import pandas as pd

    uses = {"label": (config.label,), "names of the rows": (named,), "condition": config.condition}
    use = next((use for use, names in uses.items() if name in names), "not used")
    if values.dtype.kind in "fiu":
        plain = describe_column(name, values)
        return replace(plain, use=use, warnings=())
    gone = pd.isna(values)
    kind = "boolean" if values.dtype.kind == "b" else "text"
    distinct = pd.unique(values[~gone])
    cells = [] if kind == "boolean" else [str(value) for value in distinct]
    warnings = tuple(filter(None, [comma_warning(cells) or unit_warning(cells) or date_warning(cells)]))
    return ColumnSummary(name, kind, int(gone.sum()), len(distinct), use=use, warnings=warnings)


def _copies(points: Points, rows: Rows, condition: Array | None, splits: Mapping[str, Rows]) -> tuple[int, int]:
    """Number of kept rows that repeat an earlier point and its condition, and number of these in two splits."""
    if not points.size:
        return 0, 0
    hashes = digests(points, rows, condition)
    copies = len(hashes) - _distinct(hashes)
    if not copies or not splits:
        return copies, 0
    split = np.full(int(rows.max()) + 1, -1)
    for number, members in enumerate(splits.values()):
        split[members] = number
    own = split[rows]
    # A copy of rows of two splits has as many (hash, split) pairs more than hashes.
    pairs = sum(_distinct(hashes[own == number]) for number in range(len(splits)))
    return copies, pairs - _distinct(hashes[own >= 0])


def _distinct(hashes: npt.NDArray[np.uint64]) -> int:
    """Number of distinct hashes (n,). Sorting takes a tenth of the time of ``numpy.unique``."""
    return 1 + int(np.count_nonzero(np.diff(np.sort(hashes)))) if len(hashes) else 0
