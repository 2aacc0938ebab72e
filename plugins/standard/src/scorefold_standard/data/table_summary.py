"""The summary of a table of numbers, and the values that float32 would merge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from scorefold.data import EventScale
from scorefold.errors import DataError
from scorefold.interfaces.data import LOOKED_AT, MOST_COLUMNS, ColumnSummary, DataSummary, describe, describe_event
from scorefold_standard.data.config import ArrayConfig
from scorefold_standard.data.stored import Array
from scorefold_standard.data.table_checks import KeptRows, Rows, digests, table_warnings, with_class
from scorefold_standard.data.table_columns import NumberTable, Points, has_commas, is_number

_LOST, _GRAVE = 0.05, 0.5  # shares of a column's distinct values that float32 merges
_COMPARED = 20_000  # rows in which values are compared: more of them meet in float32 by chance

Merged = Mapping[int, tuple[int, int]]
"""The distinct values of a column before and after it became float32, by the column's position."""


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
        counts = len(np.unique(before[:, column])), len(np.unique(after[:, column]))
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


def column_names(names: Sequence[str] | None, count: int) -> tuple[str, ...]:
    """The names of the columns: those of the file, or x0, x1, ..."""
    return tuple(names) if names is not None else tuple(f"x{i}" for i in range(count))


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
        columns = [with_class(describe(name, torch.from_numpy(looked[:, i]))) for i, name in enumerate(names)]
        for i, (before, after) in (merged or {}).items():
            text = f"float32 merges {before:,} values into {after:,}"
            columns[i] = replace(columns[i], warnings=(text, *columns[i].warnings))
    elif points.size:
        columns = [describe_event(torch.from_numpy(np.asarray(points[kept.rows[::every]], dtype=np.float64)))]
    copies, shared = _copies(points, kept.rows, splits)
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
        plain = describe(name, torch.from_numpy(values.astype(np.float64)))
        return replace(plain, use=use, warnings=())
    gone = pd.isna(values)
    kind = "boolean" if values.dtype.kind == "b" else "text"
    distinct = pd.unique(values[~gone])
    texts = [] if kind == "boolean" else [str(value) for value in distinct]
    commas = all(has_commas(text) or is_number(text) for text in texts) and any(map(has_commas, texts))
    warnings = ("numbers with commas",) if commas else ()
    return ColumnSummary(name, kind, int(gone.sum()), len(distinct), use=use, warnings=warnings)


def _copies(points: Points, rows: Rows, splits: Mapping[str, Rows]) -> tuple[int, int]:
    """Number of kept rows that repeat an earlier row exactly, and number of these in two splits."""
    if not points.size:
        return 0, 0
    hashes = digests(points, rows)
    copies = len(hashes) - len(np.unique(hashes))
    if not copies or not splits:
        return copies, 0
    split = np.full(int(rows.max()) + 1, -1)
    for number, members in enumerate(splits.values()):
        split[members] = number
    own = split[rows]
    used = own >= 0
    # A copy of rows of two splits has as many (hash, split) pairs more than hashes.
    pairs = len(np.unique(np.stack([hashes[used], own[used].astype(np.uint64)]), axis=1).T)
    return copies, pairs - len(np.unique(hashes[used]))
