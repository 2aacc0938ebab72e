"""Paths in configurations, in fields of the type ``Path`` of any plugin, and names that become files and folders."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from scorefold.config import Use
from scorefold_registry.components.messages import RawPath

Anchor = Callable[[RawPath, Path], str]
"""Function that replaces a path at a place of a mapping."""


def from_here(_: RawPath, path: Path) -> str:
    """A path from the working folder, as command lines and Python have it."""
    return absolute(path, Path.cwd())


def absolute(path: Path, folder: Path) -> str:
    """A path that starts at a folder, unless it is absolute or starts at somebody's home."""
    return os.path.abspath(folder / path.expanduser())


def paths_in(config: Any, place: RawPath = ()) -> Iterator[tuple[RawPath, Path]]:
    """The paths in a checked configuration with their places, inline components apart."""
    if isinstance(config, Path):
        yield place, config
    elif isinstance(config, BaseModel) and not isinstance(config, Use):
        for name in type(config).model_fields:
            yield from paths_in(getattr(config, name), (*place, name))
    elif isinstance(config, Mapping):
        for key, value in config.items():
            yield from paths_in(value, (*place, key))
    elif isinstance(config, (list, tuple)):
        for index, value in enumerate(config):
            yield from paths_in(value, (*place, index))


def anchored(config: BaseModel, raw: Any, anchor: Anchor) -> Any:
    """Written configuration with each path replaced. A path that is a field's default is left."""
    changed = raw
    for place, path in paths_in(config):
        # Where a shorthand was written, the path stands higher up than in the configuration.
        for depth in range(len(place), -1, -1):
            written = written_at(raw, place[:depth])
            if isinstance(written, (str, Path)):
                if Path(written) == path:
                    changed = with_value_at(changed, place[:depth], anchor(place[:depth], path))
                break
    return changed


def under(anchor: Anchor, *place: str | int) -> Anchor:
    """The anchor of what stands at a place."""
    return lambda rest, path: anchor((*place, *rest), path)


def written_at(raw: Any, place: RawPath) -> Any:
    """The value that was written at a place, or None."""
    for part in place:
        inside = isinstance(raw, Mapping) and part in raw
        listed = isinstance(raw, Sequence) and not isinstance(raw, str) and isinstance(part, int) and part < len(raw)
        if not (inside or listed):
            return None
        raw = raw[part]
    return raw


def with_value_at(raw: Any, place: RawPath, value: Any) -> Any:
    """A copy of what was written with the value at a place set."""
    if not place:
        return value
    inner = with_value_at(raw[place[0]], place[1:], value)
    if isinstance(raw, Mapping):
        return {**raw, place[0]: inner}
    return [inner if index == place[0] else item for index, item in enumerate(raw)]


LONGEST_NAME = 100
"""Characters of a name that becomes a folder; file systems take 255 bytes, and endings are added."""

_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?\Z", re.IGNORECASE)


def name_fault(name: str) -> str | None:
    """Reason why a name of letters, digits, '.', '_' and '-' can't name a folder on every system, or None."""
    if len(name) > LONGEST_NAME:
        return f"it has {len(name)} characters, and a folder's name at most {LONGEST_NAME}"
    if _DEVICE.match(name):
        return "Windows keeps that name for a device"
    return "Windows drops a dot at the end of a name" if name.endswith(".") else None


def file_name(name: str, default: str = "figure") -> str:
    """A name as part of a file name: letters, digits, '.', '_' and '-' only, and no more than ``LONGEST_NAME``."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:LONGEST_NAME].strip("-.")
    if not plain:
        return default
    return f"{default}-{plain}" if _DEVICE.match(plain) else plain


def free_name(name: str, taken: Container[str]) -> str:
    """The name, or the name with a number: two may differ only in what a file's name can't hold."""
    names = (name if count == 1 else f"{name}-{count}" for count in itertools.count(1))
    return next(each for each in names if each not in taken)
