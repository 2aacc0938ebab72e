"""The names that the files of a shared model may have. No torch here."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from scorefold.artefacts import MANIFEST_FILE, STATE_FILE
from scorefold.errors import ArtefactError
from scorefold_registry.components.stage_files import PORTS, VALUE_ARRAYS, VALUE_FILE

UNKNOWN = "unknown"
"""The licence of a model for which nobody named one, as the Hub writes it."""

CARD, RUN_FILE = "README.md", "run.yaml"
_STATES = {MANIFEST_FILE, STATE_FILE, VALUE_FILE, VALUE_ARRAYS}
_LEFT = {".gitattributes", ".gitignore", "LICENSE", "LICENSE.md", "LICENSE.txt"}
"""Files that the Hub or people add, which are passed over."""

_DEEPEST = 8
"""States inside each other, such as the network of a score of an estimator."""

_PORT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_RUNS_CODE = {".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib", ".npy", ".npz", ".py", ".pyc", ".so", ".h5"}


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


def names_in(folder: Path) -> list[str]:
    """The files of a folder. Links to folders are names too, which are then refused."""
    if not folder.is_dir():
        raise ArtefactError(f"there is no folder {folder}", hint="name a folder that scorefold push wrote, or org/name")
    found = []
    for item in sorted(folder.rglob("*")):
        if item.is_symlink() or not item.is_dir():
            found.append(item.relative_to(folder).as_posix())
    return found


def check_file(folder: Path, file: str, root: Path) -> None:
    """Raises ``ArtefactError`` for a link that leads out of ``root``, and for what is no file."""
    place = folder / file
    if not place.resolve().is_relative_to(root.resolve()):
        raise ArtefactError(f"{place} is a link that leads out of {root}")
    if not place.is_file():
        raise ArtefactError(f"{place} can't be read: it is no file")
