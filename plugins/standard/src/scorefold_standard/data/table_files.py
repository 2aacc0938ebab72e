"""Files of numbers as tables: npy, npz, csv and parquet files, Zarr arrays, folders of Hugging Face's datasets."""

from __future__ import annotations

import io
import json
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scorefold.errors import ConfigError, DataError
from scorefold_standard.data.array_stores import is_saved_dataset, is_zarr, npy_table, why_unread, zarr_table
from scorefold_standard.data.config import ArrayConfig
from scorefold_standard.data.stored import matching_files
from scorefold_standard.data.table_columns import (
    NumberTable,
    is_number,
    marks_of,
    numeric_coordinates,
    points_array,
    refuse_titles,
)
from scorefold_toolkit.libraries import library

_FORMATS = (".npy", ".npz", ".csv", ".tsv", ".parquet")
_PICTURE = "give the folder of images, not one image"
_SHEET = "save the sheet as csv, for example by pandas.read_excel('{0}').to_csv('{0}.csv', index=False)"
_TENSOR = "save a tensor in Python by numpy.save('{0}.npy', torch.load('{0}').numpy())"
_OTHERS = {
    **dict.fromkeys((".xlsx", ".xls", ".ods"), _SHEET),
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"), _PICTURE),
    **dict.fromkeys((".pt", ".pth"), _TENSOR),
    **dict.fromkeys((".txt", ".dat", ".data"), "if it is a table, give it the ending .csv"),
    **dict.fromkeys((".json", ".jsonl"), "save it in Python by pandas.read_json('{0}').to_csv('{0}.csv', index=False)"),
    **dict.fromkeys(
        (".pkl", ".pickle"), "save it in Python by pandas.read_pickle('{0}').to_csv('{0}.csv', index=False)"
    ),
    ".feather": "save it in Python by pandas.read_feather('{0}').to_parquet('{0}.parquet')",
    ".mat": "save it in Python by numpy.save('{0}.npy', scipy.io.loadmat('{0}')[NAME])",
    **dict.fromkeys((".h5", ".hdf5"), "save it in Python by numpy.save('{0}.npy', h5py.File('{0}')[NAME][:])"),
    **dict.fromkeys((".zip", ".gz", ".tgz", ".7z"), "unpack it first"),
}
"""Advice for files of other forms, by their endings; ``{0}`` is the name of the file."""


def read_table(path: Path, config: ArrayConfig, *, text: bool = False) -> NumberTable:
    """The points, labels and conditions of a file, of several or of a folder. Raises ``DataError``, ``ConfigError``.

    With ``text`` a column of a csv or parquet file that holds no numbers is among the others, not an error.
    """
    if path.is_dir() and (is_zarr(path) or is_saved_dataset(path)):
        kind = "zarr" if is_zarr(path) else "datasets"
        _check_options(f"a {kind} folder", kind, config)
        return zarr_table(path, config) if kind == "zarr" else _arrow_table([path], config, path, text)
    files = matching_files(str(path), "points")
    suffix = files[0].suffix.lower()
    if suffix not in _FORMATS:
        raise DataError(
            f"{files[0]} ends with {suffix!r}; a file of points ends with one of {', '.join(_FORMATS)}",
            hint=_OTHERS[suffix].format(files[0].name)
            if suffix in _OTHERS
            else "save the points in one of these forms",
        )
    _check_options(f"a {suffix} file", suffix, config)
    if suffix == ".npy":
        return npy_table(files, config.memory)
    if suffix == ".parquet":
        return _arrow_table(files, config, path, text)
    if len(files) > 1:
        raise DataError(
            f"{path} names {len(files)} {suffix} files, of which each is read as a whole; expected one",
            hint="save them as parquet or npy files, which are read bit by bit",
        )
    return _read_npz(files[0], config) if suffix == ".npz" else _read_csv(files[0], config, text)


def _arrow_table(files: Sequence[Path], config: ArrayConfig, path: Path, text: bool) -> NumberTable:
    """The table of parquet files, or of one folder of a saved dataset."""
    with library(f"the table {path}", "scorefold-standard[parquet]"):
        from scorefold_standard.data.arrow_tables import arrow_table, parquet_frames, saved_frames
    frames = saved_frames(path) if path.is_dir() else parquet_frames(files)
    return arrow_table(frames, config, path, text)


def _check_options(what: str, kind: str, config: ArrayConfig) -> None:
    for name, field in ArrayConfig.model_fields.items():
        mark = field.json_schema_extra
        formats = mark.get("formats") if isinstance(mark, dict) else None
        if isinstance(formats, list) and kind not in formats and getattr(config, name) != field.default:
            raise ConfigError(f"{name!r} means nothing for {what}", hint=f"remove {name!r}")


def _read_npz(path: Path, config: ArrayConfig) -> NumberTable:
    try:
        # numpy leaves a file open that turns out to be no archive, so it is opened here.
        with path.open("rb") as file:
            arrays = np.load(file, allow_pickle=False)
            if not isinstance(arrays, np.lib.npyio.NpzFile):
                raise ValueError("it is a single array, not an archive of arrays")
            key = points_array(arrays.files, path, config)
            return NumberTable(
                points=np.asarray(arrays[key]),
                label=None if config.label is None else np.asarray(arrays[config.label]),
                condition=np.asarray(arrays[config.condition[0]]) if config.condition else None,
                files=(path,),
            )
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{path} can't be read as numbers in numpy's .npz format: {why_unread(error)}",
            hint="save plain numbers: numpy.savez(path, x=points), with points an array of a real type such as float32",
        ) from error


def _read_csv(path: Path, config: ArrayConfig, text: bool) -> NumberTable:
    import pandas as pd

    try:
        refuse_titles(path, config.delimiter)
        marks = marks_of(path, config.delimiter, config.decimal)
        header = marks.names if config.header is None else config.header
        if marks.ragged and header:
            raise _ragged(path)
        frame = pd.read_csv(
            path,
            sep=marks.delimiter,
            decimal=marks.decimal,
            header=0 if header else None,
        )
        if config.names is not None and config.names in frame.columns:
            # Names as they are written: 007 is not 7, and NA is a name.
            named = pd.read_csv(path, sep=marks.delimiter, usecols=[config.names], dtype=str, keep_default_na=False)
            frame[config.names] = named[config.names].to_numpy()
    except (ValueError, OSError) as error:
        hint = None
        if isinstance(error, pd.errors.ParserError):
            hint = "set delimiter: to the character between columns, and decimal: to the character before decimals"
            if (line := re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error))) is not None:
                hint = f"line {line[2]} has {line[3]} cells, and lines above have {line[1]}: repair it; or {hint}"
        elif isinstance(error, UnicodeDecodeError):
            hint = "save it as UTF-8, which a spreadsheet calls CSV UTF-8"
        raise DataError(f"{path} can't be read as a table: {str(error).strip()}", hint=hint) from error
    if not isinstance(frame.index, pd.RangeIndex):
        raise _ragged(path)
    if len(frame) == 0:
        raise DataError(f"{path} has no rows below its first line, which is taken for the names of the columns")
    # numpy.savetxt writes "# " before the names.
    names = [str(name) for name in frame.columns]
    bare = names[0].removeprefix("#").strip()
    frame.columns = [bare, *names[1:]] if bare and bare not in names else names
    twice = _doubled(path, marks.delimiter, list(frame.columns)) if header else ()
    numeric = {name for name in frame.columns if pd.api.types.is_numeric_dtype(frame[name])}
    gaps: dict[str, list[str]] = {}
    mark = marks.decimal
    codes = {gap: float(gap.replace(mark, ".")) for gap in config.gaps if is_number(gap, mark)}
    held: set[object] = set()
    left = {name[1:] for name in config.columns or () if name.startswith("-") and name not in frame.columns}
    taken = set(frame.columns) if left or not config.columns else {*config.columns, *config.condition}
    for name in sorted((taken & set(frame.columns)) - {*left, config.label, config.names}):
        if name not in numeric:
            blank = frame[name].isin(config.gaps)
            held.update(frame[name][blank])
            numbers, found = _numbers(frame[name].where(~blank), marks.decimal, config.thousands or marks.thousands)
            if numbers is not None:
                frame[name] = numbers
                numeric.add(name)
                gaps |= {name: found} if found else {}
        if name in numeric and (blank := frame[name].isin([*codes.values()])).any():
            held.update(frame[name][blank])
            frame[name] = frame[name].astype(float).where(~blank)
    if gaps and not text:
        raise _no_numbers(path, gaps)

    def example(name: str) -> Sequence[Any]:
        values: list[Any] = frame[name].dropna().tolist()
        return next(([value] for value in values if not is_number(str(value))), values[:1])

    columns = numeric_coordinates([*frame.columns], numeric, config, path, text=text, example=example)
    condition = [name for name in config.condition if name in numeric]
    return NumberTable(
        points=frame[columns].to_numpy(dtype=np.float64, na_value=np.nan),
        label=frame[config.label].to_numpy() if config.label else None,
        condition=frame[condition].to_numpy(dtype=np.float64, na_value=np.nan) if condition else None,
        names=tuple(columns),
        others={name: frame[name].to_numpy() for name in frame.columns if name not in columns},
        named=config.names,
        files=(path,),
        warnings=_unheld([gap for gap in config.gaps if gap not in held and codes.get(gap) not in held], path),
        twice=twice,
        gaps=tuple(dict.fromkeys(cell for cells in gaps.values() for cell in cells)),
    )


def _unheld(gaps: Sequence[str], path: Path) -> tuple[str, ...]:
    """The warning of gaps that no cell holds, but for those that pandas takes out of every file, such as NA."""
    import pandas as pd

    def known(gap: str) -> bool:
        cell = gap.replace('"', '""')
        return bool(pd.read_csv(io.StringIO(f'0,"{cell}"'), header=None).isna().any(axis=None))

    left = ", ".join(repr(gap) for gap in gaps if not known(gap))
    return (f"gaps: no cell among the numbers of {path.name} is {left}",) if left else ()


def _doubled(path: Path, delimiter: str | None, columns: Sequence[str]) -> tuple[str, ...]:
    """The names that stand several times in the first line: pandas adds a number to the later ones."""
    import pandas as pd

    if not any(re.fullmatch(r".+\.\d+", name) and name.rpartition(".")[0] in columns for name in columns):
        return ()
    names = pd.read_csv(path, sep=delimiter, header=None, nrows=1, dtype=str).iloc[0]
    return tuple(dict.fromkeys(names[names.duplicated()].tolist()))


_MOSTLY = 0.9
"""The share of numbers among the cells of a column that others are gaps of."""

_LONG = 60
"""The most characters of a cell that are shown."""

_MANY = 20
"""Different cells that stand for gaps, at most."""


def _numbers(cells: Any, decimal: str, thousands: str | None) -> tuple[Any, list[str]]:
    """A column of text as numbers, NaN for cells that are none, and these cells; None where they are many. What is
    between thousands is taken out of cells that it groups in threes alone: 01.03.2020 is no number."""
    import pandas as pd

    known = cells.dropna().astype(str)
    plain = known
    if thousands:
        grouped = known.str.fullmatch(
            rf"\s*[+-]?\d{{1,3}}({re.escape(thousands)}\d{{3}})+({re.escape(decimal)}\d*)?\s*"
        )
        plain = known.where(~grouped, known.str.replace(thousands, "", regex=False))
        # Anything else that has the mark is no number: 1,5 beside 2,987.12 is not 15.
        plain = plain.where(~plain.str.contains(thousands, regex=False) | (thousands == " "), "?")
    numbers = pd.to_numeric(plain.str.replace(decimal, ".", regex=False), errors="coerce")
    wrong = list(dict.fromkeys(known[numbers.isna()]))
    if not len(known) or numbers.notna().mean() < _MOSTLY or len(wrong) > _MANY:
        return None, []
    return numbers.reindex(cells.index), wrong


def _no_numbers(path: Path, gaps: Mapping[str, Sequence[str]]) -> DataError:
    cells = list(dict.fromkeys(cell for found in gaps.values() for cell in found))
    shown = "; ".join(f"{name!r} holds {', '.join(map(_shown, found[:5]))}" for name, found in gaps.items())
    hint = f"gaps: {json.dumps(cells)} takes these cells as missing, and missing: drop leaves their rows out"
    if max(map(len, cells)) > _LONG:
        hint = f"correct these cells, or leave the columns out: columns: {json.dumps([f'-{name}' for name in gaps])}"
    return DataError(f"columns of {path} hold numbers, and cells that are none: {shown}", hint=hint)


def _shown(cell: str) -> str:
    return repr(cell) if len(cell) <= _LONG else f"{cell[:_LONG]!r} and {len(cell) - _LONG} more characters"


def _ragged(path: Path) -> DataError:
    return DataError(
        f"the rows of {path} have more fields than its first line",
        hint="give every column a name, or set delimiter: to the character between columns, and decimal: to the "
        "character before decimals",
    )
