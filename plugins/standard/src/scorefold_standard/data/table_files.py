"""Files of numbers as tables: npy, npz, csv and parquet."""

from __future__ import annotations

import csv
import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scorefold.errors import ConfigError, DataError
from scorefold_standard.data_config import ArrayConfig

Array = npt.NDArray[Any]
_SUFFIXES = (".npy", ".npz", ".csv", ".parquet")


@dataclass(frozen=True, eq=False)
class Table:
    """What a file holds: ``points`` (N, ...) of real numbers, ``label`` (N,) of anything, ``condition`` (N, ...).

    ``names`` are those of the columns of ``points`` where the file names them; ``others`` are the columns of the file
    that are no coordinates, each (N,) of anything.
    """

    points: Array
    label: Array | None = None
    condition: Array | None = None
    names: tuple[str, ...] | None = None
    others: Mapping[str, Array] = field(default_factory=dict)


def read_table(path: Path, config: ArrayConfig, *, text: bool = False) -> Table:
    """The points, labels and conditions of a file, as its suffix says. Raises ``DataError`` and ``ConfigError``.

    With ``text`` a column of a csv or parquet file that holds no numbers is among the others, not an error.
    """
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise DataError(f"{path} ends with {suffix!r}; a file of points ends with one of {', '.join(_SUFFIXES)}")
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise DataError(
            f"{path} {what}; expected a file of points", hint="a relative path starts at the working folder"
        )
    _check_options(suffix, config)
    if suffix in (".csv", ".parquet"):
        return _read_frame(path, config, text)
    try:
        if suffix == ".npy":
            return Table(points=np.lib.format.open_memmap(path, mode="r"))
        # numpy leaves a file open that turns out to be no archive, so it is opened here.
        with path.open("rb") as file:
            arrays = np.load(file, allow_pickle=False)
            if not isinstance(arrays, np.lib.npyio.NpzFile):
                raise ValueError("it is a single array, not an archive of arrays")
            return _from_npz(arrays, path, config)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        save = "savez(path, x=points)" if suffix == ".npz" else "save(path, points)"
        raise DataError(
            f"{path} can't be read as numbers in numpy's {suffix} format: {error}",
            hint=f"save plain numbers: numpy.{save}, with points an array of a real type such as float32",
        ) from error


def _check_options(suffix: str, config: ArrayConfig) -> None:
    allowed = {
        ".npy": set[str](),
        ".npz": {"key", "label", "condition"},
        ".csv": {"columns", "label", "condition", "header", "delimiter"},
        ".parquet": {"columns", "label", "condition"},
    }[suffix]
    formats = ("key", "columns", "label", "condition", "header", "delimiter")
    default = {name: ArrayConfig.model_fields[name].default for name in formats}
    for name in formats:
        if name not in allowed and getattr(config, name) != default[name]:
            raise ConfigError(f"{name!r} means nothing for a {suffix} file", hint=f"remove {name!r}")


def _from_npz(arrays: Any, path: Path, config: ArrayConfig) -> Table:
    if len(config.condition) > 1:
        raise ConfigError("an npz file has its condition in one array", hint=f"condition: [{config.condition[0]}]")

    def read(key: str) -> Array:
        if key not in arrays.files:
            raise DataError(f"{path} has no array {key!r}; it has {', '.join(arrays.files) or 'none'}")
        return np.asarray(arrays[key])

    others = {name for name in (config.label, *config.condition) if name is not None}
    if config.key in others:
        raise ConfigError(f"key: {config.key} is also the label or the condition of the points")
    left = [name for name in arrays.files if name not in others]
    if config.key is None and len(left) != 1:
        raise DataError(
            f"{path} holds the arrays {', '.join(arrays.files) or '(none)'}; say which has the points",
            hint=f"key: {left[0]}" if left else "save the points in it: numpy.savez(path, x=points)",
        )
    return Table(
        points=read(config.key or left[0]),
        label=None if config.label is None else read(config.label),
        condition=read(config.condition[0]) if config.condition else None,
    )


def _read_frame(path: Path, config: ArrayConfig, text: bool) -> Table:
    import pandas as pd

    try:
        if path.suffix.lower() == ".parquet":
            frame = pd.read_parquet(path)
        else:
            header = _has_header(path, config.delimiter) if config.header is None else config.header
            frame = pd.read_csv(path, sep=config.delimiter, header=0 if header else None)
    except (ValueError, OSError) as error:
        raise DataError(f"{path} can't be read as a table: {error}") from error
    if not isinstance(frame.index, pd.RangeIndex) and path.suffix.lower() == ".csv":
        raise DataError(
            f"the rows of {path} have more fields than its first line",
            hint="give every column a name, or set 'delimiter' to what is between columns (with a decimal point, not a "
            "comma)",
        )
    if len(frame) == 0:
        raise DataError(f"{path} has no rows below its first line, which is taken for the names of the columns")
    frame.columns = [str(name) for name in frame.columns]
    columns = coordinates([*frame.columns], config, path)
    numeric = {name for name in frame.columns if pd.api.types.is_numeric_dtype(frame[name])}
    if text:
        columns = [name for name in columns if name in numeric]
    for name in (*columns, *config.condition):
        if name not in numeric and not text:
            raise _not_numeric(name, frame[name].dropna().head(1).tolist(), len(frame.columns), path)
    condition = [name for name in config.condition if name in numeric]
    return Table(
        points=frame[columns].to_numpy(dtype=np.float64, na_value=np.nan),
        label=frame[config.label].to_numpy() if config.label else None,
        condition=frame[condition].to_numpy(dtype=np.float64, na_value=np.nan) if condition else None,
        names=tuple(columns),
        others={name: frame[name].to_numpy() for name in frame.columns if name not in columns},
    )


def coordinates(names: Sequence[str], config: ArrayConfig, path: Path) -> list[str]:
    """The columns of a file's ``names`` that are the coordinates of a point.

    Raises ``DataError`` for a column that is not there and where none is left, ``ConfigError`` for one with two uses.
    """
    given = config.columns or ()
    # A column may be called -x, and is then taken by its name.
    left = {name[1:] for name in given if name.startswith("-") and name not in names}
    taken = [name for name in given if not name.startswith("-") or name in names]
    wanted = [*taken, *left, *config.condition, *([config.label] if config.label else [])]
    missing = [name for name in wanted if name not in names]
    if missing:
        raise DataError(f"{path} has no column {missing[0]!r}; it has {', '.join(names)}")
    if taken and left:
        raise ConfigError(
            f"columns takes {taken[0]!r} and leaves {sorted(left)[0]!r} out; expected one or the other",
            hint="name the columns to take, or those to leave out with a minus before each",
        )
    others = {config.label, *config.condition, *left}
    columns = taken or [name for name in names if name not in others]
    shared = [name for name in columns if name in others]
    if shared:
        raise ConfigError(f"column {shared[0]!r} is a coordinate of the points and also their label or condition")
    if not columns:
        raise DataError(f"no column of {path} is left for the points: all are the label, the condition or left out")
    return columns


def _not_numeric(name: str, example: list[Any], columns: int, path: Path) -> DataError:
    hint = f"leave it out with columns: [-{name}], or make it the class of each point with 'label: {name}'"
    if columns == 1 and path.suffix.lower() == ".csv":
        parts = [mark for mark in (";", "\t", "|", " ") if example and mark in str(example[0])]
        if parts:
            hint = f"the columns look separated by {parts[0]!r}: set delimiter: {json.dumps(parts[0])}"
    return DataError(f"column {name!r} of {path} isn't numeric: it holds {example}", hint=hint)


def _has_header(path: Path, delimiter: str) -> bool:
    """Whether a field of the first line isn't a number."""
    with path.open(newline="", encoding="utf-8-sig") as lines:
        first = next(csv.reader(lines, delimiter=delimiter), [])

    def numeric(text: str) -> bool:
        try:
            float(text or "nan")
        except ValueError:
            return False
        return True

    return not all(numeric(text) for text in first)
