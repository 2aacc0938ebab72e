"""The content of files of data as a summary, and the summary as rows of text. No torch here."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from scorefold.errors import ConfigError, DataError, printable
from scorefold.summary import ColumnSummary, DataSummary
from scorefold_registry.components.messages import config_error, config_problems
from scorefold_registry.components.parts import config_model
from scorefold_registry.plugins.loading import load_target
from scorefold_registry.run.progress import number_text
from scorefold_registry.runfile.yaml_reader import parse_value

if TYPE_CHECKING:
    from scorefold.interfaces import DataSource
    from scorefold_registry.host import Host

HEAD = ("column", "type", "missing", "distinct", "least", "mean", "greatest", "spread", "warnings")
NUMBERS = range(2, 8)
"""The columns of the table that hold numbers."""

_SUMMARY = TypeAdapter(DataSummary)


def summary_in(result: Mapping[str, Any]) -> DataSummary | None:
    """The summary of data in a stage's result; None where there is none."""
    try:
        return _SUMMARY.validate_python(result.get("data"))
    except ValidationError:
        return None


def column_cells(column: ColumnSummary) -> tuple[str, ...]:
    """A column of the data as a row of the table."""
    name = column.name if column.use == "coordinate" else f"{column.name} ({column.use})"
    numbers = (column.least, column.mean, column.greatest, column.spread)
    return (
        name,
        column.type,
        f"{column.missing:,}",
        f"{column.distinct:,}",
        *("" if number is None else _number(number, column.spread) for number in numbers),
        ", ".join(column.warnings),
    )


def summary_text(summary: DataSummary) -> str:
    """The summary for a terminal: a heading, a line a column, the warnings, and the first setting in them as an
    option."""
    rows = [HEAD, *map(column_cells, summary.columns)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    lines = [
        "  ".join(cell.rjust(width) if i in NUMBERS else cell.ljust(width) for i, (cell, width) in parts).rstrip()
        for parts in (list(enumerate(zip(row, widths, strict=True))) for row in rows)
    ]
    said = [f"warning: {text}" for text in summary.warnings]
    if option := _option(summary.warnings):
        said.append(f"in commands a setting is an option, such as {option}")
    return printable("\n".join([summary.heading(), "", *lines, *([""] if said else []), *said]))


def with_option(error: DataError) -> DataError:
    """The error about data, with the setting in its hint as an option of commands too. Of several settings, which may
    be alternatives, no one is chosen.

    >>> with_option(DataError("3 rows have gaps", hint="missing: drop leaves them out")).hint
    'missing: drop leaves them out (in commands: --data-option missing=drop)'
    >>> with_option(DataError("x has commas", hint='thousands: "," or decimal: "," reads them')).hint
    'thousands: "," or decimal: "," reads them (in commands: --data-option FIELD=VALUE)'
    """
    hint = error.hint or ""
    if "--data-option" not in hint and (option := _option([hint])):
        several = len(_SETTING.findall(hint)) > 1
        error.hint = f"{hint} (in commands: {'--data-option FIELD=VALUE' if several else option})"
    return error


_LISTS = "columns|condition|gaps"
_OTHERS = "label|names|missing|duplicates|scale|key|delimiter|decimal|thousands|header|size"
_MARKS = ("delimiter", "decimal", "thousands")
_SETTING = re.compile(
    rf"\b(?:(?P<list>{_LISTS}): (?P<items>\[[^]]*\])|(?P<field>{_OTHERS}): (?P<value>\"[^\"]+\"|[\w.-]+))"
)


def _option(texts: Iterable[str]) -> str | None:
    """The first setting of data in texts as an option of commands, with a place for the value where it is cut.

    >>> print(_option(['columns: ["-Unnamed: 3"] leaves it out', "missing: drop"]))
    --data-option 'columns=["-Unnamed: 3"]'
    >>> print(_option(["few columns: set scale: columns"]))
    --data-option scale=columns
    >>> print(_option(["set delimiter: to the character between columns"]), _option(['thousands: "," reads 1,234']))
    --data-option FIELD=VALUE --data-option thousands=,
    """
    found = next((match for text in texts for match in _SETTING.finditer(text)), None)
    if found is None:
        return None
    name, value = found["list"] or found["field"], found["items"] or found["value"]
    if "..." in value or (name in _MARKS and not value.startswith('"')):  # cut, or a description of the value
        return "--data-option FIELD=VALUE"
    bare = value.strip('"')
    return f"--data-option {quote(f'{name}={bare if len(bare) == 1 else value}')}"


def _number(value: float, spread: float | None) -> str:
    """A number with four digits, or with as many as show a hundredth of the spread, up to twelve."""
    if value == round(value) and abs(value) < 1e7:
        return f"{value:.0f}"
    if not spread or not abs(value) > spread:
        return number_text(float(value))
    return f"{value:.{min(12, max(4, 3 + math.floor(math.log10(abs(value) / spread))))}g}"


def inspect_data(host: Host, data: Path, fields: Mapping[str, Any]) -> DataSummary:
    """The summary of files of points, which a pattern may name, or of images, with these fields of their loader.

    Raises ``DataError`` for a file that can't be read at all, and ``ConfigError`` for a field that does not fit.
    """
    name, field = loader_of(data)
    registered = host.catalogue.resolve(name)
    model = config_model(registered)
    raw = {**fields, field: str(data)}
    try:
        config = model.model_validate(raw)
    except ValidationError as error:
        raise config_error(f"the fields of {name}", config_problems(model, error, raw)) from None
    if registered.component.inspect is not None:
        summary: DataSummary = load_target(registered, registered.component.inspect)(config)
        return summary
    source: type[DataSource] = load_target(registered, registered.component.target)
    return source.inspect(config)


def loader_of(data: Path) -> tuple[str, str]:
    """The component that reads files or a folder, and the field of its config that names them.

    Folders hold images, unless they are Zarr arrays or datasets of Hugging Face without images; so do tar files.
    """
    numbers = any((data / name).is_file() for name in ("zarr.json", ".zarray", ".zgroup"))
    if (info := data / "dataset_info.json").is_file():
        numbers = '"Image"' not in info.read_text("utf-8", "replace")
    images = (data.is_dir() and not numbers) or data.suffix.lower() == ".tar"
    return ("data:images", "root") if images else ("data:array", "path")


def read_fields(given: Sequence[str], option: str) -> dict[str, Any]:
    """The fields that an option sets, as ``NAME=VALUE`` with the value in YAML. Raises ``ConfigError``."""
    fields: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"{option} {text}: expected a name, '=' and a value", hint=f"for example {option} n=16")
        fields[name.strip()] = parse_value(value)
    return fields
