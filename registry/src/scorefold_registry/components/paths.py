"""Paths in configurations: the values of fields of the type ``Path``, in plugins of third parties as in ours."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from scorefold.config import Use
from scorefold.errors import PluginError
from scorefold_registry.components.catalogue import Catalogue
from scorefold_registry.components.configs import check_config, inline_uses
from scorefold_registry.components.messages import RawPath

Anchor = Callable[[RawPath, Path], str]
"""What is to stand in place of a path that is written at some place of a mapping."""


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
    """What was written for a configuration, with each path replaced. A path that is a field's default is left."""
    changed = raw
    for place, path in paths_in(config):
        # Where a shorthand was written, the path stands higher up than in the configuration.
        for depth in range(len(place), -1, -1):
            written = _at(raw, place[:depth])
            if isinstance(written, (str, Path)):
                if Path(written) == path:
                    changed = replaced(changed, place[:depth], anchor(place[:depth], path))
                break
    return changed


def anchored_use(catalogue: Catalogue, raw: Mapping[str, Any], anchor: Anchor) -> dict[str, Any]:
    """A component named inline, or a stage, as it was written, with the paths of its config and its inputs replaced.

    What is not valid is left as it is, for whoever checks it.
    """
    changed = dict(raw)
    if isinstance(raw.get("config"), Mapping):
        changed["config"] = _anchored_config(catalogue, raw["use"], raw["config"], _under(anchor, "config"))
    if isinstance(raw.get("inputs"), Mapping):
        changed["inputs"] = anchored_inputs(catalogue, raw["inputs"], _under(anchor, "inputs"))
    return changed


def anchored_inputs(catalogue: Catalogue, inputs: Mapping[str, Any], anchor: Anchor) -> dict[str, Any]:
    """Inputs with the paths of all components that are named inline in them replaced."""

    def one(value: Any, *place: str | int) -> Any:
        if isinstance(value, (list, tuple)):
            return [one(item, *place, index) for index, item in enumerate(value)]
        named = isinstance(value, Mapping) and isinstance(value.get("use"), str)
        return anchored_use(catalogue, value, _under(anchor, *place)) if named else value

    return {name: one(value, name) for name, value in inputs.items()}


def _anchored_config(catalogue: Catalogue, use: str, raw: Mapping[str, Any], anchor: Anchor) -> Any:
    try:
        config, _ = check_config(catalogue, catalogue.resolve(use, any_revision=True), raw)
    except PluginError:
        return raw
    if config is None:
        return raw
    changed = anchored(config, raw, anchor)
    for item in inline_uses(config):
        written = _at(raw, item.path)
        if isinstance(written, Mapping) and isinstance(written.get("use"), str):
            changed = replaced(changed, item.path, anchored_use(catalogue, written, _under(anchor, *item.path)))
    return changed


def _under(anchor: Anchor, *place: str | int) -> Anchor:
    return lambda rest, path: anchor((*place, *rest), path)


def _at(raw: Any, place: RawPath) -> Any:
    """What was written at a place; None where nothing was."""
    for part in place:
        inside = isinstance(raw, Mapping) and part in raw
        listed = isinstance(raw, Sequence) and not isinstance(raw, str) and isinstance(part, int) and part < len(raw)
        if not (inside or listed):
            return None
        raw = raw[part]
    return raw


def replaced(raw: Any, place: RawPath, value: Any) -> Any:
    """A copy of what was written with the value at a place set."""
    if not place:
        return value
    inner = replaced(raw[place[0]], place[1:], value)
    if isinstance(raw, Mapping):
        return {**raw, place[0]: inner}
    return [inner if index == place[0] else item for index, item in enumerate(raw)]
