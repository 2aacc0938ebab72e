"""Names of run files that were renamed since the last release, and the run file with the new ones."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from scorefold_registry.runfile.yaml_reader import DataPath, Place, Positioned, parse

RENAMED: dict[str, str] = {}
"""Old names to new ones: a component as ``score:old`` to ``score:new``, a setting as ``score:new.old`` to ``new``. A
setting has the component's present name, and dots where it is nested: ``score:new.training.old`` to ``new``."""

_BEFORE = re.compile(r"([&!]\S*[ \t]+)*['\"]?")
"""What can stand before a name where a value or a key begins: an anchor, a tag and a quotation mark."""

_COMPONENT = re.compile(r"(?P<before>([\w-]+/)?)(?P<name>[\w-]+:[\w-]+)(?P<after>(@\d+)?)\Z")


class Change(NamedTuple):
    """A name to be replaced: its place, what stands there and what is to."""

    place: Place
    old: str
    new: str


def renamed(text: str, table: Mapping[str, str]) -> tuple[str, list[Change]]:
    """The text of a run file with new names in place of old ones, and each change in the order of the file.

    Only the names change, so comments and layout stay. A name that is written with escapes or over two lines is left
    alone, and so is a setting beside one of the new name, or one that an alias also gives to another component. Broken
    YAML has no change.
    """
    source = parse(text, "")
    found = [(key, Change(source.place(path, key=key), old, new)) for path, key, old, new in old_names(source, table)]
    repeated, counts = Counter(source.keys.values()), Counter(change for key, change in found if key)
    changes = [change for key, change in found if not key or counts[change] == repeated[change.place]]
    # From the end, so that places before stay; a name that an alias repeats has one place.
    places = sorted(set(changes), key=_position, reverse=True)
    lines = re.split(r"(\r\n|\r|\n)", text)  # lines at even positions, what ends them at odd ones
    done = []
    for change in places:
        row, start = _position(change)
        line = lines[2 * row - 2]
        before = _BEFORE.match(line, start - 1)
        start = before.end() if before is not None else start - 1
        if line.startswith(change.old, start):
            lines[2 * row - 2] = line[:start] + change.new + line[start + len(change.old) :]
            done.append(change)
    return "".join(lines), done[::-1]


def old_names(source: Positioned, table: Mapping[str, str]) -> list[tuple[DataPath, bool, str, str]]:
    """The path of each old name in a run file that was read, whether it is a key, the old and the new text."""
    stages = source.data.get("stages") if isinstance(source.data, dict) else None
    return list(_changes(stages, ("stages",), table))


def _new_name(text: str, table: Mapping[str, str]) -> str | None:
    """The new name of a component, with its distribution and revision as given; None for one that has no other."""
    match = _COMPONENT.match(text)
    new = None if match is None else table.get(match["name"])
    return None if match is None or new is None else f"{match['before']}{new}{match['after']}"


def _position(change: Change) -> tuple[int, int]:
    """Line and column of a change, from 1."""
    return change.place.line or 1, change.place.column or 1


def _changes(value: Any, path: DataPath, table: Mapping[str, str]) -> Iterator[tuple[DataPath, bool, str, str]]:
    if isinstance(value, str):
        if (new := _new_name(value, table)) is not None:
            yield path, False, value, new
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _changes(item, (*path, index), table)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _changes(item, (*path, key), table)
        match = _COMPONENT.match(use) if isinstance(use := value.get("use"), str) else None
        if match is not None:
            component = table.get(match["name"], match["name"])
            yield from _settings(value.get("config"), (*path, "config"), f"{component}.", table)


def _settings(
    config: Any, path: DataPath, before: str, table: Mapping[str, str]
) -> Iterator[tuple[DataPath, bool, str, str]]:
    for key, item in config.items() if isinstance(config, dict) else ():
        if (new := table.get(f"{before}{key}")) is not None and new not in config:
            yield (*path, key), True, key, new
        yield from _settings(item, (*path, key), f"{before}{new or key}.", table)
