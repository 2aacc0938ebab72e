"""The answer of a verb as a file of the kind that its ending names."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from scorefold.artefacts import write_json
from scorefold.errors import ArtefactError, ConfigError, DataError, printable
from scorefold.interfaces import DataSource
from scorefold.stage import Outcome
from scorefold_registry.components.paths import file_name, free_name


def cell_text(text: str) -> str:
    """Text on one line that steers nothing, and is never what a spreadsheet takes for a formula.

    >>> cell_text("=HYPERLINK(1)")
    "'=HYPERLINK(1)"
    """
    text = printable(text).replace("\n", " ")
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t")) else text


def writer_for(out: Path) -> Callable[[Path, Outcome], None]:
    """Writer for files of this name. Raises ``ConfigError`` for an ending that is not known, and for a folder."""
    writer = _WRITERS.get(out.suffix.lower())
    if writer is None:
        raise ConfigError(
            f"{out} ends with {out.suffix!r}, which is no format for results",
            hint=f"end it with one of {', '.join(_WRITERS)}",
        )
    if out.is_dir():
        raise ConfigError(f"{out} is a folder; expected the name of a file")
    return writer


def write_output(outcome: Outcome, out: Path) -> None:
    """Write an outcome. Data are written in the units they were read in, other values as their arrays or as JSON.

    Raises ``ConfigError`` for a name that can't be written (see ``writer_for``), ``DataError`` where there is no array
    to write, and ``ArtefactError`` where the disk refuses.
    """
    writer = writer_for(out)
    if out.suffix.lower() != ".json" and not arrays_of(outcome):
        raise DataError(f"the result has no array to write to {out}", hint="end the name with .json")
    partial = out.with_name(f".{out.stem}.partial{out.suffix}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            writer(partial, outcome)
            partial.replace(out)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise ArtefactError(
            f"{out} can't be written: {error.strerror or error}", hint="check that its folder may be written"
        ) from error


def arrays_of(outcome: Outcome) -> dict[str, Tensor]:
    """The arrays of an outcome by name, the main one first; events of data by row, NaN for rows that were left out.

    Samples for observations have the row of the observation of each next to them.
    """
    value = outcome.value
    if isinstance(value, DataSource):
        points = value.load("test")
        x = value.event_scale.to_raw(points.tensor())
        if value.rows is None and len(rows := outcome.arrays.get("rows", x[:0])) == len(x):
            return {"x": x, "rows": rows}
        if value.rows is None or points.index is None or len(value.rows) == len(x):
            return {"x": x}
        whole = x.new_full((len(value.rows), *x.shape[1:]), math.nan)
        whole[points.index] = x
        return {"x": whole}
    return dict(outcome.arrays)


def _main(outcome: Outcome) -> tuple[str, np.ndarray[Any, Any]]:
    arrays = arrays_of(outcome)
    name = "pointwise" if "pointwise" in arrays else next(iter(arrays))
    return name, arrays[name].detach().cpu().numpy()


def _npy(out: Path, outcome: Outcome) -> None:
    np.save(out, _main(outcome)[1], allow_pickle=False)


def _npz(out: Path, outcome: Outcome) -> None:
    named: Mapping[str, Any] = {name: array.detach().cpu().numpy() for name, array in arrays_of(outcome).items()}
    # Each name is a file's in the archive, and numpy's own argument is called file.
    safe: dict[str, Any] = {}
    for name, array in named.items():
        stem = file_name(name, default="array")
        safe[free_name("array" if stem == "file" else stem, safe)] = array
    np.savez(out, **safe)


def _columns(outcome: Outcome) -> tuple[list[str], np.ndarray[Any, Any]]:
    """The main array as named columns (N, D), by the ``columns`` of the result where it has any. Samples, and a main
    array of one number for each point, have the other such arrays next to them, but for an estimate, whose readings are
    many."""
    name, array = _main(outcome)
    flat = array.reshape(len(array), -1)
    named = list(outcome.result.get("columns", ()))
    if len(named) != flat.shape[1]:
        named = [name] if flat.shape[1] == 1 else [f"{name}{index}" for index in range(flat.shape[1])]
    alone = name == "pointwise" or not (flat.shape[1] == 1 or isinstance(outcome.value, DataSource))
    beside = {} if alone else {of: one for of, one in arrays_of(outcome).items() if of != name}
    same = {of: one.detach().cpu().numpy() for of, one in beside.items() if one.shape == (len(flat),)}
    return [*named, *(free_name(of, named) for of in same)], np.column_stack([flat, *same.values()])


def _csv(out: Path, outcome: Outcome) -> None:
    names, flat = _columns(outcome)
    header = ",".join(_cell(name) for name in names)
    np.savetxt(out, flat, delimiter=",", header=header, comments="", fmt="%.9g", encoding="utf-8")


def _cell(name: str) -> str:
    """A name as a cell of a CSV file, quoted where it must be."""
    text = cell_text(name) or "value"
    return '"' + text.replace('"', '""') + '"' if {",", '"'} & set(text) else text


def _parquet(out: Path, outcome: Outcome) -> None:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ConfigError("writing parquet needs pyarrow", hint="pip install 'scorefold-registry[parquet]'") from None
    names, flat = _columns(outcome)
    table = pyarrow.table({name: flat[:, index] for index, name in enumerate(names)})
    pyarrow.parquet.write_table(table, out)


def _json(out: Path, outcome: Outcome) -> None:
    lists = {name: array.tolist() for name, array in arrays_of(outcome).items()}
    write_json(out, {**outcome.result, "arrays": lists})


_WRITERS: Mapping[str, Callable[[Path, Outcome], None]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".csv": _csv,
    ".parquet": _parquet,
    ".json": _json,
}
