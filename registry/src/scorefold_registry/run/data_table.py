"""A summary of data as rows of text, for the terminal and the report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from scorefold.errors import printable
from scorefold.interfaces.data import ColumnSummary, DataSummary
from scorefold_registry.run.progress import number_text

HEAD = ("column", "type", "missing", "distinct", "least", "mean", "greatest", "spread", "warnings")
NUMBERS = range(2, 8)
"""The columns of the table that hold numbers."""

_SUMMARY = TypeAdapter(DataSummary)


def summary_in(result: Mapping[str, Any]) -> DataSummary | None:
    """The summary of data in a stage's result; None where there is none."""
    try:
        return _SUMMARY.validate_python(result.get("data"))
    except ValidationError:
        return None


def cells(column: ColumnSummary) -> tuple[str, ...]:
    """A column of the data as a row of the table."""
    name = column.name if column.use == "coordinate" else f"{column.name} ({column.use})"
    numbers = (column.least, column.mean, column.greatest, column.spread)
    return (
        name,
        column.type,
        f"{column.missing:,}",
        f"{column.distinct:,}",
        *("" if number is None else _number(number, column.spread) for number in numbers),
        ", ".join(column.warnings),
    )


def summary_text(summary: DataSummary) -> str:
    """The summary for a terminal: a heading, a line a column, and the warnings."""
    rows = [HEAD, *map(cells, summary.columns)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    lines = [
        "  ".join(cell.rjust(width) if i in NUMBERS else cell.ljust(width) for i, (cell, width) in parts).rstrip()
        for parts in (list(enumerate(zip(row, widths, strict=True))) for row in rows)
    ]
    said = [f"warning: {text}" for text in summary.warnings]
    return printable("\n".join([summary.heading(), "", *lines, *([""] if said else []), *said]))


def _number(value: float, spread: float | None) -> str:
    """A number with four digits, or with as many as show a hundredth of the spread, up to twelve."""
    if value == round(value) and abs(value) < 1e7:
        return f"{value:.0f}"
    if not spread or not abs(value) > spread:
        return number_text(float(value))
    return f"{value:.{min(12, max(4, 3 + math.floor(math.log10(abs(value) / spread))))}g}"


def cell_text(text: str) -> str:
    """Text on one line that steers nothing, and is never what a spreadsheet takes for a formula.

    >>> cell_text("=HYPERLINK(1)")
    "'=HYPERLINK(1)"
    """
    text = printable(text).replace("\n", " ")
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t")) else text
