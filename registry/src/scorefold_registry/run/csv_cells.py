"""Text as a cell of a CSV file, which a spreadsheet may open."""

from __future__ import annotations

from scorefold.errors import printable


def cell_text(text: str) -> str:
    """Text on one line that steers nothing, and is never what a spreadsheet takes for a formula.

    >>> cell_text("=HYPERLINK(1)")
    "'=HYPERLINK(1)"
    """
    text = printable(text).replace("\n", " ")
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t")) else text
