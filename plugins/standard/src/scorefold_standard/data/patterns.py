"""Rows that lie far out and columns that mark a category, from the numbers of a table. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from scorefold.summary import HEAVY_TAIL, LOOKED_AT, ColumnSummary, is_code, is_identifier, without
from scorefold_standard.data.config import ArrayConfig
from scorefold_standard.data.stored import Array, StoredPoints
from scorefold_standard.data.table_columns import NumberTable, Points
from scorefold_toolkit.data.far_rows import far_rows, rows_far_out

NAMED = 5
REPEATED = 5
"""The fewest equal values at the end of a column that look like the code of a missing value."""


def tail_warnings(
    points: Points, table: NumberTable, config: ArrayConfig, columns: Sequence[ColumnSummary]
) -> list[str]:
    """The warning that a few rows of ``points`` (N, D) lie far out, with these rows where they stand apart from all
    others, and otherwise where they set the units. Copies are named too, so that no copy stays in the file."""
    tailed = [place for place, one in enumerate(columns) if "heavy tail" in one.warnings]
    if not tailed:
        return []
    names = named_columns([columns[place].name for place in tailed])
    robust = "scale: robust" if config.scale in ("table", "columns") else ""
    every = max(1, points.size // LOOKED_AT)
    values = np.asarray(points[::every], dtype=np.float64)[:, tailed]
    known = np.flatnonzero(np.isfinite(values).all(axis=1))
    far = known[far_rows(values[known])]
    if len(far) and max(np.unique(one, return_counts=True)[1].max() for one in values[far].T) < REPEATED:
        out, advice = rows_far_out([_row_name(points, table, int(row)) for row in every * far])
        right = f"; or {robust}" if robust else ""
        return [f"{out} in {names}: {advice} if {'it is' if len(far) == 1 else 'they are'} wrong{right}"]
    if not robust:
        return []
    return [
        f"a few rows set the spread of {names}: some lie more than {HEAVY_TAIL:g} deviations out, as the quartiles "
        f"measure them. {robust}"
    ]


def _row_name(points: Points, table: NumberTable, row: int) -> str:
    if table.named is not None:
        return repr(str(table.others[table.named][row]))
    where = points.where(row) if isinstance(points, StoredPoints) else str(row)
    return where if where.isdigit() else repr(where)


CATEGORY = "marks a category"
"""The warning of a column of 0 and 1 that sums to 1 with its neighbours in each row."""


def with_categories(looked: Array, columns: Sequence[ColumnSummary]) -> list[ColumnSummary]:
    """The columns of rows (n, D), with the warning ``CATEGORY`` for groups of neighbours of 0 and 1, of which exactly
    one is 1 in each row. As they are where fewer than two columns are measurements: a table of codes has levels."""
    binary = [is_code(one) and (one.distinct, one.missing, one.least, one.greatest) == (2, 0, 0, 1) for one in columns]
    measured = [one for one in columns if one.distinct > 1 and not (is_code(one) or is_identifier(one))]
    if len(measured) < 2:
        return list(columns)
    found, start = set[int](), 0
    while start < len(columns):
        stop, total = start, np.zeros(len(looked))
        while stop < len(columns) and binary[stop] and total.max() <= 1 and not total.all():
            total += looked[:, stop]
            stop += 1
        whole = stop > start and bool((total == 1).all())
        found |= set(range(start, stop)) if whole else set()
        start = stop if whole else start + 1
    return [
        replace(one, warnings=(CATEGORY, *one.warnings)) if place in found else one for place, one in enumerate(columns)
    ]


def category_warnings(columns: Sequence[ColumnSummary], table: NumberTable) -> list[str]:
    """The warning that columns mark categories, with the shorter setting that leaves them out."""
    names = [one.name for one in columns if CATEGORY in one.warnings]
    if not names:
        return []
    others = [one.name for one in columns if CATEGORY not in one.warnings]
    fix = f"columns: [{', '.join(others)}] takes the others"
    if table.names is None or len(names) <= len(others):
        fix = "remove them from the file" if table.names is None else f"columns: {without(names)} leaves them out"
    return [
        f"{named_columns(names)} hold 0 and 1 and sum to 1 in groups, as codes of categories do. They put the points "
        f"on a lattice: {fix}"
    ]


def named_columns(names: Sequence[str]) -> str:
    """The beginning of a sentence about columns.

    >>> named_columns(["age"]), named_columns(["age", "size"])
    ('column age', 'columns age, size')
    """
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"column{'s' * (len(names) > 1)} {', '.join(names[:NAMED])}{more}"


def copy_warnings(copies: int, shared: int, whole: bool) -> list[str]:
    """The warning that rows are exact copies; ``whole`` for rows of whole numbers."""
    if not copies:
        return []
    across = f", {shared:,} of them in another split than the original" if shared else ""
    rows = counted_rows(copies, "is an exact copy of another", "are exact copies of others")
    if whole:
        return [f"{rows}{across}, as rows of whole numbers may be: most estimates need duplicates: drop"]
    return [
        f"{rows}{across}: neighbours at distance 0 distort an estimate, and a model is tested on its training points. "
        "duplicates: drop keeps one of each"
    ]


def counted_rows(count: int, one: str, many: str) -> str:
    """``1 row has`` or ``1,200 rows have``."""
    return f"1 row {one}" if count == 1 else f"{count:,} rows {many}"
