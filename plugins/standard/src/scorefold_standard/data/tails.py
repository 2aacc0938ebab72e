"""The warning about rows that lie far out. No torch here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scorefold.summary import HEAVY_TAIL, LOOKED_AT, ColumnSummary
from scorefold_standard.data.config import ArrayConfig
from scorefold_standard.data.stored import StoredPoints
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


def named_columns(names: Sequence[str]) -> str:
    """The beginning of a sentence about columns.

    >>> named_columns(["age"]), named_columns(["age", "size"])
    ('column age', 'columns age, size')
    """
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"column{'s' * (len(names) > 1)} {', '.join(names[:NAMED])}{more}"
