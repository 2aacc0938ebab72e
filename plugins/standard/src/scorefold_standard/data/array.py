"""Points from a file of numbers: npy, npz, csv or parquet."""

from __future__ import annotations

import csv
import json
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scorefold.artefacts import digest_file
from scorefold.data import ConditionSpec, Dataset, EventScale, StreamedDataset, TensorSpec
from scorefold.errors import ConfigError, DataError
from scorefold.interfaces import DataSource
from scorefold.splits import pick, source_seed, split_positions
from scorefold_standard.data_config import ArrayConfig

Array = npt.NDArray[Any]
_SUFFIXES = (".npy", ".npz", ".csv", ".parquet")
_LARGEST = float(np.finfo(np.float32).max)  # events are float32
_OFF_LEVEL = 0.01  # in steps between levels: far above the rounding of float32, far below half a step
_BLOCK = 2**24  # entries looked at once, so that a mapped file never has to fit in memory


@dataclass(frozen=True, eq=False)
class Table:
    """What a file holds: ``points`` (N, ...) of real numbers, ``label`` (N,) of anything, ``condition`` (N, ...)."""

    points: Array
    label: Array | None = None
    condition: Array | None = None


class ArrayFile(DataSource):
    """The rows of a file as events, float32.

    A large npy file is mapped, not read: only the rows asked for are. Labels become the classes 0, 1, ... in sorted
    order. ``index`` is the row in the file, from 0. Raises ``DataError`` for a file that is missing, isn't numeric,
    holds NaN, infinity or numbers beyond single precision, or has too few rows, and for values that are not what
    ``low``, ``high`` and ``levels`` say.
    """

    def __init__(self, config: ArrayConfig, *, generator: torch.Generator | None = None) -> None:
        self._path = Path(config.path).expanduser()
        table = read_table(self._path, config)
        points = _shaped(table.points, config, self._path)
        self.event_shape = tuple(points.shape[1:])
        positions = split_positions(len(points), config.fractions, source_seed(config.seed, generator), config.limit)
        mean, std = _scan(points, positions["train"].numpy(), self._path)
        shift, factor = (mean, std) if config.standardise else (0.0, 1.0)
        self.event_scale = EventScale(
            low=None if config.low is None else (config.low - shift) / factor,
            high=None if config.high is None else (config.high - shift) / factor,
            levels=config.levels,
            mean=(mean - shift) / factor,
            std=std / factor,
            shift=shift,
            factor=factor,
        )
        _check_bounds(points, config, self._path)
        label = None if table.label is None else _classes(_rows(table.label, "label", len(points), self._path))
        condition, self.condition_spec = _condition(table.condition, len(points), self._path)

        def fetch(rows: Tensor) -> Dataset:
            chosen = torch.from_numpy(np.asarray(points[rows.numpy()], dtype=np.float64))
            return Dataset(
                x=((chosen - shift) / factor).float(),
                condition=None if condition is None else condition[rows],
                label=None if label is None else label[rows],
                index=rows,
            )

        in_memory = points.size * 4 <= config.memory * 2**20
        self._splits = {
            name: fetch(rows) if in_memory else _streamed(fetch, rows, self.event_shape)
            for name, rows in positions.items()
        }

    def load(self, split: str) -> Dataset:
        return pick(self._splits, split)

    def fingerprint(self) -> str:
        return digest_file(self._path)


def _streamed(fetch: Callable[[Tensor], Dataset], rows: Tensor, event_shape: tuple[int, ...]) -> StreamedDataset:
    return StreamedDataset(x=torch.empty(0, *event_shape), fetch=lambda index: fetch(rows[index]), size=len(rows))


def read_table(path: Path, config: ArrayConfig) -> Table:
    """The points, labels and conditions of a file, as its suffix says. Raises ``DataError`` and ``ConfigError``."""
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
        return _read_frame(path, config)
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


def _read_frame(path: Path, config: ArrayConfig) -> Table:
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
            hint="give every column a name, or set 'delimiter' to what parts them (with a decimal point, not a comma)",
        )
    if len(frame) == 0:
        raise DataError(f"{path} has no rows below its first line, which is taken for the names of the columns")
    frame.columns = [str(name) for name in frame.columns]
    names = list(frame.columns)
    wanted = [*(config.columns or ()), *config.condition, *([config.label] if config.label else [])]
    missing = [name for name in wanted if name not in names]
    if missing:
        raise DataError(f"{path} has no column {missing[0]!r}; it has {', '.join(names)}")
    others = {config.label, *config.condition}
    columns = list(config.columns or [name for name in names if name not in others])
    shared = [name for name in columns if name in others]
    if shared:
        raise ConfigError(f"column {shared[0]!r} is a coordinate of the points and also their label or condition")
    if not columns:
        raise DataError(f"no column of {path} is left for the points: all are the label or the condition")
    for name in (*columns, *config.condition):
        if not pd.api.types.is_numeric_dtype(frame[name]):
            raise _not_numeric(name, frame[name].dropna().head(1).tolist(), len(names), path)
    return Table(
        points=frame[columns].to_numpy(dtype=np.float64, na_value=np.nan),
        label=frame[config.label].to_numpy() if config.label else None,
        condition=frame[list(config.condition)].to_numpy(dtype=np.float64, na_value=np.nan)
        if config.condition
        else None,
    )


def _not_numeric(name: str, example: list[Any], columns: int, path: Path) -> DataError:
    hint = f"leave it out with 'columns', or make it the class of each point with 'label: {name}'"
    if columns == 1 and path.suffix.lower() == ".csv":
        parts = [mark for mark in (";", "\t", "|", " ") if example and mark in str(example[0])]
        if parts:
            hint = f"the columns look parted by {parts[0]!r}: set delimiter: {json.dumps(parts[0])}"
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


def _shaped(points: Array, config: ArrayConfig, path: Path) -> Array:
    if points.dtype.kind not in "fiub":
        raise DataError(f"{path} holds values of type {points.dtype}; expected real numbers")
    if points.ndim < 2:
        raise DataError(
            f"{path} holds an array of shape {points.shape}; expected (N, ...), one point a row",
            hint="for N numbers, save points[:, None]",
        )
    if points.shape[0] == 0 or 0 in points.shape:
        raise DataError(f"{path} holds an array of shape {points.shape}, which has no points")
    if config.event_shape is None:
        return points
    if int(np.prod(config.event_shape)) != int(np.prod(points.shape[1:])):
        raise ConfigError(
            f"event_shape {config.event_shape} has {int(np.prod(config.event_shape))} coordinates; "
            f"a row of {path} has {int(np.prod(points.shape[1:]))}"
        )
    return points.reshape(len(points), *config.event_shape)


def _blocks(points: Array) -> Iterator[tuple[int, Array]]:
    size = max(1, _BLOCK // max(1, points[0].size))
    for start in range(0, len(points), size):
        yield start, np.asarray(points[start : start + size]).reshape(min(size, len(points) - start), -1)


def _scan(points: Array, train: npt.NDArray[np.int64], path: Path) -> tuple[float, float]:
    """The mean and deviation of the training rows, in one pass that also refuses NaN and infinity in any row."""
    sums, squares = np.empty(len(points)), np.empty(len(points))
    bad: list[int] = []
    # Sums about a typical value: squares about 0 would lose the deviation of data that lie far from 0.
    centre = float(np.nan_to_num(np.asarray(points[0], dtype=np.float64)).mean())
    for start, block in _blocks(points):
        rows = slice(start, start + len(block))
        finite = np.asarray((np.abs(block.astype(np.float64)) <= _LARGEST).all(axis=1))
        bad.extend((start + np.flatnonzero(~finite)).tolist())
        shifted = np.where(finite[:, None], block, centre).astype(np.float64) - centre
        sums[rows], squares[rows] = shifted.sum(axis=1), (shifted**2).sum(axis=1)
    if bad:
        shown = ", ".join(map(str, bad[:5])) + (f" and {len(bad) - 5} more" if len(bad) > 5 else "")
        raise DataError(
            f"{path} holds NaN, infinity, empty fields or numbers beyond {_LARGEST:.2g} in "
            f"row{'s' * (len(bad) > 1)} {shown} (rows count from 0)",
            hint="remove these rows or fill them in",
        )
    if len(train) == 0:
        return 0.0, 1.0
    count = len(train) * points[0].size
    mean = float(sums[train].sum() / count)
    std = float(np.sqrt(max(0.0, squares[train].sum() / count - mean**2)))
    return mean + centre, std or 1.0


def _check_bounds(points: Array, config: ArrayConfig, path: Path) -> None:
    if config.low is None and config.high is None:
        return
    low = -np.inf if config.low is None else config.low
    high = np.inf if config.high is None else config.high
    for start, block in _blocks(points):
        outside = np.flatnonzero(np.any((block < low) | (block > high), axis=1))
        if len(outside):
            raise DataError(
                f"row {start + int(outside[0])} of {path} holds values from {block[outside[0]].min():g} to "
                f"{block[outside[0]].max():g}; low and high say [{low:g}, {high:g}]",
                hint="set low and high to what the values can be",
            )
        if config.levels is None or config.low is None or config.high is None:
            continue
        steps = (block.astype(np.float64) - config.low) * ((config.levels - 1) / (config.high - config.low))
        between = np.flatnonzero(np.any(np.abs(steps - np.round(steps)) > _OFF_LEVEL, axis=1))
        if len(between):
            raise DataError(
                f"row {start + int(between[0])} of {path} holds values that are none of the {config.levels} levels "
                f"from {low:g} to {high:g}",
                hint="set levels to how many values there are (256 for bytes from 0 to 255), or leave it out",
            )


def _rows(values: Array, what: str, count: int, path: Path) -> Array:
    if values.ndim == 0 or len(values) != count:
        raise DataError(f"the {what} in {path} has shape {values.shape}; there are {count} points")
    return values


def _classes(label: Array) -> Tensor:
    """Labels of any type as the classes 0, 1, ... in sorted order, (N,)."""
    import pandas as pd

    if label.ndim != 1:
        raise DataError(f"the labels have shape {label.shape}; expected (N,)")
    missing = np.flatnonzero(pd.isna(label))
    if len(missing):
        raise DataError(f"row {int(missing[0])} has no label (rows count from 0)", hint="remove the row or fill it in")
    _, codes = np.unique(label.astype(str) if label.dtype.kind == "O" else label, return_inverse=True)
    return torch.from_numpy(codes).long()


def _condition(values: Array | None, count: int, path: Path) -> tuple[Tensor | None, ConditionSpec | None]:
    if values is None:
        return None, None
    values = _rows(values, "condition", count, path)
    if values.dtype.kind not in "fiub" or not np.isfinite(values).all():
        raise DataError(f"the condition in {path} isn't made of finite real numbers")
    condition = torch.from_numpy(np.array(values, dtype=np.float32))
    if condition.dim() == 1:
        condition = condition[:, None]
    return condition, TensorSpec(tuple(condition.shape[1:]))
