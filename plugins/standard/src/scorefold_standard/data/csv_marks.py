"""What stands between the columns of a csv file, and before the decimals of its numbers, by a look at its lines."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

_LINES, _CHARACTERS = 1000, 2**20
_DELIMITERS = (",", ";", "\t", "|")
COMMA = re.compile(r"\s*[+-]?\d*,\d+([eE][+-]?\d+)?\s*")
"""A number with a decimal comma, which one with commas between thousands may look like."""
_THOUSANDS = re.compile(r"\s*[+-]?[1-9]\d{0,2}(,\d{3})+\s*")


@dataclass(frozen=True)
class Marks:
    """The ``delimiter`` and the ``decimal`` mark of a csv file, and whether its first line ``names`` the columns."""

    delimiter: str
    decimal: str
    names: bool


def marks_of(path: Path, delimiter: str | None, decimal: str | None) -> Marks:
    """The marks of a file; one that is given is taken.

    The delimiter is the one of ``,``, ``;``, tab and ``|`` by which the first thousand lines have equally many fields,
    two or more, and the largest share of them are numbers; ``,`` where none does. The decimal mark is a comma where
    the delimiter is not, and more fields are numbers by a comma than by a point; not where every comma of them may
    stand between thousands.

    Raises ``OSError``, and ``ValueError`` for a file that is not text in UTF-8.
    """
    lines = _first_lines(path)
    best = Marks(delimiter or ",", decimal or ".", False)
    rows, most = _rows(lines, best.delimiter), -1.0
    for mark in (delimiter,) if delimiter else _DELIMITERS:
        found = _rows(lines, mark)
        if not found or len(found[0]) < 2 or any(len(row) != len(found[0]) for row in found):
            continue
        point = decimal or _decimal(found, mark)
        fields = [field for row in found for field in row]
        share = sum(_is_number(field, point) for field in fields) / len(fields)
        if share > most:
            best, rows, most = Marks(mark, point, False), found, share
    first = rows[0] if rows else []
    return Marks(best.delimiter, best.decimal, not all(_is_number(field or "nan", best.decimal) for field in first))


def _first_lines(path: Path) -> list[str]:
    lines: list[str] = []
    length = 0
    with path.open(newline="", encoding="utf-8-sig") as file:
        for line in itertools.islice(file, _LINES):
            length += len(line)
            if lines and length > _CHARACTERS:
                break
            if line.strip():
                lines.append(line)
    return lines


def _rows(lines: Iterable[str], delimiter: str) -> list[list[str]]:
    try:
        return [row for row in csv.reader(lines, delimiter=delimiter) if row]
    except csv.Error:
        return []


def _decimal(rows: Sequence[Sequence[str]], delimiter: str) -> str:
    fields = [field for row in rows for field in row]
    commas = [field for field in fields if COMMA.fullmatch(field)]
    points = sum("." in field and _is_number(field, ".") for field in fields)
    clear = any(not _THOUSANDS.fullmatch(field) for field in commas)
    return "," if delimiter != "," and clear and len(commas) > points else "."


def _is_number(field: str, decimal: str) -> bool:
    try:
        float(field.replace(decimal, "."))
    except ValueError:
        return False
    return True
