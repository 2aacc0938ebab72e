"""Problems of a table for distances and noise, each with the line that fixes it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from scorefold.interfaces.data import HEAVY_TAIL, LOOKED_AT, MOST_COLUMNS, ColumnSummary, is_code, is_identifier
from scorefold_standard.config.data import ArrayConfig
from scorefold_standard.data.table_checks import Kept
from scorefold_standard.data.table_columns import Points, Table
from scorefold_toolkit.data.splits import rounding_warning

UNEVEN = 10.0
"""The ratio of the columns' deviations from which it is reported."""

CLASS = "class?"
"""The warning of a coordinate that is called as classes are and holds a few whole numbers."""

_CLASSES = ("target", "label", "labels", "class", "classes", "species", "category")
_MOST_CLASSES = 100
_NAMED = 5


def with_class(column: ColumnSummary) -> ColumnSummary:
    """A column with the warning ``CLASS`` where it looks like the class of each point."""
    few = column.type == "integer" and 1 < column.distinct <= _MOST_CLASSES
    if not few or column.name.lower() not in _CLASSES:
        return column
    return replace(column, warnings=(CLASS, *column.warnings))


def table_warnings(
    points: Points,
    kept: Kept,
    table: Table,
    config: ArrayConfig,
    columns: Sequence[ColumnSummary],
    others: Sequence[ColumnSummary],
    copies: int,
    shared: int,
) -> list[str]:
    """The warnings about a file of ``points`` (N, *E) with these coordinates and other columns, the gravest first;
    ``copies`` and ``shared`` are those of ``DataSummary``."""
    vectors = points.ndim == 2 and config.low is None and config.high is None
    listed = columns if vectors and points.shape[1] <= MOST_COLUMNS else []
    return [
        *_odd_cells(table),
        *_gaps(kept, config),
        *_rounded(points, kept, listed),
        *unsettled(points, config, columns),
        *_identifiers(listed, table),
        *_copied(copies, shared),
        *_codes(listed, table),
        *_classes(listed),
        *(_tails(listed) if config.scale in ("table", "columns") else []),
        *_words(table, config, others),
    ]


def _odd_cells(table: Table) -> list[str]:
    if not table.gaps:
        return []
    return [
        f"columns of numbers have cells that are none: {', '.join(map(repr, table.gaps))}. gaps: "
        f"{json.dumps(table.gaps)} takes them as missing"
    ]


def _gaps(kept: Kept, config: ArrayConfig) -> list[str]:
    if not kept.incomplete or config.missing == "drop":
        return []
    rows = _rows(kept.incomplete, "has", "have")
    return [f"{rows} missing values: missing: drop leaves {_it(kept.incomplete)} out"]


def _rounded(points: Points, kept: Kept, columns: Sequence[ColumnSummary]) -> list[str]:
    found = []
    lost = [one.name for one in columns if any(text.startswith("float32") for text in one.warnings)]
    if lost:
        found.append(f"float32 merges distinct values of {_named(lost)}: scale: robust, or leave {_it(len(lost))} out")
    if points.dtype == np.float32 and len(kept.rows):
        few = kept.rows[:: max(1, points.size // LOOKED_AT)]
        rounded = rounding_warning(torch.from_numpy(np.array(points[few])))
        found += [f"the file holds float32 numbers: {rounded}"] if rounded else []
    return found


def unsettled(points: Points, config: ArrayConfig, columns: Sequence[ColumnSummary]) -> list[str]:
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


def _identifiers(columns: Sequence[ColumnSummary], table: Table) -> list[str]:
    names = [one.name for one in columns if is_identifier(one)]
    if not names or len(columns) < 2:
        return []
    number = "numbers" if len(names) == 1 else "number"
    return [f"{_named(names)} {number} the rows, which counts as a dimension: {_leave(names, table)}"]


def _copied(copies: int, shared: int) -> list[str]:
    if not copies:
        return []
    across = f", {shared:,} of them in another split than the original" if shared else ""
    rows = _rows(copies, "is an exact copy of another", "are exact copies of others")
    return [
        f"{rows}{across}: neighbours at distance 0 distort an estimate, and a model is tested on its training points. "
        "duplicates: drop keeps one of each"
    ]


def _codes(columns: Sequence[ColumnSummary], table: Table) -> list[str]:
    names = [one.name for one in columns if is_code(one) and CLASS not in one.warnings]
    if not names or 2 * len(names) >= len(columns):
        return []  # a table that is all codes has levels, as images have
    condition = f"condition: [{', '.join(names[:_NAMED])}] makes {_it(len(names))} the condition, "
    hold = "holds" if len(names) == 1 else "hold"
    return [
        f"{_named(names)} {hold} few distinct values, as codes of categories do, and put the points on a lattice: "
        f"{condition if table.names is not None else ''}{_leave(names, table)}"
    ]


def _classes(columns: Sequence[ColumnSummary]) -> list[str]:
    """The coordinates that are called as classes are, and hold few whole numbers."""
    names = [one.name for one in columns if CLASS in one.warnings]
    return [
        f"column {name} looks like the class of each point, and counts as a coordinate: label: {name} makes it the "
        f"class, columns: [-{name}] leaves it out"
        for name in names[:1]
    ]


def _tails(columns: Sequence[ColumnSummary]) -> list[str]:
    names = [one.name for one in columns if "heavy tail" in one.warnings]
    if not names:
        return []
    return [
        f"a few rows set the spread of {_named(names)}: some lie more than {HEAVY_TAIL:g} deviations out, as the "
        "quartiles measure them. scale: robust"
    ]


def _words(table: Table, config: ArrayConfig, columns: Sequence[ColumnSummary]) -> list[str]:
    """The columns of text that are neither the label nor names nor left out: they can't be read as numbers."""
    if config.columns is not None and not all(name.startswith("-") for name in config.columns):
        return []
    used = {config.label, config.names, *(name.removeprefix("-") for name in config.columns or ())}
    names = [name for name, values in table.others.items() if values.dtype.kind not in "fiub" and name not in used]
    if not names:
        return []
    hold = "holds" if len(names) == 1 else "hold"
    commas = [one.name for one in columns if "numbers with commas" in one.warnings]
    if commas:
        return [f'{_named(commas)} {hold} numbers with commas: thousands: "," or decimal: "," says what these are']
    distinct = {name: len(set(map(str, table.others[name]))) for name in names}
    most = min(_MOST_CLASSES, len(table.points) // 2)
    few = next((name for name in names if 1 < distinct[name] <= most), None)
    own = next((name for name in names if distinct[name] == len(table.others[name])), None)
    also = f", or label: {few}" if few else f", or names: {own}" if own else ""
    return [f"{_named(names)} {hold} no numbers: {_leave(names, table)}{also}"]


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"column{'s' * (len(names) > 1)} {', '.join(names[:_NAMED])}{more}"


def _it(count: int) -> str:
    return "it" if count == 1 else "them"


def _rows(count: int, one: str, many: str) -> str:
    return f"1 row {one}" if count == 1 else f"{count:,} rows {many}"


def _leave(names: Sequence[str], table: Table) -> str:
    if table.names is None:
        return f"remove {_it(len(names))} from the file"
    more = ", ..." if len(names) > _NAMED else ""
    return f"columns: [{', '.join(f'-{name}' for name in names[:_NAMED])}{more}] leaves {_it(len(names))} out"
