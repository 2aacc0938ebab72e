"""Claims as data: the table ``claims/table.toml`` of a package, as ``scorefold.plugin.Claim`` objects.

Nothing here imports torch or pydantic, and the TOML reader only when claims are asked for: a ``plugin.py`` imports it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from itertools import zip_longest
from pathlib import Path
from typing import Any

from scorefold.errors import PluginError
from scorefold.plugin import Claim

_FIELDS = frozenset(field.name for field in fields(Claim)) - {"role"}
_NEEDED = ("name", "statement", "source", "target")


def read_claims(package: Path) -> Iterator[Claim]:
    """The claims of ``claims/table.toml`` in the folder of a package, in their order.

    ``gates`` lists the names of those that decide; all others are reported.
    A table with ``rows`` is a group, in which each row is a claim; any other is a claim, by the table's name. Both have
    the fields of ``Claim``, defaults from ``[defaults]``, and a ``target``
    ``module:function`` in the package's ``claims``. In a group ``columns`` name the cells of a row. A column named as a
    field gives that field; ``{column}`` in a text of the group stands for the cell, alone for its value. A cell ``""``,
    or one that a row ends before, leaves the field to the default and the option out. What ``[words.column]`` says of a
    cell is ``{column_words}`` if it is a text, and ``{column_x}`` for each ``x`` of a table; it may name the columns
    before.

    Raises ``PluginError`` with the file, the table and the number of the row where there is no such claim.
    """
    import tomllib

    file = package / "claims" / "table.toml"
    try:
        tables = tomllib.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise PluginError(f"the claims in {file} can't be read: {error}") from error
    defaults, words, gates = tables.pop("defaults", {}), tables.pop("words", {}), tables.pop("gates", [])
    if not (isinstance(gates, list) and all(isinstance(gate, str) for gate in gates)):
        raise PluginError(f"{file}: gates is {gates!r:.60}; expected the names of claims, in a list")
    left = list(gates)
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise PluginError(f"{file}: {name} is not a table; expected [name-of-the-claim], or a group with rows")
        columns, rows = table.pop("columns", []), table.pop("rows", None)
        own = {"name": name} if rows is None else {column: f"{{{column}}}" for column in columns if column in _FIELDS}
        for number, row in enumerate([[]] if rows is None else rows, 1):
            try:
                if len(row) > len(columns):
                    raise TypeError(f"{len(row)} cells; expected one for each of {', '.join(columns)}")
                cells = dict(zip_longest(columns, row, fillvalue=""))
                found = _filled({**own, **table}, _with_words(cells, words))
                claim = _claim({**_filled(defaults, {}), **found}, package.name, gates)
            except (PluginError, TypeError, ValueError, AttributeError, LookupError) as error:
                where = f"[{name}]" if rows is None else f"[{name}], row {number}"
                raise PluginError(f"{file}: {where}: {_cause(error, columns)}") from error
            if claim.name in left:
                left.remove(claim.name)
            yield claim
    if left:
        raise PluginError(f"{file}: gates names {left[0]!r}, and there is no such claim, or it is there twice")


def _claim(found: dict[str, Any], package: str, gates: list[str]) -> Claim:
    if unknown := sorted(found.keys() - _FIELDS):
        raise TypeError(f"a claim has no {unknown[0]!r}; it has {', '.join(sorted(_FIELDS))}")
    if missing := [name for name in _NEEDED if name not in found]:
        raise TypeError(f"it says no {missing[0]}")
    role = "gate" if found["name"] in gates else "report"
    return Claim(**{**found, "role": role, "target": f"{package}.claims.{found['target']}"})


def _with_words(row: dict[str, Any], words: Mapping[str, Any]) -> dict[str, Any]:
    """The cells of a row, and what the words of their columns say of them."""
    known = dict(row)
    for name, cell in row.items():
        said = words.get(name, {}).get(str(cell), "" if cell == "" else {})
        for key, item in ({"words": said} if isinstance(said, str) else said).items():
            known[f"{name}_{key}"] = _filled(item, known)
    return known


def _filled(value: Any, row: Mapping[str, Any]) -> Any:
    """A value with the cells of a row in it: lists are tuples, and what is ``""`` is left out of tables."""
    if isinstance(value, list | tuple):
        return tuple(_filled(item, row) for item in value)
    if isinstance(value, Mapping):
        filled = {name: _filled(item, row) for name, item in value.items()}
        return {name: item for name, item in filled.items() if item != ""}
    if not isinstance(value, str):
        return value
    cell = row.get(value[1:-1]) if value[:1] == "{" else None
    if cell is None:
        return value.format_map(row)
    return cell if isinstance(cell, str) else _filled(cell, {})


def _cause(error: Exception, columns: list[str]) -> str:
    if isinstance(error, PluginError):
        return error.message
    if isinstance(error, KeyError):
        return f"nothing is called {error}; the columns are {', '.join(columns) or 'none'}"
    return str(error)
