"""``extends: base.yaml``: a run file that says only how it differs from another."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from scorefold.errors import ConfigError
from scorefold_registry.runfile.yaml_reader import Positioned, parse, read_text, yaml_text

KEY = "extends"

_OWN = ("version", "name")
"""Fields of the head that a base keeps to itself."""


def extended(source: Positioned, folder: Path) -> str | None:
    """Put what the base of a run file says into its data, where it says nothing itself; the whole as text.

    Mappings are put together field by field, and all else is replaced: numbers, text and lists. Fields from the base
    keep their places in the base's file, and its folder is where their paths start. Problems are noted in ``source``;
    the text is then None.
    """
    named = source.data.pop(KEY)
    if not isinstance(named, str) or not named:
        what = f"extends is {named!r:.60}; expected the path of a run file, from this one"
        source.problems.append(source.error(what, (KEY,), hint="for example 'extends: base.yaml'"))
        return None
    path = folder / named
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):  # pathlib's raise for odd names
        what = f"{path} is no file, and a pipe or a device may give text without end; expected a run file"
        source.problems.append(source.error(what, (KEY,), hint="save the base as a file, and name that"))
        return None
    try:
        base = parse(read_text(path), str(path))
    except ConfigError as error:
        source.problems.append(source.error(f"{path}: {error.message}", (KEY,), hint=error.hint))
        return None
    source.problems += base.problems
    if not isinstance(base.data, dict):
        if not base.problems:
            source.problems.append(source.error(f"{path} is no run file: it holds no mapping", (KEY,)))
        return None
    version = source.data.get("version")
    if version is not None and base.data.get("version", version) != version:
        what = f"{path} is of version {base.data['version']!r:.20}, and this file of {version!r:.20}"
        source.problems.append(source.error(what, (KEY,), hint="bring both to one version"))
        return None
    if KEY in base.data:
        hint = f"write the base of {path.name} into {path.name}, or extend that base"
        source.problems.append(source.error(f"{path} extends a file itself; one level is read", (KEY,), hint=hint))
        return None
    head = {key: source.data[key] for key in _OWN if key in source.data}
    source.data = _merged({**head, **{key: value for key, value in base.data.items() if key not in _OWN}}, source.data)
    for ours, theirs in ((source.keys, base.keys), (source.values, base.values)):
        for where, place in theirs.items():
            if where and where[0] not in _OWN and where not in ours:
                ours[where] = replace(place, file=str(path))
    return f"# put together from {Path(source.file).name} and {path.name}\n{yaml_text(source.data)}"


def _merged(base: Any, own: Any) -> Any:
    if not (isinstance(base, dict) and isinstance(own, dict)):
        return own
    return {**base, **{key: _merged(base[key], value) if key in base else value for key, value in own.items()}}
