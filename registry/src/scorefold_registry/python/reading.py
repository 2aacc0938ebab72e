"""Choices for reading data: columns that are coordinates, their units, the size of images, and reasons."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scorefold.errors import ConfigError, DataError
from scorefold.summary import (
    CALLED_SO,
    HEAVY_TAIL,
    IDENTIFIER,
    ColumnSummary,
    DataSummary,
    is_code,
    is_identifier,
    without,
)
from scorefold_registry.run.data_summary import inspect_data, loader_of, with_option

if TYPE_CHECKING:
    from scorefold_registry.host import Host

FEWEST_POINTS = 50
"""Points below which no file is written: the splits would hold a handful."""

UNEVEN = 10.0
"""Largest ratio of the spreads of columns with one unit."""

_GAPS = "cells that are not numbers, treated as missing"
_COMMAS = "numbers with commas: "  # the warning of data:array, after which the setting stands that reads them
_TIME, _CATEGORY = "rises in equal steps", "marks a category"  # warnings of data:array
_AS_NUMBERS = (
    "turn text into numbers first, for example into one column per category, or into the vectors of a language model"
)
_MOST_CLASSES = 20
_LOOKED_AT = 64
_NAMED = 8


@dataclass(frozen=True)
class Reading:
    """A component that reads data, its config, and why each of its fields is as it is.

    ``seen`` is what the data hold, read so; ``points`` of ``event_shape`` are left of them.
    """

    use: str
    config: Mapping[str, Any]
    seen: DataSummary
    event_shape: tuple[int, ...]
    points: int
    why: Mapping[str, str] = field(default_factory=dict)

    @property
    def images(self) -> bool:
        """True if a point has several axes."""
        return len(self.event_shape) > 1

    @property
    def reasons(self) -> dict[str, str]:
        """The fields that are not left as they are by default, each with its value and why."""
        return {name: f"{_shown(self.config[name])} ({text})" for name, text in self.why.items()}


def read_data(host: Host, given: str, fields: Mapping[str, Any], side: int, fewest: int = FEWEST_POINTS) -> Reading:
    """Choices for reading a file, a folder of images or a component; ``fields`` are fixed, ``side`` is the largest
    height and width of an image in pixels, and ``fewest`` points are expected.

    Raises ``DataError`` and ``ConfigError``, with what fixes it, for data that nothing can be written for.
    """
    if given.partition(":")[0] == "data" and not Path(given).exists():
        source = host.create(given, fields)
        seen = source.summary()
        reading = Reading(given, dict(fields), seen, tuple(source.event_shape), seen.rows)
    else:
        use, name = loader_of(Path(given).expanduser())
        read = _images if use == "data:images" else _table
        try:
            reading = read(host, Path(given), fields, side)
        except DataError as error:
            raise with_option(error) from None
        reading = replace(reading, config={name: given, **reading.config})
    if reading.points < fewest:
        raise _too_few(given, reading)
    return reading


def as_points(host: Host, path: Path, fields: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Choices of the columns, rows and units of a table that ``fields`` leave open, with reasons.

    Nothing for a table that can't be read: the run says what is wrong, and where. Raises ``DataError`` where the answer
    depends on the units and the data don't say which are right.
    """
    try:
        read = read_data(host, str(path), fields, side=1, fewest=0)
    except ConfigError:
        return {}, {}
    if read.seen.copies and "duplicates" not in read.config:  # neighbours at distance 0 have no dimension
        with_copies = {**read.config, "duplicates": "drop"}, {**read.why, "duplicates": _copied(read.seen)}
        read = replace(read, config=with_copies[0], why=with_copies[1])
    if "scale" in read.why and UNEVEN < (apart := spread_ratio(read.seen)) <= OTHER_UNITS:
        _refuse_two_answers(host, read, apart)
    taken = [name for name in ("columns", "gaps", "missing", "duplicates", "scale") if name in read.why]
    return {name: read.config[name] for name in taken}, {name: read.reasons[name] for name in taken}


def table_reading(
    host: Host, path: Path, fields: Mapping[str, Any], left_out: Collection[str] = ()
) -> tuple[dict[str, Any], dict[str, str]]:
    """Choices that ``fields`` leave open and without which a table can't be read as it stands, with reasons.

    Columns of text, numbers of rows and rows with missing values are left out, and the columns ``left_out`` of the
    table that this one is compared with. Nothing for a table that can't be read at all. Raises
    ``DataError`` for a table of text alone.
    """
    try:
        seen = inspect_data(host, path, fields)
    except (ConfigError, DataError):
        return {}, {}
    config, why = dict[str, Any](), dict[str, str]()
    texts = [one for one in seen.columns if one.use == "not used"]
    commas = any(text.startswith(_COMMAS) for one in texts for text in one.warnings)
    out = {one.name: _held(one) for one in texts}
    if _names_columns(path):
        numbered = [one for one in seen.columns if one.use == "coordinate" and is_identifier(one)]
        out |= {one.name: _identifies(one) for one in numbered}
    left = [one.name for one in seen.columns if one.name in left_out and one.name not in out]
    out |= dict.fromkeys(left, "is left out of the training data")
    if seen.event_shape == (0,) and not commas:
        raise _no_numbers(path, seen)
    if out and not commas and "columns" not in fields and len(out) < len(seen.columns):
        config["columns"] = [f"-{name}" for name in out]
        why["columns"] = "left out: " + _joined(f"{name} {reason}" for name, reason in out.items())
    if seen.gaps and "gaps" not in fields:
        config["gaps"], why["gaps"] = list(seen.gaps), _GAPS
    if seen.incomplete and "missing" not in fields:
        rows = "1 row" if seen.incomplete == 1 else f"{seen.incomplete:,} rows"
        config["missing"], why["missing"] = "drop", f"compares the {rows} with missing values apart from the others"
    return config, {name: f"{_shown(config[name])} ({text})" for name, text in why.items()}


OTHER_UNITS = 1000.0
"""From which ratio of the columns' spreads on they must have different units; below, the small ones may be noise."""

DISAGREE = 1.25


def _refuse_two_answers(host: Host, read: Reading, apart: float) -> None:
    """Raises ``DataError`` where maximum likelihood reads another dimension from columns that are scaled than from
    columns as they are, by a quarter: the small ones may be measured in other units, or hold noise."""
    everything = {**read.config, "fractions": [0, 0, 1], "limit": 1000, "seed": 0}
    found = []
    for scale in (read.config["scale"], "none"):
        source = host.create(read.use, {**everything, "scale": scale})
        try:
            found.append(host.create("estimator:mle").point_estimate(source.load("test")).number())
        except DataError:
            return  # too few points: the run says so
    scaled, plain = found
    if max(scaled, plain) > DISAGREE * min(scaled, plain):
        raise DataError(
            f"the columns' spreads differ {apart:.2g}-fold, and the dimension depends on their units: about "
            f"{plain:.2g} as they are, about {scaled:.2g} with each column divided by its own spread",
            hint="choose scale=none if all have one unit and the small ones may be noise, or scale=columns if each has "
            "its own (in commands: --data-option scale=none)",
        )


def _too_few(given: str, reading: Reading) -> DataError:
    used = [one for one in reading.seen.columns if one.missing and one.use != "not used"]
    gaps = sorted(used, key=lambda one: -one.missing)
    hint = "splits and neighbours need more of them"
    if gaps and len(gaps) == sum(one.use == "coordinate" for one in reading.seen.columns):
        hint = "every column has gaps: fill them in"
    elif gaps and reading.seen.rows >= FEWEST_POINTS:
        leave = f"--data-option 'columns={without([one.name for one in gaps[:_NAMED]])}'"
        hint = f"most gaps are in these columns; to leave them out: {leave}; or fill the gaps in"
    left = f"{reading.points} of {reading.seen.rows}" if reading.points < reading.seen.rows else f"{reading.points}"
    return DataError(f"{given} has {left} points to use; expected {FEWEST_POINTS} at least", hint=hint)


def _table(host: Host, path: Path, fields: Mapping[str, Any], side: int) -> Reading:
    """Files of numbers. What distorts distances is left out, unless ``fields`` settle it."""
    config, why = dict(fields), dict[str, str]()
    seen = inspect_data(host, path, config)
    if len(seen.event_shape) > 1:
        config.setdefault("scale", "table")
        return Reading("data:array", config, seen, seen.event_shape, seen.rows - seen.incomplete, why)
    commas = [(one.name, text) for one in seen.columns for text in one.warnings if text.startswith(_COMMAS)]
    if commas and "columns" not in config:
        names, fix = ", ".join(repr(name) for name, _ in commas), commas[0][1].removeprefix(_COMMAS)
        column, hold = ("column", "holds") if len(commas) == 1 else ("columns", "hold")
        raise DataError(
            f"{column} {names} of {path} {hold} numbers with commas, before decimals or between thousands",
            hint=f"{fix}; or leave them out by columns: {without([name for name, _ in commas])}",
        )
    if seen.gaps:
        config["gaps"] = list(seen.gaps)
        why["gaps"] = _GAPS
    label = _label(seen, config)
    if label is not None:
        config["label"], why["label"] = label, "names the class of each point, for answers by class (by: label)"
    if "columns" not in config:
        out = _left_out(seen, label)
        coordinates = [one for one in seen.columns if one.use == "coordinate" and one.name not in out]
        if not coordinates and seen.event_shape[0] > 0 and seen.columns[0].name != "all coordinates":
            reasons = _joined(f"{name} {reason}" for name, reason in out.items())
            raise DataError(f"no column of {path} is left for the points: {reasons}", hint=_taken_anyway(seen))
        if out and _names_columns(path):
            config["columns"] = [f"-{name}" for name in out]
            why["columns"] = "left out: " + _joined(f"{name} {reason}" for name, reason in out.items())
    if seen.event_shape[0] == 0:
        raise _no_numbers(path, seen)
    read = {**config, "missing": "drop"} if "missing" not in config else config
    seen = inspect_data(host, path, read)
    if seen.incomplete and "missing" not in config:
        config["missing"] = "drop"
        why["missing"] = _incomplete(seen)
    whole = all(one.type in ("integer", "boolean") for one in seen.columns if one.use == "coordinate")
    if seen.copies and "duplicates" not in config and not whole:  # rows of whole numbers are equal by chance
        config["duplicates"] = "drop"
        why["duplicates"] = _copied(seen)
    if "scale" not in config and "low" not in config and "high" not in config:
        config["scale"], why["scale"] = _scale(seen, path)
    seen = inspect_data(host, path, config)  # its warnings are those that are left
    points = seen.rows - seen.incomplete - (seen.copies or 0 if config.get("duplicates") == "drop" else 0)
    return Reading("data:array", config, seen, seen.event_shape, points, why)


def _copied(seen: DataSummary) -> str:
    return f"{_rows(seen.copies or 0)} exact copies of others; use keep if they were measured separately"


def _label(seen: DataSummary, config: Mapping[str, Any]) -> str | None:
    """The first column that is called as classes are and holds few whole numbers, or of text with few distinct values,
    where nothing is the label yet."""
    if "label" in config or "columns" in config:
        return None
    texts = [one for one in seen.columns if one.use == "not used" and 1 < one.distinct <= _MOST_CLASSES]
    coded = next((one.name for one in seen.columns if _is_class(one, seen)), None)
    return coded or next(
        (one.name for one in texts if 2 * one.distinct < seen.rows and 2 * one.missing < seen.rows), None
    )


def _is_class(column: ColumnSummary, seen: DataSummary) -> bool:
    return column.use == "coordinate" and "class?" in column.warnings and 2 * column.distinct < seen.rows


def _left_out(seen: DataSummary, label: str | None) -> dict[str, str]:
    """The columns that are no measurements, each with the reason."""
    single = [one for one in seen.columns if one.use == "coordinate" and _CATEGORY not in one.warnings]
    some = 2 * sum(map(is_code, single)) < len(single)
    times = [one for one in seen.columns if _TIME in one.warnings]
    found: dict[str, str] = {}
    for one in seen.columns:
        if one.name == label or one.use not in ("coordinate", "not used"):
            continue
        if one.use == "not used":
            found[one.name] = _held(one)
        elif one.distinct == 0:
            found[one.name] = "is empty"
        elif one.distinct == 1:
            found[one.name] = "is constant"
        elif 2 * one.missing > seen.rows:
            found[one.name] = f"lacks {one.missing:,} of {seen.rows:,} values"
        elif is_identifier(one):
            found[one.name] = _identifies(one)
        elif times == [one] and len(seen.columns) > 2:
            found[one.name] = f"{_TIME} as times do; data:series reads the others as a time series"
        elif _is_class(one, seen):
            found[one.name] = "looks like the class of each point"
        elif _CATEGORY in one.warnings:
            found[one.name] = f"{_CATEGORY} with its neighbours, which sum to 1"
        elif some and is_code(one):
            found[one.name] = f"holds {one.distinct} values, as codes of categories do"
    return found


def _no_numbers(path: Path, seen: DataSummary) -> DataError:
    return DataError(
        f"{path} has no column of numbers: {_joined(f'{one.name} holds {one.type}' for one in seen.columns)}",
        hint=_AS_NUMBERS
        if len(seen.columns) > 1
        else "set delimiter: to the character between columns, and decimal: to the character before decimals",
    )


def _taken_anyway(seen: DataSummary) -> str:
    """The setting that takes columns of numbers that would be left out; advice where each holds one value at most."""
    varied = [one.name for one in seen.columns if one.use == "coordinate" and (one.distinct or 0) > 1][:_NAMED]
    if not varied:
        return "add columns of numbers that differ from row to row"
    return f"columns: [{', '.join(varied)}] takes {'it' if len(varied) == 1 else 'them'} all the same"


def _held(column: ColumnSummary) -> str:
    """Content of a column that is no coordinate, as the reason to leave it out."""
    return f"holds {column.warnings[0] if column.warnings else column.type}"


def _identifies(column: ColumnSummary) -> str:
    return IDENTIFIER if IDENTIFIER in column.warnings else CALLED_SO


def _incomplete(seen: DataSummary) -> str:
    rows = "1 row" if seen.incomplete == 1 else f"{seen.incomplete:,} rows"
    return f"leaves out the {rows} with missing values; or fill {'it' if seen.incomplete == 1 else 'them'} in"


def _scale(seen: DataSummary, path: Path) -> tuple[str, str]:
    tails = [one.name for one in seen.columns if one.use == "coordinate" and "heavy tail" in one.warnings]
    if tails:
        return (
            "robust",
            f"some rows of {_joined(tails)} lie more than {HEAVY_TAIL:g} deviations out; or use columns",
        )
    if _names_columns(path):
        return "columns", "each column divided by its own standard deviation; use table if all columns have one unit"
    if (apart := spread_ratio(seen)) > UNEVEN:
        return "columns", f"the columns' spreads differ {apart:.2g}-fold; use table if all columns have one unit"
    return "table", "one unit for all columns; use columns if each has its own unit"


def spread_ratio(seen: DataSummary) -> float:
    """Ratio of the largest to the smallest spread of a column, without codes and row numbers."""
    measured = [one for one in seen.columns if one.use == "coordinate" and not (is_code(one) or is_identifier(one))]
    spreads = sorted(one.spread for one in measured if one.spread)
    return spreads[-1] / spreads[0] if spreads else 1.0


def _names_columns(path: Path) -> bool:
    return path.suffix.lower() not in (".npy", ".npz") and not (path / ".zarray").exists()


def _images(host: Host, path: Path, fields: Mapping[str, Any], side: int) -> Reading:
    """Images, reduced to what a small network can learn in minutes, in grey where they are."""
    config, why = dict(fields), dict[str, str]()
    seen = inspect_data(host, path, config)
    several = any(" sizes from " in text for text in seen.warnings)
    whole = "several sizes" if several else _size(seen.event_shape)
    if several:
        seen = inspect_data(host, path, {"size": side, **config})
    height, width = seen.event_shape[-2:]
    if "size" not in fields and (several or height != width or height > side):
        config["size"] = side
        why["size"] = f"the images have {whole}; the centred square of each is made small, for a training of minutes"
    source = host.create("data:images", {"root": str(path), **config})
    points = source.load("train").tensor(_LOOKED_AT)
    if "grey" not in fields and points.shape[1] == 3 and bool((points == points[:, :1]).all()):
        config["grey"], why["grey"] = True, f"the {len(points)} checked images have no colour"
    shape = (1 if config.get("grey") else int(points.shape[1]), *map(int, points.shape[2:]))
    seen = replace(seen, warnings=tuple(dict.fromkeys((*seen.warnings, *source.data_warnings()))))
    return Reading("data:images", config, seen, shape, seen.rows, why)


def _size(shape: Sequence[int]) -> str:
    return f"{shape[-1]} x {shape[-2]} pixels"


def _rows(count: int) -> str:
    return "1 row is among" if count == 1 else f"{count:,} rows are"


def _joined(parts: Iterable[str]) -> str:
    every = list(parts)
    more = f" and {len(every) - _NAMED} more" if len(every) > _NAMED else ""
    return ", ".join(every[:_NAMED]) + more


def _shown(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(one, str) and one.startswith("-") for one in value):
        return without([one[1:] for one in value])
    return f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value)
