"""The columns of a table: coordinates, label, condition or neither, and the marks between the columns of a csv file."""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from scorefold.errors import ConfigError, DataError
from scorefold.summary import CALLED_SO, ColumnSummary, is_code, is_identifier, without
from scorefold_standard.data.config import ArrayConfig
from scorefold_standard.data.stored import Array, StoredPoints

_LINES, _CHARACTERS = 1000, 2**20
_DELIMITERS = (",", ";", "\t", "|")
_COMMA = re.compile(r"\s*[+-]?\d*,\d+([eE][+-]?\d+)?\s*")
_THOUSANDS = re.compile(r"\s*[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?\s*")
_BOTH = re.compile(r"\s*[+-]?[1-9]\d{0,2}(\.\d{3})+,\d*\s*")


@dataclass(frozen=True)
class CsvDialect:
    """The ``delimiter``, the ``decimal`` mark and the one between ``thousands`` of a csv file, None where there is none
    for sure, and whether its first line ``names`` the columns.

    A ``ragged`` file has more fields in its second line than in its first.
    """

    delimiter: str
    decimal: str
    names: bool
    ragged: bool = False
    thousands: str | None = None


def marks_of(path: Path, delimiter: str | None, decimal: str | None) -> CsvDialect:
    """The marks of a file; one that is given is taken.

    The delimiter is the mark, among ``,``, ``;``, tab and ``|``, by which the first thousand lines have equally many
    fields, two or more, and the largest share of them are numbers; ``,`` where none does, and not where another one
    leaves numbers with a decimal comma. The decimal mark is a comma where the delimiter is not, some fields are numbers
    by a comma, none by a point, and not every comma may stand between thousands. Raises ``OSError``, and ``ValueError``
    for a file that is not text in UTF-8.
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
    return CsvDialect(
        mark,
        point,
        names=not all(is_number(field or "nan", point) for field in first) or _numbered(rows),
        ragged=any(len(row) > len(first) for row in rows[1:2]),
        thousands=_thousands(fields, point),
    )


_TOP = 50
"""The lines in which the names of the columns are looked for below titles."""


def refuse_titles(path: Path, delimiter: str | None) -> None:
    """Raise ``DataError`` for a file that begins with lines of comments or titles, which are no table.

    Such a line begins with ``#``, or has text in its first cell and at least half of its cells empty or absent. Below
    stands a full line of names and one with numbers, or, after lines with ``#``, one of numbers alone. Raises
    ``OSError`` and ``ValueError`` as ``marks_of``.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = [(place, line) for place, line in enumerate(itertools.islice(file, _TOP), 1) if line.strip()]
    read = {
        mark: list(_read(csv.reader([line for _, line in lines], delimiter=mark)))
        for mark in ((delimiter,) if delimiter else _DELIMITERS)
    }
    # A cell with a line break makes fewer rows than lines. Where a mark makes a table, no other one is tried.
    read = {mark: rows for mark, rows in read.items() if len(rows) == len(lines)}
    fits = {
        mark: rows
        for mark, rows in read.items()
        if rows and 1 < len(rows[0]) == min(map(len, rows)) == max(map(len, rows))
    }
    for mark, rows in (fits or read).items():
        width = max((len(row) for row in rows), default=0)
        filled = [sum(map(bool, map(str.strip, row))) for row in rows]
        first = next((at for at, count in enumerate(filled) if count == width), 0)
        if width < 2 or not first or not all(_is_title(row, width) for row in rows[:first]):
            continue
        found, below = rows[first], rows[first + 1 : first + 2]
        named = not any(map(is_number, found)) and any(is_number(field) for row in below for field in row)
        # A shorter line above numbers is a title for sure only after a mark: x above 0,5 is a name above decimals.
        if not named and not (all(map(is_number, found)) and all(row[0].startswith("#") for row in rows[:first])):
            continue
        above, place = lines[first - 1][0], lines[first][0]
        shown, stands = lines[0][1].strip(), "the names of the columns stand" if named else "the first numbers stand"
        raise DataError(
            f"line {lines[0][0]} of {path} is not a row of a table: {shown[:_SHOWN]!r}; {stands} in "
            f"line {place}: {mark.join(found).strip()[:_SHOWN]!r}",
            hint=f"delete {'line 1' if above == 1 else f'lines 1 to {above}'} from the file, for example by "
            f"tail -n +{place} {path.name} > table.csv",
        )


_SHOWN = 60
"""The characters of a line that are shown."""


def _is_title(row: Sequence[str], width: int) -> bool:
    if row[0].startswith("#"):
        return True
    filled = sum(bool(field.strip()) for field in row)
    return bool(row[0].strip()) and not is_number(row[0]) and 2 * filled <= width


_SURE = 4
"""The columns from which on a first line 0, 1, 2, ... can only be names."""


def _numbered(rows: Sequence[Sequence[str]]) -> bool:
    """True if the first of some rows counts the columns from 0, as pandas names them, or gives years in equal steps
    above other numbers. An index before them may have an empty name.

    Of fewer than four columns a count may be a row of whole numbers, such as a pair of nodes, where all others are
    whole.
    """
    first = rows[0] if rows else []
    counted = first[1:] if first[:1] == [""] else first
    if len(counted) < 2 or not all(map(str.isdigit, counted)):
        return False
    numbers = [int(field) for field in counted]
    if numbers == list(range(len(counted))):
        return len(counted) >= _SURE or any("." in field for row in rows[1:] for field in row)
    steps = {after - before for before, after in itertools.pairwise(numbers)}
    years = len(steps) == 1 and 0 not in steps and all(year in _YEARS for year in numbers)
    below = [field for row in rows[1:] for field in row[-len(counted) :]]
    return years and not any(field.isdigit() and int(field) in _YEARS for field in below)


_YEARS = range(1800, 2201)


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


COMMAS = "numbers with commas: "
"""The beginning of the warning of a column of numbers with commas, after which the setting stands that reads it."""

FOLLOWED, PRECEDED = "numbers followed by ", "numbers preceded by "
"""The beginning of the warning of a column of numbers with a unit, or a currency, which stands after it."""

_MOSTLY = 0.9
"""The share of numbers with commas, and of numbers, among the cells of a column of such numbers."""


def comma_warning(cells: Sequence[str]) -> str:
    """The warning ``COMMAS`` with the setting that reads cells with commas; empty for other cells.

    Commas before three digits in every cell may be either mark, and both settings are named then.
    """
    marked = [cell for cell in cells if has_commas(cell)]
    if not marked or len(marked) + sum(map(is_number, cells)) < _MOSTLY * len(cells):
        return ""
    if any(_BOTH.fullmatch(cell) for cell in marked):
        return COMMAS + 'decimal: "," and thousands: "." read them'
    if not all(_THOUSANDS.fullmatch(cell) for cell in marked):
        return COMMAS + 'decimal: "," reads them'
    if any("." in cell or cell.count(",") > 1 for cell in marked):
        return COMMAS + 'thousands: "," reads them'
    cell = marked[0].strip()
    whole, part = cell.replace(",", ""), cell.replace(",", ".")
    return COMMAS + f'thousands: "," reads {cell} as {whole}, and decimal: "," as {part}'


_AMOUNT = r"\d+(?:[.,]\d+)*"
_WITH_UNIT = re.compile(rf"\s*[+-]?{_AMOUNT}\s*([^\d\s.,:/+-][^\d\s]{{0,9}})\s*")
_WITH_CURRENCY = re.compile(rf"\s*[+-]?([$\u20ac\u00a3\u00a5\u20b9]|EUR|USD|GBP|CHF)\s*[+-]?{_AMOUNT}\s*")


def unit_warning(cells: Sequence[str]) -> str:
    """The warning of a unit after the number in every cell, such as ``mm``, or of a currency before it; empty where
    they differ.

    >>> unit_warning(["5.2 mm", "7 mm"]), unit_warning(["5 mm", "3 kg"]), unit_warning(["2024-01-05"])
    ("numbers followed by 'mm'", '', '')
    >>> unit_warning(["$1,234.50", "-$7"])
    "numbers preceded by '$'"
    """
    for pattern, said in ((_WITH_UNIT, FOLLOWED), (_WITH_CURRENCY, PRECEDED)):
        found = {match[1] if (match := pattern.fullmatch(cell)) else "" for cell in cells}
        if len(found) == 1 and (unit := found.pop()):
            return f"{said}{unit!r}"
    return ""


DATES = "dates"
_DAY = r"(?:0?[1-9]|[12]\d|3[01])"
_DATE = re.compile(
    rf"\s*(?:\d{{4}}([-/.])(?:0?[1-9]|1[0-2])\1{_DAY}|{_DAY}([-/.]){_DAY}\2\d{{4}})"
    r"(?:(?:T|,? +)\d{1,2}:\d{2}[\d:.]*(?: ?[AaPp][Mm])?(?: ?(?:Z|UTC|GMT|[+-]\d{2}:?\d{2}))?)?\s*"
)


def date_warning(cells: Sequence[str]) -> str:
    """The warning ``DATES`` where every cell is a date with a year of four digits, perhaps with a time of day.

    >>> date_warning(["2024-01-05", "2024-01-06 12:00 UTC"]), date_warning(["5/1/2024"]), date_warning(["2024-13-45"])
    ('dates', 'dates', '')
    """
    return DATES if cells and all(map(_DATE.fullmatch, cells)) else ""


CLASS = "class?"
"""The warning of a coordinate that is called as classes are and holds a few whole numbers."""

_CLASSES = ("target", "label", "labels", "class", "classes", "species", "category")
MOST_CLASSES = 100

_IDENTIFIER = re.compile(r"(?i:(?:.*[_\W])?(?:id|uuid|ssn|zip(?:[_\W]?code)?|post(?:al)?[_\W]?code))")
_NUMBER = re.compile(
    r".*[a-z]I[Dd]|(?i:(?:.*[_\W])?(?:customer|account|order|invoice|patient|serial|phone|member)[_\W]?(?:no|nr|number))"
)
"""The names of identifiers: ``id``, ``zip_code``; and ``customerId`` or ``order nr`` where nearly all values differ."""


def by_name(column: ColumnSummary, rows: int) -> ColumnSummary:
    """A column of whole numbers in so many rows, with the warning ``CLASS`` or ``CALLED_SO`` where it is called as the
    class of each point is, or as identifiers are.

    >>> by_name(ColumnSummary("customer_id", "integer", 0, 400), 1000).warnings
    ('is called as identifiers are',)
    """
    if column.type != "integer" or column.distinct < 2:
        return column
    if column.distinct <= MOST_CLASSES and column.name.lower() in _CLASSES:
        return replace(column, warnings=(CLASS, *column.warnings))
    few = column.distinct <= MOST_CLASSES and 2 * column.distinct < rows  # an inner diameter may be called ID
    named = not few and _IDENTIFIER.fullmatch(column.name)
    if not named and (column.distinct < _MOSTLY * rows or not _NUMBER.fullmatch(column.name)):
        return column
    if is_code(column) or is_identifier(column):
        return column
    return replace(column, warnings=(CALLED_SO, *column.warnings))


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


Points = Array | StoredPoints


@dataclass(frozen=True, eq=False)
class NumberTable:
    """Content of files: ``points`` (N, ...) of real numbers, ``label`` (N,) of anything, ``condition`` (N, ...).

    ``names`` are the names of the columns of ``points`` where the file has them; ``others`` are the columns of the file
    that are no coordinates, each (N,) of anything, among them the one called ``named`` whose values name the rows.
    ``files`` are those that were read, in their order; ``warnings`` say what is odd about them, and ``gaps`` are cells
    among numbers that are none, and ``twice`` names that the file has more than once.
    """

    points: Points
    label: Array | None = None
    condition: Array | None = None
    names: tuple[str, ...] | None = None
    others: Mapping[str, Array] = field(default_factory=dict)
    named: str | None = None
    files: tuple[Path, ...] = ()
    warnings: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()
    twice: tuple[str, ...] = ()

    @property
    def rows(self) -> Sequence[object]:
        """Names of the rows: the values of the column of names, or numbers."""
        if self.named is not None:
            return [str(name) for name in self.others[self.named].tolist()]
        return self.points.rows if isinstance(self.points, StoredPoints) else range(len(self.points))


def numeric_coordinates(
    names: Sequence[str],
    numeric: set[str],
    config: ArrayConfig,
    path: Path,
    *,
    text: bool,
    example: Callable[[str], Sequence[Any]],
) -> list[str]:
    """The ``coordinates`` of a file, of which those in ``numeric`` hold numbers.

    With ``text`` those that hold none are left out. Without, they and such conditions raise ``DataError``, with the
    ``example`` of a value.
    """
    columns = coordinate_columns(names, config, path)
    if text:
        return [name for name in columns if name in numeric]
    for name in (*columns, *config.condition):
        if name not in numeric:
            error = _not_numeric(name, example(name), len(names), path)
            if name in config.condition:
                error.hint = f"a condition is numbers: replace each class by one, or read them by label: {name}"
            raise error
    return columns


def coordinate_columns(names: Sequence[str], config: ArrayConfig, path: Path) -> list[str]:
    """The columns of a file's ``names`` that are the coordinates of a point.

    Raises ``DataError`` for a column that is not there and where none is left, ``ConfigError`` for one with two uses.
    """
    given = config.columns or ()
    # A column may be called -x, and is then taken by its name.
    left = {name[1:] for name in given if name.startswith("-") and name not in names}
    taken = [name for name in given if not name.startswith("-") or name in names]
    named = [name for name in (config.label, config.names) if name is not None]
    wanted = [*taken, *left, *config.condition, *named]
    missing = [name for name in wanted if name not in names]
    if missing:
        raise DataError(f"{path} has no column {missing[0]!r}; it has {', '.join(names)}")
    if taken and left:
        raise ConfigError(
            f"columns takes {taken[0]!r} and leaves {sorted(left)[0]!r} out; expected one or the other",
            hint="name the columns to take, or those to leave out with a minus before each",
        )
    others = {*named, *config.condition, *left}
    columns = taken or [name for name in names if name not in others]
    shared = [name for name in columns if name in others]
    if shared:
        raise ConfigError(f"column {shared[0]!r} is a coordinate of the points and also their label, condition or name")
    if not columns:
        raise DataError(
            f"no column of {path} is left for the points: all are the label, the names, the condition or left out"
        )
    return columns


def _not_numeric(name: str, example: Sequence[Any], columns: int, path: Path) -> DataError:
    leave = f"leave it out with columns: {without([name])}"
    hint = f"{leave}; names: {name} names the rows by it, label: {name} is for few classes"
    text = str(example[0]) if example and path.suffix.lower() in (".csv", ".tsv") else ""
    parts = [mark for mark in (";", "\t", "|", " ") if mark in text]
    if columns == 1 and parts:
        hint = f"the columns look separated by {parts[0]!r}: set delimiter: {json.dumps(parts[0])}"
    elif has_commas(text):
        hint = 'if that is a decimal comma, set decimal: ","; if it is between thousands, thousands: ","'
    return DataError(f"column {name!r} of {path} isn't numeric: it holds {example}", hint=hint)


def points_array(names: Sequence[str], path: Path, config: ArrayConfig) -> str:
    """Array of the points among several named arrays, with the label and the condition known to be there.

    Raises ``DataError`` for an array that is not there and where it isn't clear which it is, ``ConfigError`` for one
    with two uses.
    """
    if len(config.condition) > 1:
        raise ConfigError(f"{path} has its condition in one array", hint=f"condition: [{config.condition[0]}]")
    others = {name for name in (config.label, *config.condition) if name is not None}
    if config.key in others:
        raise ConfigError(f"key: {config.key} is also the label or the condition of the points")
    for name in (*others, *([] if config.key is None else [config.key])):
        if name not in names:
            raise DataError(f"{path} has no array {name!r}; it has {', '.join(names) or 'none'}")
    left = [name for name in names if name not in others]
    if config.key is None and len(left) != 1:
        raise DataError(
            f"{path} holds the arrays {', '.join(names) or '(none)'}; say which to read",
            hint=f"key: {left[0]}" if left else "save the points in it: numpy.savez(path, x=points)",
        )
    return config.key or left[0]
