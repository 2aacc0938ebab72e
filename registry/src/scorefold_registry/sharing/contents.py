"""What the folder of a shared model may hold: numbers and JSON, in files of known names, that name nothing outside."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from scorefold.artefacts import MANIFEST_FILE, STATE_FILE, load_state
from scorefold.errors import ArtefactError
from scorefold_registry.components.building import Builder
from scorefold_registry.components.manifest import check_manifest, follow
from scorefold_registry.components.parts import anchored_use
from scorefold_registry.components.saving import PORTS, current_state
from scorefold_registry.components.stage_files import VALUE_FILE
from scorefold_registry.components.values import VALUE_ARRAYS

CARD, RUN_FILE = "README.md", "run.yaml"
_STATES = {MANIFEST_FILE, STATE_FILE, VALUE_FILE, VALUE_ARRAYS}
_LEFT = {".gitattributes", ".gitignore", "LICENSE", "LICENSE.md", "LICENSE.txt"}
"""Files that the Hub or people add, which are passed over."""

_DEEPEST = 8
"""States inside each other, such as the network of a score of an estimator."""

_PORT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_RUNS_CODE = {".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib", ".npy", ".npz", ".py", ".pyc", ".so", ".h5"}
_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.\w+)*:[A-Za-z_]\w*")


def check_names(names: Iterable[str], where: str) -> list[str]:
    """The files that are read, of the names of all in a folder. Raises ``ArtefactError`` for one that is no part of a
    pushed model: a pickle or code, a file of another name, a path that leads out.

    >>> check_names(["README.md", "manifest.json", ".gitattributes"], "it")
    ['README.md', 'manifest.json']
    """
    kept = []
    for name in names:
        *folders, last = PurePosixPath(name).parts or ("",)
        if not folders and last in _LEFT:
            continue
        inside = len(folders) in range(0, 2 * _DEEPEST + 1, 2) and all(
            part == PORTS if place % 2 == 0 else _PORT.fullmatch(part) for place, part in enumerate(folders)
        )
        if not (inside and last in (_STATES if folders else {*_STATES, CARD, RUN_FILE})):
            danger = PurePosixPath(name).suffix.lower() in _RUNS_CODE
            why = "which could run code when it is loaded" if danger else "which is no part of a pushed model"
            raise ArtefactError(
                f"{where} holds {name!r:.200}, {why}",
                hint=f"a pushed model is {MANIFEST_FILE}, {STATE_FILE} and a card",
            )
        kept.append(name)
    if MANIFEST_FILE not in kept:
        raise ArtefactError(f"{where} is no pushed model: it has no {MANIFEST_FILE}", hint="scorefold push makes one")
    return kept


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
            yield from _states(builder, follow(folder, item, f"port {name!r} of {folder}"))


def _files(builder: Builder, use: str, config: Mapping[str, Any]) -> list[str]:
    """The paths in a configuration and in the components named in it."""
    found: list[str] = []

    def note(_: Any, path: Path) -> str:
        found.append(str(path))
        return str(path)

    anchored_use(builder.catalogue, {"use": use, "config": config}, note)
    return found


def _functions(value: Any) -> Iterator[str]:
    """What is written as ``module:function`` in a configuration; names of components stand under ``use``."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key != "use":
                yield from _functions(item)
    elif isinstance(value, list):
        for item in value:
            yield from _functions(item)
    elif isinstance(value, str) and _FUNCTION.fullmatch(value):
        yield value
