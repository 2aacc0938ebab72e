"""Pull: a shared model, checked and copied into a folder of one's own."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from scorefold.artefacts import new_folder
from scorefold.errors import ArtefactError, ConfigError
from scorefold_registry.host import Host
from scorefold_registry.sharing.contents import check_names, check_states
from scorefold_registry.sharing.places import download, files_of, repository

MODELS = Path("models")
"""Where pulled models stand unless a folder is named."""


def pull(host: Host, source: Path | str, to: Path | str | None = None, *, revision: str | None = None) -> Path:
    """Copy a pushed model, from a folder or from the Hub (``org/name``), into a new folder, once it has been checked.

    Without ``to`` it is ``models/NAME`` in the working folder. The answer is the new folder, absolute.

    Nothing in it is run: it is safetensors and JSON, what is plugged in stands inside, and it is rebuilt by plugins
    that are installed here. ``revision`` is a branch, a tag or a commit of the repository. Raises ``ArtefactError`` for
    a folder that holds anything else, is damaged, or was made by plugins that are not installed or older than it;
    ``ConfigError`` for a revision of a folder; and as ``places.upload``.
    """
    name = repository(source)
    to = Path(MODELS / Path(name or source).name if to is None else to).expanduser().absolute()
    if to.exists():
        hint = f"choose another folder, remove this one, or use it as it is: load: {to}"
        raise ArtefactError(f"{to} exists already", hint=hint)
    if name is not None:
        kept = check_names(files_of(name, revision), f"{name} on the Hub")
        folder = download(name, revision, kept)
        # The Hub's cache keeps the files themselves in a folder beside the snapshots, and links to them.
        root = folder.parent.parent
    else:
        if revision is not None:
            raise ConfigError(f"revision {revision!r:.60} of a folder; only the Hub has revisions", hint="leave it out")
        folder = root = Path(source).expanduser().absolute()
        kept = check_names(_names(folder), str(folder))
    for file in kept:
        _check_file(folder, file, root)
    check_states(host.builder, folder)
    host.load(folder)  # the weights must fit what the manifest describes
    _copy(folder, kept, to)
    return to


def _names(folder: Path) -> list[str]:
    """The files of a folder. Links to folders are names too, which are then refused."""
    if not folder.is_dir():
        raise ArtefactError(f"there is no folder {folder}", hint="name a folder that scorefold push wrote, or org/name")
    found = []
    for item in sorted(folder.rglob("*")):
        if item.is_symlink() or not item.is_dir():
            found.append(item.relative_to(folder).as_posix())
    return found


def _check_file(folder: Path, file: str, root: Path) -> None:
    place = folder / file
    if not place.resolve().is_relative_to(root.resolve()):
        raise ArtefactError(f"{place} is a link that leads out of {root}")
    if not place.is_file():
        raise ArtefactError(f"{place} can't be read: it is no file")


def _copy(folder: Path, files: Sequence[str], to: Path) -> None:
    with new_folder(to) as partial:
        for file in files:
            (partial / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / file, partial / file)
