"""Tables of Arrow that are read a block at a time: parquet files, and folders that Hugging Face's datasets saved."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scorefold.artefacts import read_json
from scorefold.errors import DataError
from scorefold.summary import without
from scorefold_standard.data.config import ArrayConfig
from scorefold_standard.data.stored import Array, StoredBlock, StoredPoints
from scorefold_standard.data.table_columns import NumberTable, coordinate_columns, numeric_coordinates

_END = b"\xff\xff\xff\xff\0\0\0\0"
"""The last bytes of a whole Arrow stream."""


@dataclass(frozen=True, eq=False)
class Frames:
    """Rows of one ``schema`` in blocks; ``read`` gives some columns of a block."""

    files: tuple[Path, ...]
    schema: pa.Schema
    blocks: Sequence[StoredBlock]
    read: Callable[[StoredBlock, Sequence[str]], pa.Table]

    def column(self, name: str) -> Array:
        """A column of all blocks (N,)."""
        parts = [self.read(block, [name]).column(0).to_pandas() for block in self.blocks]
        return np.concatenate([part.to_numpy() for part in parts])


def parquet_frames(files: Sequence[Path]) -> Frames:
    """The row groups of parquet files, one file after the other.

    Raises ``DataError``, which names the file, for one that can't be read or has other columns than the first.
    """
    blocks: list[StoredBlock] = []
    schema: pa.Schema | None = None
    for file in files:
        with _reading(file), pq.ParquetFile(file) as opened:
            counts = [opened.metadata.row_group(group).num_rows for group in range(opened.metadata.num_row_groups)]
            schema = _same(file, opened.schema_arrow, files[0], schema)
        blocks += _in_order(file, counts, range(len(counts)))

    def read(block: StoredBlock, names: Sequence[str]) -> pa.Table:
        with _reading(block.path), pq.ParquetFile(block.path) as opened:
            return opened.read_row_group(block.place, columns=list(names))

    return _some(Frames(tuple(files), schema, blocks, read))


def saved_frames(folder: Path) -> Frames:
    """The record batches of a folder that ``save_to_disk`` wrote: Arrow streams, which state.json names in order.

    Raises ``DataError`` for a folder of several splits, and, naming the file, for one that is missing, cut off, or has
    other columns than the first.
    """
    if (folder / "dataset_dict.json").is_file():
        splits = sorted(path.parent for path in folder.glob("*/state.json"))
        raise DataError(
            f"{folder} holds the splits {', '.join(path.name for path in splits)}, each in a folder of its own; "
            "expected one",
            hint=f"name its folder: {splits[0] if splits else folder / 'train'}",
        )
    try:
        files = [folder / Path(item["filename"]).name for item in read_json(folder / "state.json")["_data_files"]]
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{folder / 'state.json'} lists no files; expected what save_to_disk of Hugging Face's datasets writes",
            hint="save the dataset again",
        ) from error
    blocks: list[StoredBlock] = []
    schema: pa.Schema | None = None
    for file in files:
        if not file.is_file():
            raise DataError(f"{file} is missing; {folder / 'state.json'} names it", hint="copy the whole folder")
        with _reading(file), pa.memory_map(str(file)) as source:
            counts, places = [], []
            opened = pa.ipc.open_stream(source)
            schema = _same(file, opened.schema, files[0], schema)
            place = source.tell()
            for batch in opened:
                counts.append(batch.num_rows)
                places.append(place)
                place = source.tell()
            source.seek(max(0, source.size() - len(_END)))
            if source.read() != _END:
                raise ValueError("it is cut off")
        blocks += _in_order(file, counts, places)

    def read(block: StoredBlock, names: Sequence[str]) -> pa.Table:
        with _reading(block.path), pa.memory_map(str(block.path)) as source:
            source.seek(block.place)
            batch = pa.ipc.read_record_batch(pa.ipc.read_message(source), schema)
            return pa.Table.from_batches([batch]).select(list(names))

    info = folder / "dataset_info.json"
    return _some(Frames((*files, *([info] if info.is_file() else [])), schema, blocks, read))


def arrow_table(frames: Frames, config: ArrayConfig, path: Path, text: bool) -> NumberTable:
    """The coordinates of frames, which stay on disk, and their label and condition, which are read whole.

    A column of lists of one length, which may be nested, holds events of that shape if it is the only coordinate. Other
    columns are read for the summary where they fit in ``memory``.
    """
    index = (frames.schema.pandas_metadata or {}).get("index_columns", [])
    names = [name for name in frames.schema.names if name not in index]
    for name in names:
        if names.count(name) > 1:
            raise DataError(
                f"{path} has {names.count(name)} columns called {name!r}; expected a name for each",
                hint="rename them, and save again",
            )
    types = {name: frames.schema.field(name).type for name in names}
    if pa.types.is_nested(label := types.get(config.label, pa.null())):
        raise DataError(
            f"column {config.label!r} of {path} holds {label}; expected one number or text a row, its class",
            hint="choose another column as label",
        )
    alone = coordinate_columns(names, config, path)
    numeric = {
        name for name, type_ in types.items() if _is_number(type_) or (alone == [name] and _is_number(_inner(type_)))
    }

    def example(name: str) -> Sequence[Any]:
        values: list[Any] = frames.read(frames.blocks[0], [name]).column(0).drop_null().slice(0, 1).to_pylist()
        return values

    columns = numeric_coordinates(names, numeric, config, path, text=text, example=example)

    def read(block: StoredBlock) -> Array:
        part = frames.read(block, columns)
        if columns and not _is_number(types[columns[0]]):
            return _events(part.column(0), columns[0], block.path)
        numbers: Array = part.replace_schema_metadata(None).to_pandas().to_numpy(dtype=np.float64, na_value=np.nan)
        return numbers

    points = StoredPoints(read, frames.blocks, config.memory)
    # An index of pandas names the rows where the table has no column for it.
    named = config.names or (index[0] if len(index) == 1 and index[0] in frames.schema.names else None)
    used = {config.label, named, *config.condition}
    left = [name for name in names if name not in columns and not pa.types.is_nested(types[name])]
    left += [named] if named is not None and named not in left else []
    first = frames.blocks[0]
    if frames.read(first, left).nbytes * len(points) > config.memory * 2**20 * first.rows:
        left = [name for name in left if name in used]
    others = {name: frames.column(name) for name in left}
    condition = [others[name].astype(np.float64) for name in config.condition if name in numeric]
    return NumberTable(
        points=points,
        label=others[config.label] if config.label else None,
        condition=np.stack(condition, axis=1) if condition else None,
        names=tuple(columns) if points.ndim == 2 and len(columns) == points.shape[1] else None,
        others=others,
        named=named,
        files=frames.files,
    )


def _events(column: pa.ChunkedArray, name: str, file: Path) -> Array:
    """A column of nested lists as an array (n, *E)."""
    values = pa.concat_arrays([getattr(chunk, "storage", chunk) for chunk in column.chunks])
    shape = [len(values)]
    while _inner(values.type) != values.type:
        lengths = pc.unique(pc.list_value_length(values)).to_pylist()
        if len(lengths) != 1 or lengths[0] is None:
            raise DataError(
                f"column {name!r} of {file} holds lists of the lengths {', '.join(map(str, lengths[:5]))}; expected "
                "one length, the length of an event",
                hint=f"leave it out with columns: {without([name])}, or make all its lists equally long",
            )
        shape.append(lengths[0])
        values = values.flatten()
    if not pa.types.is_floating(values.type):  # so that blocks with missing numbers have the type of those without
        small = pa.types.is_boolean(values.type) or values.type.bit_width <= 16
        values = values.cast(pa.uint8() if pa.types.is_boolean(values.type) else values.type)
        values = values.cast(pa.float32() if small else pa.float64(), safe=False)
    events: Array = values.to_numpy(zero_copy_only=False)
    return events.reshape(shape)


def _inner(type_: pa.DataType) -> pa.DataType:
    """The type of the numbers in nested lists, or the type itself for anything else."""
    if isinstance(type_, pa.BaseExtensionType):
        return _inner(type_.storage_type)
    if pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_):
        return _inner(type_.value_type)
    return type_


def _is_number(type_: pa.DataType) -> bool:
    return bool(pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_boolean(type_))


def _in_order(file: Path, counts: Sequence[int], places: Sequence[int]) -> Iterator[StoredBlock]:
    """The blocks of a file with these numbers of rows, one after the other."""
    start = 0
    for rows, place in zip(counts, places, strict=True):
        if rows:
            yield StoredBlock(file, start, rows, place)
        start += rows


def _same(file: Path, own: pa.Schema, first: Path, expected: pa.Schema | None) -> pa.Schema:
    """The schema that all files have. Raises ``DataError`` where this one has another."""
    if expected is None or (own.names, own.types) == (expected.names, expected.types):
        return own if expected is None else expected
    differing = set(zip(own.names, map(str, own.types), strict=True)) ^ set(
        zip(expected.names, map(str, expected.types), strict=True)
    )
    name = min(differing)[0] if differing else own.names[0]
    found, wanted = (
        f"{name} of {schema.field(name).type}" if name in schema.names else f"no {name}" for schema in (own, expected)
    )
    raise DataError(
        f"{file} has other columns than {first}: {found}, where that has {wanted}"
        if differing
        else f"{file} has the columns of {first} in another order",
        hint="save all files with the same columns of the same types, or choose a pattern that leaves it out",
    )


def _some(frames: Frames) -> Frames:
    if not frames.blocks:
        names = ", ".join(map(str, frames.files[:3])) or "the folder"
        raise DataError(f"{names} has no rows; expected one at least", hint="write the rows and save again")
    return frames


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, ValueError, OSError) as error:
        raise DataError(f"{file} can't be read as a table: {error}", hint="copy it again, or save it again") from error
