"""The columns of a table: which are coordinates, and which the label, the condition or neither."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scorefold.errors import ConfigError, DataError
from scorefold_standard.config.data import ArrayConfig
from scorefold_standard.data.csv_marks import has_commas
from scorefold_standard.data.stored import Array, StoredPoints

Points = Array | StoredPoints


@dataclass(frozen=True, eq=False)
class Table:
    """Content of files: ``points`` (N, ...) of real numbers, ``label`` (N,) of anything, ``condition`` (N, ...).

    ``names`` are those of the columns of ``points`` where the file names them; ``others`` are the columns of the file
    that are no coordinates, each (N,) of anything, among them the one called ``named`` whose values name the rows.
    ``files`` are those that were read, in their order; ``warnings`` say what is odd about them, and ``gaps`` are cells
    among numbers that are none.
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
    columns = coordinates(names, config, path)
    if text:
        return [name for name in columns if name in numeric]
    for name in (*columns, *config.condition):
        if name not in numeric:
            error = _not_numeric(name, example(name), len(names), path)
            if name in config.condition:
                error.hint = f"a condition is numbers: replace each class by one, or read them by label: {name}"
            raise error
    return columns


def coordinates(names: Sequence[str], config: ArrayConfig, path: Path) -> list[str]:
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
    hint = f"leave it out with columns: [-{name}]; names: {name} names the rows by it, label: {name} is for few classes"
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
            f"{path} holds the arrays {', '.join(names) or '(none)'}; say which has the points",
            hint=f"key: {left[0]}" if left else "save the points in it: numpy.savez(path, x=points)",
        )
    return config.key or left[0]
