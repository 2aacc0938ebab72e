"""References of states in the folder of a shared model, which must stay inside it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from scorefold.artefacts import load_state
from scorefold.errors import ArtefactError
from scorefold_registry.components.building import Builder
from scorefold_registry.components.manifest import check_manifest, referenced_folder
from scorefold_registry.components.parts import anchored_use
from scorefold_registry.components.saving import current_state

_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.\w+)*:[A-Za-z_]\w*")


def check_states(builder: Builder, folder: Path) -> None:
    """Check the state in a folder and the copies inside it, before anything is built.

    Raises ``ArtefactError`` for what is damaged, not installed or of a later revision, for a port whose state stands
    outside, and for a setting that names a file or a function of the machine that it is loaded on.
    """
    for state, use, config in _states(builder, folder):
        found = [*_files(builder, use, config), *_functions(config)]
        if found:
            raise ArtefactError(
                f"{state} names {found[0]!r:.200}, which is no part of it: a model that is shared reads no file and "
                "calls no function outside its folder",
                hint="share a model that was trained from data, which leaves only their shape and scale in it",
            )


def _states(builder: Builder, folder: Path) -> Iterator[tuple[Path, str, Mapping[str, Any]]]:
    """Each state of a folder: where it stands, its component, and its configuration as that has it today."""
    tensors, raw = load_state(folder)
    manifest = check_manifest(raw, folder)
    registered, config, _ = current_state(builder, folder, manifest, tensors)
    yield folder, registered.qualified, config
    for name, entry in manifest.ports.items():
        for item in entry if isinstance(entry, list) else [entry]:
            if item.state is None:
                continue
            if not item.copied:
                raise ArtefactError(
                    f"port {name!r} of {folder} refers to a state outside it, {item.state}",
                    hint="push it again: scorefold push keeps copies inside",
                )
            yield from _states(builder, referenced_folder(folder, item, f"port {name!r} of {folder}"))


def _files(builder: Builder, use: str, config: Mapping[str, Any]) -> list[str]:
    """The paths in a configuration and in the components named in it."""
    found: list[str] = []

    def note(_: Any, path: Path) -> str:
        found.append(str(path))
        return str(path)

    anchored_use(builder.catalogue, {"use": use, "config": config}, note)
    return found


def _functions(value: Any) -> Iterator[str]:
    """Values of the form ``module:function`` in a configuration; components are named under ``use``."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key != "use":
                yield from _functions(item)
    elif isinstance(value, list):
        for item in value:
            yield from _functions(item)
    elif isinstance(value, str) and _FUNCTION.fullmatch(value):
        yield value
