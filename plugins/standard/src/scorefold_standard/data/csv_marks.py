"""Delimiter of a csv file and its decimal mark, from a look at its lines."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_LINES, _CHARACTERS = 1000, 2**20
_DELIMITERS = (",", ";", "\t", "|")
_COMMA = re.compile(r"\s*[+-]?\d*,\d+([eE][+-]?\d+)?\s*")
_THOUSANDS = re.compile(r"\s*[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?\s*")
_BOTH = re.compile(r"\s*[+-]?[1-9]\d{0,2}(\.\d{3})+,\d*\s*")


@dataclass(frozen=True)
class Marks:
    """The ``delimiter``, the ``decimal`` mark and the one between ``thousands`` of a csv file, None where there is none
    for sure, and whether its first line ``names`` the columns.

    A ``ragged`` file has more fields in its second line than in its first.
    """

    delimiter: str
    decimal: str
    names: bool
    ragged: bool = False
    thousands: str | None = None


def marks_of(path: Path, delimiter: str | None, decimal: str | None) -> Marks:
    """The marks of a file; one that is given is taken.

    The delimiter is the one of ``,``, ``;``, tab and ``|`` by which the first thousand lines have equally many fields,
    two or more, and the largest share of them are numbers; ``,`` where none does, and not where another one leaves
    numbers with a decimal comma. The decimal mark is a comma where the delimiter is not, some fields are numbers by a
    comma, none by a point, and not every comma may stand between thousands. Raises ``OSError``, and ``ValueError`` for
    a file that is not text in UTF-8.
    """
    lines, whole = _first_lines(path)
    found: list[tuple[float, str, str]] = []
    for mark in (delimiter,) if delimiter else _DELIMITERS:
        rows = _rows(lines, mark, whole)
        if rows and len(rows[0]) > 1 and all(len(row) == len(rows[0]) for row in rows):
            point = decimal or _decimal(rows, mark)
            fields = [field for row in rows for field in row]
            found.append((sum(is_number(field, point) for field in fields) / len(fields), mark, point))
    if any(mark != "," and point == "," for _, mark, point in found):
        found = [one for one in found if one[1] != ","]
    _, mark, point = max(found, key=lambda one: one[0], default=(0.0, delimiter or ",", decimal or "."))
    rows = _rows(lines, mark, whole)
    first = rows[0] if rows else []
    fields = [field for row in rows for field in row]
    return Marks(
        mark,
        point,
        names=not all(is_number(field or "nan", point) for field in first),
        ragged=any(len(row) > len(first) for row in rows[1:2]),
        thousands=_thousands(fields, point),
    )


def is_number(field: str, decimal: str = ".") -> bool:
    """True if a field is a number with a decimal mark, or nan or infinity."""
    try:
        float(field.replace(decimal, "."))
    except ValueError:
        return False
    return True


def has_commas(field: str) -> bool:
    """True if a field is a number with a decimal comma or with commas between thousands."""
    return any(kind.fullmatch(field) for kind in (_COMMA, _THOUSANDS, _BOTH))


def _first_lines(path: Path) -> tuple[list[str], bool]:
    """The lines that are looked at, and whether they are all."""
    lines: list[str] = []
    length = 0
    with path.open(newline="", encoding="utf-8-sig") as file:
        for line in itertools.islice(file, _LINES):
            length += len(line)
            if lines and length > _CHARACTERS:
                return lines, False
            if line.strip():
                lines.append(line)
        return lines, next(file, None) is None


def _rows(lines: Iterable[str], delimiter: str, whole: bool) -> list[list[str]]:
    """The rows of lines, but for a last one that goes on after them or that is too long for the look."""
    rows = [row for row in _read(csv.reader(lines, delimiter=delimiter)) if row]
    return rows if whole or len(rows) < 2 else rows[:-1]


def _read(rows: Iterator[list[str]]) -> Iterator[list[str]]:
    try:
        yield from rows
    except csv.Error:
        return


def _thousands(fields: Sequence[str], decimal: str) -> str | None:
    """Thousands mark, if a number such as 2,987.12 or 1,234,567 can be read in only one way."""
    mark, kind = (",", _THOUSANDS) if decimal == "." else (".", _BOTH)
    if any(mark == "," and _COMMA.fullmatch(field) and not _THOUSANDS.fullmatch(field) for field in fields):
        return None
    clear = (field for field in fields if kind.fullmatch(field) and (decimal in field or field.count(mark) > 1))
    return None if next(clear, None) is None else mark


def _decimal(rows: Sequence[Sequence[str]], delimiter: str) -> str:
    fields = [field for row in rows for field in row]
    points = any("." in field and (is_number(field) or _THOUSANDS.fullmatch(field)) for field in fields)
    clear = any(_COMMA.fullmatch(field) and not _THOUSANDS.fullmatch(field) for field in fields)
    return "," if delimiter != "," and clear and not points else "."
