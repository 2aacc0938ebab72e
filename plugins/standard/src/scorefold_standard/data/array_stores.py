"""Arrays that stay on disk: npy files, mapped a block at a time, and Zarr arrays."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scorefold.artefacts import read_json
from scorefold.errors import ConfigError, DataError
from scorefold_standard.data.config import ArrayConfig
from scorefold_standard.data.stored import Array, StoredBlock, StoredPoints
from scorefold_standard.data.table_columns import NumberTable, Points, points_array
from scorefold_toolkit.libraries import library

_LEAST, _MOST = 2**16, 2**22

_MOST_NUMBERS, _MOST_CHUNKS, _MOST_AT_ONCE = 2**48, 10**7, 2**38
"""Numbers and chunks of a Zarr array, and bytes of the rows of a chunk: a petabyte, and 256 GB."""


def _block_rows(array: Any, memory: float) -> int:
    """The rows of a block where the format does not say what is read at once: eight blocks fit in memory."""
    size = int(min(_MOST, max(_LEAST, memory * 2**17)))
    return max(1, size // max(1, int(np.prod(array.shape[1:])) * int(array.dtype.itemsize)))


def npy_table(files: Sequence[Path], memory: float) -> NumberTable:
    """The rows of npy files, one file after the other.

    Raises ``DataError``, which names the file, for one that is no npy file of numbers, is cut off, or holds rows of
    another shape or type than the first.
    """
    first = _map(files[0])
    if len(files) == 1 and (first.ndim == 0 or 0 in first.shape):
        return NumberTable(points=first, files=tuple(files))  # which no points can be made of
    rows = _block_rows(first, memory)
    blocks = []
    for file in files:
        array = _map(file)
        alike = (array.dtype, array.shape[1:]) == (first.dtype, first.shape[1:])
        if not alike or array.ndim == 0 or 0 in array.shape:
            shape = f"({', '.join(['N', *map(str, first.shape[1:])])})"
            raise DataError(
                f"{file} holds an array of {array.dtype} of shape {array.shape}; expected "
                f"{first.dtype} of shape {shape} with rows, as in {files[0]}",
                hint="save all files with one dtype and one shape of a row, or choose a pattern that leaves it out",
            )
        blocks += [StoredBlock(file, start, min(rows, len(array) - start)) for start in range(0, len(array), rows)]

    def read(block: StoredBlock) -> Array:
        # Mapped for a moment only: what stays mapped counts as memory of the process.
        return np.array(_map(block.path)[block.start : block.start + block.rows])

    return NumberTable(points=StoredPoints(read, blocks, memory), files=tuple(files))


def why_unread(error: Exception) -> str:
    """Reason why numpy can't read a file. Of a header that is no literal its message shows an object of Python's
    parser.
    """
    return re.sub(r":? <.* object at 0x.*", "", str(error))


def _map(file: Path) -> Array:
    try:
        return np.lib.format.open_memmap(file, mode="r")
    except (ValueError, OSError, EOFError) as error:
        hint = "save plain numbers: numpy.save(path, points), with points an array of a real type such as float32"
        if "mmap length is greater" in str(error):
            hint = "the file ends before its last number: copy or save it again"
        raise DataError(
            f"{file} can't be read as numbers in numpy's .npy format: {why_unread(error)}", hint=hint
        ) from error


def is_zarr(folder: Path) -> bool:
    """True if a folder holds a Zarr array or group."""
    return any((folder / name).is_file() for name in ("zarr.json", ".zarray", ".zgroup"))


def is_saved_dataset(folder: Path) -> bool:
    """True if a folder is what ``save_to_disk`` of Hugging Face's datasets writes."""
    return (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file()


def column_types(folder: Path) -> dict[str, Any]:
    """Types of the columns in dataset_info.json of a saved dataset, such as {"image": {"_type": "Image"}}."""
    info = folder / "dataset_info.json"
    found = read_json(info) if info.is_file() else {}
    features = found.get("features") if isinstance(found, dict) else None
    return {name: facts for name, facts in (features or {}).items() if isinstance(facts, dict)}


def zarr_table(folder: Path, config: ArrayConfig) -> NumberTable:
    """The rows of a Zarr array, or of the arrays of a group, which ``key``, ``label`` and ``condition`` name.

    Labels and conditions are read whole. Raises ``ConfigError`` where the package zarr is missing, ``DataError``
    for what it can't open.
    """
    with library(f"the Zarr array {folder}", "scorefold-standard[zarr]"):
        import zarr
    try:
        node = zarr.open(str(folder), mode="r")
    except Exception as error:  # zarr raises errors of many kinds for metadata that it can't read
        raise DataError(
            f"{folder} can't be read as a Zarr array: {error}", hint="copy the whole folder again"
        ) from error
    if isinstance(node, zarr.Array):
        for name in ("key", "label", "condition"):
            if getattr(config, name):
                raise ConfigError(
                    f"{name!r} names an array of a Zarr group, and {folder} is one array",
                    hint=f"remove {name!r}, or save points and {name} as arrays of one group",
                )
        return NumberTable(points=_stored(node, folder, config.memory), warnings=_gaps(node, folder))
    arrays = dict(node.arrays())
    key = points_array(list(arrays), folder, config)

    def whole(name: str | None) -> Array | None:
        return None if name is None else _read(_checked(arrays[name], folder / name), folder / name, ...)

    return NumberTable(
        points=_stored(arrays[key], folder / key, config.memory),
        label=whole(config.label),
        condition=whole(next(iter(config.condition), None)),
        warnings=_gaps(arrays[key], folder / key),
    )


def _gaps(array: Any, folder: Path) -> tuple[str, ...]:
    """A warning for chunks that are not there, which Zarr reads as its fill value without a word."""
    lacking = array.nchunks - array.nchunks_initialized
    if not lacking:
        return ()
    return (
        f"{lacking} of {array.nchunks} chunks of {folder} are not stored, and all their values are read as "
        f"{array.fill_value}: write them if they should be there",
    )


def _checked(array: Any, folder: Path) -> Any:
    """A Zarr array whose size can be true. Its metadata alone say how large it is, and chunks may be missing."""
    shape, pieces = array.shape, getattr(array, "shards", None) or array.chunks
    chunks = math.prod(-(-size // piece) for size, piece in zip(shape, pieces, strict=True) if piece)
    at_once = math.prod((*pieces[:1], *shape[1:])) * array.dtype.itemsize
    if math.prod(shape) > _MOST_NUMBERS or chunks > _MOST_CHUNKS or at_once > _MOST_AT_ONCE:
        raise DataError(
            f"{folder} claims an array of the shape {shape} in {chunks:,} chunks of {pieces}; expected at most "
            f"{_MOST_CHUNKS:,} chunks, and rows that fit into memory with their chunk",
            hint=f"correct the shape in the metadata of {folder}, or name another array under 'path'",
        )
    return array


def _stored(array: Any, folder: Path, memory: float) -> Points:
    """A Zarr array in blocks of whole chunks."""
    _checked(array, folder)
    if array.ndim == 0 or 0 in array.shape:
        return np.empty(array.shape, array.dtype)
    chunk = int((getattr(array, "shards", None) or array.chunks)[0])
    rows = chunk * max(1, _block_rows(array, memory) // chunk)
    count = int(array.shape[0])
    blocks = [StoredBlock(folder, start, min(rows, count - start)) for start in range(0, count, rows)]

    def read(block: StoredBlock) -> Array:
        return _read(array, folder, slice(block.start, block.start + block.rows))

    return StoredPoints(read, blocks, memory)


def _read(array: Any, folder: Path, rows: Any) -> Array:
    try:
        return np.asarray(array[rows])
    except Exception as error:  # a damaged chunk raises whatever its codec does
        which = f"rows {rows.start} to {rows.stop - 1} of " if isinstance(rows, slice) else ""
        raise DataError(
            f"{which}{folder} can't be read: {error}", hint="copy the whole folder again, or write these chunks again"
        ) from error
