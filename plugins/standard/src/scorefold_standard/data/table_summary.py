"""The summary of a table of numbers, and what is wrong with it for distances and noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from scorefold.data import EventScale
from scorefold.data_summary import (
    HEAVY_TAIL,
    LOOKED_AT,
    MOST_COLUMNS,
    ColumnSummary,
    DataSummary,
    describe,
    describe_event,
    is_code,
    is_identifier,
)
from scorefold.errors import DataError
from scorefold.rounding import rounding_warning
from scorefold_standard.data.table_checks import Kept, Rows, digests
from scorefold_standard.data.table_files import Array, Table
from scorefold_standard.data_config import ArrayConfig

UNEVEN = 10.0
"""The ratio of the columns' deviations from which it is reported."""

_LOST, _GRAVE = 0.05, 0.5  # shares of a column's distinct values that float32 merges
_COMPARED = 20_000  # rows in which values are compared: more of them meet in float32 by chance
_NAMED = 5

Merged = Mapping[int, tuple[int, int]]
"""The distinct values of a column before and after it became float32, by the column's position."""


def refuse_merged(
    points: Array, rows: Rows, scale: EventScale, names: Sequence[str] | None, path: Path
) -> dict[int, tuple[int, int]]:
    """The columns of vectors whose distinct values float32 merges, more than 5 % of them.

    Raises ``DataError`` for one that loses more than half.
    """
    exact = (points.dtype.kind in "iub" and points.dtype.itemsize <= 2) or points.dtype in (np.float16, np.float32)
    if points.ndim != 2 or (exact and scale == replace(scale, shift=0.0, factor=1.0)):
        return {}
    few = rows[:: max(1, len(rows) // min(_COMPARED, max(2, LOOKED_AT // points.shape[1])))]
    before = np.asarray(points[few], dtype=np.float64)
    after = scale.from_raw(torch.from_numpy(before)).float().numpy()
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
    table: Table,
    points: Array,
    kept: Kept,
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
        columns = [describe(name, torch.from_numpy(looked[:, i])) for i, name in enumerate(names)]
        for i, (before, after) in (merged or {}).items():
            text = f"float32 merges {before:,} values into {after:,}"
            columns[i] = replace(columns[i], warnings=(text, *columns[i].warnings))
    elif points.size:
        columns = [describe_event(torch.from_numpy(np.asarray(points[kept.rows[::every]], dtype=np.float64)))]
    copies, shared = _copies(points, kept.rows, splits)
    found = _warnings(points, kept, table, config, columns, copies, shared)
    return DataSummary(
        rows=len(points),
        event_shape=tuple(points.shape[1:]),
        columns=(*columns, *(_other(name, values, config) for name, values in table.others.items())),
        incomplete=kept.incomplete,
        copies=copies + kept.dropped_copies,
        shared=shared,
        warnings=tuple(found),
    )


def _other(name: str, values: Array, config: ArrayConfig) -> ColumnSummary:
    """The summary of a column that is no coordinate."""
    import pandas as pd

    use = "label" if name == config.label else "condition" if name in config.condition else "not used"
    if values.dtype.kind in "fiu":
        plain = describe(name, torch.from_numpy(values.astype(np.float64)))
        return replace(plain, use=use, warnings=())
    gone = pd.isna(values)
    kind = "boolean" if values.dtype.kind == "b" else "text"
    return ColumnSummary(name, kind, int(gone.sum()), len(pd.unique(values[~gone])), use=use)


def _copies(points: Array, rows: Rows, splits: Mapping[str, Rows]) -> tuple[int, int]:
    """How many kept rows repeat an earlier one exactly, and how many of these are of two splits."""
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


def _warnings(
    points: Array,
    kept: Kept,
    table: Table,
    config: ArrayConfig,
    columns: Sequence[ColumnSummary],
    copies: int,
    shared: int,
) -> list[str]:
    """What is wrong with the whole, each with the line that fixes it, the gravest first."""
    vectors = points.ndim == 2 and config.low is None and config.high is None
    listed = columns if vectors and points.shape[1] <= MOST_COLUMNS else []
    found = []
    if kept.incomplete and config.missing == "refuse":
        found.append(
            f"{_rows(kept.incomplete, 'has', 'have')} missing values: missing: drop leaves {_it(kept.incomplete)} out"
        )
    lost = [one.name for one in listed if any(text.startswith("float32") for text in one.warnings)]
    if lost:
        found.append(f"float32 merges distinct values of {_named(lost)}: scale: robust, or leave {_it(lost)} out")
    if points.dtype == np.float32 and len(kept.rows):
        rounded = rounding_warning(torch.from_numpy(np.array(points[kept.rows[:: max(1, points.size // LOOKED_AT)]])))
        found += [f"the file holds float32 numbers: {rounded}"] if rounded else []
    if listed and config.scale is None and points.dtype.kind != "b" and points.dtype != np.uint8:
        found += _uneven(listed)
    identifiers = [one.name for one in listed if is_identifier(one)]
    if identifiers and len(listed) > 1:
        found.append(
            f"{_named(identifiers)} number{'s' * (len(identifiers) == 1)} the rows, which counts as a dimension: "
            f"{_leave(identifiers, table)}"
        )
    if copies:
        across = f", {shared:,} of them in another split than the original" if shared else ""
        said = _rows(copies, "is an exact copy of another", "are exact copies of others")
        found.append(
            f"{said}{across}: neighbours at distance 0 distort an estimate, and a model is tested on what it has seen. "
            "duplicates: drop keeps one of each"
        )
    codes = [one.name for one in listed if is_code(one)]
    if codes and 2 * len(codes) < len(listed):
        condition = f"condition: [{', '.join(codes[:_NAMED])}] makes {_it(codes)} the condition, "
        condition = condition if table.names is not None else ""
        found.append(
            f"{_named(codes)} hold{'s' * (len(codes) == 1)} few distinct values, as codes of categories do, and "
            f"put the points on a lattice: {condition}{_leave(codes, table)}"
        )
    tails = [one.name for one in listed if "heavy tail" in one.warnings]
    if tails and config.scale in ("table", "columns"):
        found.append(
            f"a few rows set the spread of {_named(tails)}, more than {HEAVY_TAIL:g} times that of the quartiles: "
            "scale: robust"
        )
    words = [name for name, values in table.others.items() if values.dtype.kind not in "fiub"]
    words = [name for name in words if name != config.label and f"-{name}" not in (config.columns or ())]
    if words and config.columns is None:
        found.append(
            f"{_named(words)} hold{'s' * (len(words) == 1)} no numbers: {_leave(words, table)}, or label: {words[0]}"
        )
    return found


def _uneven(columns: Sequence[ColumnSummary]) -> list[str]:
    measured = [one for one in columns if not (is_code(one) or is_identifier(one))]
    spreads = sorted((one.spread, one.name) for one in measured if one.spread)
    if len(spreads) < 2 or spreads[-1][0] <= UNEVEN * spreads[0][0]:
        return []
    (small, least), (large, greatest) = spreads[0], spreads[-1]
    return [
        f"the columns' spreads differ {float(f'{large / small:.2g}'):g}-fold, from {small:.3g} ({least}) to {large:.3g} "
        f"({greatest}), so that distances and noise see few columns: set scale: columns in the data's config, or "
        "scale: none where all columns have one unit"
    ]


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"column{'s' * (len(names) > 1)} {', '.join(names[:_NAMED])}{more}"


def _it(names: Sequence[str] | int) -> str:
    count = names if isinstance(names, int) else len(names)
    return "it" if count == 1 else "them"


def _rows(count: int, one: str, many: str) -> str:
    return f"1 row {one}" if count == 1 else f"{count:,} rows {many}"


def _leave(names: Sequence[str], table: Table) -> str:
    if table.names is None:
        return f"remove {_it(names)} from the file"
    more = ", ..." if len(names) > _NAMED else ""
    return f"columns: [{', '.join(f'-{name}' for name in names[:_NAMED])}{more}] leaves {_it(names)} out"
