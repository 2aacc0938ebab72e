"""Checks of a table before it becomes points, and its problems for distances and noise."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from scorefold.errors import ConfigError, DataError
from scorefold.summary import (
    CALLED_SO,
    IDENTIFIER,
    LOOKED_AT,
    MOST_COLUMNS,
    ColumnSummary,
    is_code,
    is_identifier,
    without,
)
from scorefold_standard.data.config import ArrayConfig
from scorefold_standard.data.patterns import (
    CATEGORY,
    NAMED,
    REPEATED,
    category_warnings,
    copy_warnings,
    counted_rows,
    named_columns,
    tail_warnings,
)
from scorefold_standard.data.stored import Array, StoredPoints
from scorefold_standard.data.table_columns import (
    CLASS,
    COMMAS,
    DATES,
    FOLLOWED,
    MOST_CLASSES,
    PRECEDED,
    NumberTable,
    Points,
)

Rows = npt.NDArray[np.int64]
_LARGEST = float(np.finfo(np.float32).max)  # events are float32
_OFF_LEVEL = 0.01  # in steps between levels: far above the rounding of float32, far below half a step
_MIXED = 0x9E3779B97F4A7C15  # 2^64 over the golden ratio, odd
_BLOCK = 2**20  # entries looked at once, so that stored points never have to fit in memory


@dataclass(frozen=True, eq=False)
class KeptRows:
    """The rows of a file that are used: their places (n,) in order, and how many others had gaps or were copies."""

    rows: Rows
    incomplete: int = 0
    dropped_copies: int = 0


def shaped_points(points: Points, config: ArrayConfig, path: Path) -> Points:
    """The points (N, *E) as the config shapes them. Raises ``DataError`` and ``ConfigError`` where they have no such
    shape."""
    if points.dtype.kind not in "fiub":
        hint = "save real numbers, such as points.astype('float32')"
        raise DataError(f"{path} holds values of type {points.dtype}; expected real numbers", hint=hint)
    if points.ndim < 2:
        raise DataError(
            f"{path} holds an array of shape {points.shape}; expected (N, ...), one point a row",
            hint="for N numbers, points[:, None] has one a row",
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


def name_of_row(points: Points, row: int | np.int64) -> str:
    """A row for an error, with its file where there are several."""
    return points.where(int(row)) if isinstance(points, StoredPoints) else str(row)


def kept_rows(points: Points, table: NumberTable, config: ArrayConfig, path: Path) -> KeptRows:
    """The rows to use, perhaps none. Raises ``DataError`` for gaps where they are refused."""
    whole = np.concatenate([(np.abs(block.astype(np.float64)) <= _LARGEST).all(axis=1) for _, block in blocks(points)])
    bad = np.flatnonzero(~whole)
    if len(bad) and config.missing == "refuse":
        shown = ", ".join(name_of_row(points, int(row)) for row in bad[:5]) + (
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
        hashes = digests(points, rows, table.condition)
        order = np.argsort(hashes, kind="stable")
        first = np.sort(order[np.append(True, np.diff(hashes[order]) != 0)])
        rows, copies = rows[first], len(rows) - len(first)
    return KeptRows(rows, incomplete, copies)


def _present(table: NumberTable, count: int, path: Path) -> npt.NDArray[np.bool_]:
    """The rows (N,) that have a label and a condition, where the file has any."""
    import pandas as pd

    found = np.ones(count, dtype=bool)
    for values, what in ((table.label, "label"), (table.condition, "condition")):
        if values is not None:
            given = of_rows(values, what, count, path)
            gaps = ~np.isfinite(given) if given.dtype.kind == "f" else pd.isna(given)
            found &= ~gaps.reshape(count, -1).any(axis=1)
    return found


def digests(points: Points, rows: Rows, condition: Array | None = None) -> npt.NDArray[np.uint64]:
    """A hash of each of some rows (n,): the same for equal points with equal conditions, and for others different
    almost surely.

    Each number of a row is mixed, one to one, and the hash is their sum with random odd weights, modulo 2^64.
    """
    known = condition is not None and condition.shape[:1] == (len(points),) and condition.dtype.kind in "fiub"
    given = np.reshape(condition if known and condition is not None else (), (len(points), -1 if known else 0))
    size = int(np.prod(points.shape[1:])) + given.shape[1]
    weights = np.random.default_rng(_MIXED).integers(0, 2**63, size, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    found = [np.empty(0, np.uint64)]
    for start, block in blocks(points, rows):
        parts = (block, given[rows[start : start + len(block)]])
        found.append(np.concatenate([_mixed(part) for part in parts], axis=1) @ weights)
    return np.concatenate(found)


def _mixed(block: Array) -> npt.NDArray[np.uint64]:
    # Adding 0 makes -0.0 and 0.0 one.
    whole = (block.astype(np.float64) + 0.0).view(np.uint64) if block.dtype.kind == "f" else block.astype(np.uint64)
    for shift in (32, 29):
        whole ^= whole >> np.uint64(shift)
        whole *= np.uint64(_MIXED)
    return whole


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
                f"row {name_of_row(points, rows[start + outside[0]])} of {path} holds values from "
                f"{block[outside[0]].min():g} to {block[outside[0]].max():g}; low and high say [{low:g}, {high:g}]",
                hint="set low and high to the range of the values",
            )
        if config.levels is None or config.low is None or config.high is None:
            continue
        steps = (block.astype(np.float64) - config.low) * ((config.levels - 1) / (config.high - config.low))
        between = np.flatnonzero(np.any(np.abs(steps - np.round(steps)) > _OFF_LEVEL, axis=1))
        if len(between):
            raise DataError(
                f"row {name_of_row(points, rows[start + between[0]])} of {path} holds values that are none of the "
                f"{config.levels} levels from {low:g} to {high:g}",
                hint="set levels to how many values there are (256 for bytes from 0 to 255), or leave it out",
            )


def of_rows(values: Array, what: str, count: int, path: Path) -> Array:
    """Values of which each point has one. Raises ``DataError`` where they are not as many."""
    if values.ndim == 0 or len(values) != count:
        raise DataError(f"the {what} in {path} has shape {values.shape}; there are {count} points")
    return values


UNEVEN = 10.0
"""The ratio of the columns' deviations from which it is reported."""


def table_warnings(
    points: Points,
    kept: KeptRows,
    table: NumberTable,
    config: ArrayConfig,
    columns: Sequence[ColumnSummary],
    others: Sequence[ColumnSummary],
    copies: int,
    shared: int,
) -> list[str]:
    """The warnings about a file of ``points`` (N, *E) with these coordinates and other columns, the gravest first;
    ``copies`` and ``shared`` are fields of ``DataSummary``."""
    vectors = points.ndim == 2 and config.low is None and config.high is None
    listed = columns if vectors and points.shape[1] <= MOST_COLUMNS else []
    return [
        *_named_twice(table),
        *_odd_cells(table),
        *_gaps(kept, config, listed, table),
        *_rounded(points, kept, listed),
        *units_warning(points, config, columns),
        *_identifiers(listed, table),
        *_times(listed, table),
        *_codes_of_missing(points, listed, csv=bool(table.files) and table.files[0].suffix.lower() in _CSV),
        *copy_warnings(copies, shared, whole=all(one.type == "integer" for one in listed) and bool(listed)),
        *category_warnings(listed, table),
        *_codes([one for one in listed if CATEGORY not in one.warnings], table),
        *_classes(listed),
        *_constants([] if table.condition is None or not config.fractions[0] else listed, table),
        *tail_warnings(points, table, config, listed),
        *_words(table, config, others),
    ]


def _named_twice(table: NumberTable) -> list[str]:
    if not table.twice:
        return []
    names = ", ".join(map(repr, table.twice))
    return [f"several columns are called {names}: later ones are called {table.twice[0]}.1 and so on"]


def _odd_cells(table: NumberTable) -> list[str]:
    if not table.gaps:
        return []
    return [
        f"columns of numbers have cells that are none: {', '.join(map(repr, table.gaps))}. gaps: "
        f"{json.dumps(table.gaps)} takes them as missing"
    ]


def _gaps(kept: KeptRows, config: ArrayConfig, columns: Sequence[ColumnSummary], table: NumberTable) -> list[str]:
    if not kept.incomplete or config.missing == "drop":
        return []
    empty = [one.name for one in columns if one.distinct == 0]
    if not len(kept.rows) and 0 < len(empty) < len(columns):
        return [f"{named_columns(empty)} {'is' if len(empty) == 1 else 'are'} empty: {_leave(empty, table)}"]
    if not len(kept.rows):
        return ["every row has a missing value: fill the gaps in, or leave out the columns that have most of them"]
    rows = counted_rows(kept.incomplete, "has", "have")
    return [f"{rows} missing values: missing: drop leaves {_it(kept.incomplete)} out"]


def _rounded(points: Points, kept: KeptRows, columns: Sequence[ColumnSummary]) -> list[str]:
    found = []
    lost = [one.name for one in columns if any(text.startswith("float32") for text in one.warnings)]
    if lost:
        them = _it(len(lost))
        found.append(f"float32 merges distinct values of {named_columns(lost)}: scale: robust, or leave {them} out")
    if points.dtype == np.float32 and len(kept.rows):
        import torch

        from scorefold_toolkit.data.splits import rounding_warning

        few = kept.rows[:: max(1, points.size // LOOKED_AT)]
        rounded = rounding_warning(torch.from_numpy(np.array(points[few])))
        found += [f"the file holds float32 numbers: {rounded}"] if rounded else []
    return found


def units_warning(points: Points, config: ArrayConfig, columns: Sequence[ColumnSummary]) -> list[str]:
    """The warning that spreads of columns differ more than tenfold where nothing says which units they have."""
    vectors = points.ndim == 2 and config.low is None and config.high is None
    if config.scale is not None or not vectors or points.shape[1] > MOST_COLUMNS:
        return []
    if points.dtype in (np.uint8, np.bool_):
        return []
    measured = [one for one in columns if not (is_code(one) or is_identifier(one))]
    spreads = sorted((one.spread, one.name) for one in measured if one.spread)
    if len(spreads) < 2 or spreads[-1][0] <= UNEVEN * spreads[0][0]:
        return []
    (small, least), (large, greatest) = spreads[0], spreads[-1]
    ratio = f"{float(f'{large / small:.2g}'):g}"
    return [
        f"the columns' spreads differ {ratio}-fold, from {small:.3g} ({least}) to {large:.3g} ({greatest}), so that "
        "distances and noise see few columns: set scale: columns in the data's config, or scale: none where all "
        "columns have one unit"
    ]


def _identifiers(columns: Sequence[ColumnSummary], table: NumberTable) -> list[str]:
    found = []
    for reason, plural in ((IDENTIFIER, "number the rows"), (CALLED_SO, "are called as identifiers are")):
        names = [one.name for one in columns if reason in one.warnings]
        if names and len(columns) > 1:
            said = reason if len(names) == 1 else plural
            found.append(f"{named_columns(names)} {said}, which counts as a dimension: {_leave(names, table)}")
    return found


def with_times(points: Points, columns: Sequence[ColumnSummary]) -> list[ColumnSummary]:
    """The columns, with the warning ``TIME`` where one rises in equal steps from row to row, as a time does."""
    if len(points) < _STEPS or len(columns) < 2:
        return list(columns)
    least, most = np.full(len(columns), np.inf), np.full(len(columns), -np.inf)
    even = np.ones(len(columns), dtype=bool)
    for first in range(0, len(points) - 1, _BLOCK_OF_STEPS):
        with np.errstate(invalid="ignore"):
            steps = np.diff(np.asarray(points[first : first + _BLOCK_OF_STEPS + 1], dtype=np.float64), axis=0)
        least, most = np.minimum(least, steps.min(0)), np.maximum(most, steps.max(0))
        even = (least > 0) & (most <= (1 + _UNEVEN_STEPS) * least)
        if not even.any():
            break
    return [
        replace(one, warnings=(*one.warnings, TIME)) if rises and not is_identifier(one) else one
        for one, rises in zip(columns, even, strict=True)
    ]


def _times(columns: Sequence[ColumnSummary], table: NumberTable) -> list[str]:
    names = [one.name for one in columns if TIME in one.warnings]
    if not names:
        return []
    rise = "rises" if len(names) == 1 else "rise"
    return [
        f"{named_columns(names)} {rise} in equal steps from row to row, as times do, which counts as a dimension: "
        f"{_leave(names, table)}; data:series reads the other columns as a time series"
    ]


TIME = "rises in equal steps"
_STEPS, _BLOCK_OF_STEPS = 20, 2000
"""The fewest rows that show a time, and the rows that are looked at together."""

_UNEVEN_STEPS = 0.01
"""The largest difference of steps between times, in their mean: float32 rounds them."""


_CSV = (".csv", ".tsv")


def _codes_of_missing(points: Points, columns: Sequence[ColumnSummary], csv: bool) -> list[str]:
    """The columns whose farthest value repeats, far from all others, as -999 does for a missing one."""
    found = []
    tailed = [(place, one) for place, one in enumerate(columns) if "heavy tail" in one.warnings]
    looked = np.asarray(points[:_BLOCK_OF_STEPS]) if tailed else np.empty(0)
    for place, one in tailed:
        values, counts = np.unique(looked[:, place][np.isfinite(looked[:, place])], return_counts=True)
        for end, rest in ((0, values[1:]), (-1, values[:-1])):
            if counts[end] >= REPEATED and len(rest) > 1 and abs(values[end] - np.median(rest)) > 3 * np.ptp(rest):
                code = f"{values[end]:.15g}"
                fix = f"gaps: [{code}] takes them as missing, if they are" if csv else "make them NaN if they are"
                found.append(
                    f"{counts[end]:,} values of column {one.name} are {code}, far from all others, as codes of missing "
                    f"values are: {fix}"
                )
    return found


def _codes(columns: Sequence[ColumnSummary], table: NumberTable) -> list[str]:
    names = [one.name for one in columns if is_code(one) and CLASS not in one.warnings]
    if not names or 2 * len(names) >= len(columns):
        return []  # a table that is all codes has levels, as images have
    condition = f"condition: [{', '.join(names[:NAMED])}] makes {_it(len(names))} the condition, "
    return [
        f"{named_columns(names)} {_hold(names)} few distinct values, as codes of categories do, and put the points on "
        f"a lattice: {condition if table.names is not None else ''}{_leave(names, table)}"
    ]


def _classes(columns: Sequence[ColumnSummary]) -> list[str]:
    """The coordinates that are called as classes are, and hold few whole numbers."""
    names = [one.name for one in columns if CLASS in one.warnings]
    return [
        f"column {name} looks like the class of each point, and counts as a coordinate: label: {name} makes it the "
        f"class, columns: {without([name])} leaves it out"
        for name in names[:1]
    ]


def _constants(columns: Sequence[ColumnSummary], table: NumberTable) -> list[str]:
    """The coordinates of one value, which tests of a posterior take for an error of the model."""
    found = [one for one in columns if one.distinct == 1 and one.least is not None]
    if not found or len(found) == len(columns):
        return []
    names, value = [one.name for one in found], f" ({found[0].least:g})" if len(found) == 1 else ""
    return [
        f"{named_columns(names)} {'is' if len(found) == 1 else 'are'} constant{value}, and tests of a posterior count "
        f"every deviation from a constant as an error: {_leave(names, table)}"
    ]


def _words(table: NumberTable, config: ArrayConfig, columns: Sequence[ColumnSummary]) -> list[str]:
    """The columns of text that are neither the label nor names nor left out: they can't be read as numbers."""
    if config.columns is not None and not all(name.startswith("-") for name in config.columns):
        return []
    used = {config.label, config.names, *(name.removeprefix("-") for name in config.columns or ())}
    names = [name for name, values in table.others.items() if values.dtype.kind not in "fiub" and name not in used]
    if not names:
        return []
    commas = {one.name: text for one in columns for text in one.warnings if text.startswith(COMMAS)}
    fixes = dict.fromkeys(commas.values())
    said = [f"{named_columns(found)} {_hold(found)} {fix}" for fix in fixes if (found := _with(commas, fix))]
    names = [name for name in names if name not in commas]
    if not names:
        return said
    for one in columns:
        if one.name in names and (
            unit := next((text for text in one.warnings if text.startswith((FOLLOWED, PRECEDED))), "")
        ):
            said.append(f"column {one.name} holds {unit}: write them without it to read them")
        if one.name in names and DATES in one.warnings:
            said.append(
                f"column {one.name} holds dates: write days since the first one to read them, or use data:series with "
                f"time: {one.name} for a time series"
            )
    distinct = {name: len(set(map(str, table.others[name]))) for name in names}
    most = min(MOST_CLASSES, len(table.points) // 2)
    few = next((name for name in names if 1 < distinct[name] <= most), None)
    own = next((name for name in names if distinct[name] == len(table.others[name])), None)
    also = f", or label: {few}" if few else f", or names: {own}" if own else ""
    return [*said, f"{named_columns(names)} {_hold(names)} no numbers: {_leave(names, table)}{also}"]


def _with(commas: Mapping[str, str], fix: str) -> list[str]:
    return [name for name, text in commas.items() if text == fix]


def _hold(names: Sequence[str]) -> str:
    return "holds" if len(names) == 1 else "hold"


def _it(count: int) -> str:
    return "it" if count == 1 else "them"


def _leave(names: Sequence[str], table: NumberTable) -> str:
    if table.names is None:
        return f"remove {_it(len(names))} from the file"
    listed = without(names[:NAMED]).removesuffix("]") + (", ...]" if len(names) > NAMED else "]")
    return f"columns: {listed} leaves {_it(len(names))} out"
