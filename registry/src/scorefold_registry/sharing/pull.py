"""Pull: a shared model, checked and copied into a folder of one's own."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from scorefold.artefacts import new_folder
from scorefold.errors import ArtefactError, ConfigError
from scorefold_registry.components.manifest import check_file, check_names, folder_files
from scorefold_registry.components.shared_states import check_states
from scorefold_registry.host import Host
from scorefold_registry.runfile.loaded_stages import PREFIX, Shipped, find_model, shipped_models
from scorefold_registry.sharing.places import download, files_of, repository

MODELS = Path("models")
"""Default folder of pulled models."""


def pull(host: Host, source: Path | str, to: Path | str | None = None, *, revision: str | None = None) -> Path:
    """Copy a pushed model, from a plugin, a folder or the Hub (``org/name``), into a new folder, once it was checked.

    A model that comes with a plugin is called by its name, or ``model:NAME`` where a folder here is called so too.

    Without ``to`` it is ``models/NAME`` in the working folder. The answer is the new folder, absolute.

    Nothing in it is run: it is safetensors and JSON, what is plugged in stands inside, and it is rebuilt by plugins
    that are installed here. ``revision`` is a branch, a tag or a commit of the repository. Raises ``ArtefactError`` for
    a folder that holds anything else, is damaged, or was made by plugins that are not installed or older than it;
    ``ConfigError`` for a revision of a folder, and for a name of a model that a folder here has too; and as
    ``runfile.loaded_stages.find_model`` and ``places.upload``.
    """
    shipped = _of_plugin(host, source)
    source = source if shipped is None else shipped.checked()
    name = repository(source)
    called = shipped.model.name if shipped is not None else Path(name or source).name
    to = Path(MODELS / called if to is None else to).expanduser().absolute()
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
        kept = check_names(folder_files(folder), str(folder))
    for file in kept:
        check_file(folder, file, root)
    check_states(host.builder, folder)
    host.load(folder)  # the weights must fit what the manifest describes
    _copy(folder, kept, to)
    return to


def _of_plugin(host: Host, source: Path | str) -> Shipped | None:
    """The model of a plugin that the source names; None for a folder and for a repository."""
    if isinstance(source, Path):
        return None
    known = {item.model.name for item in shipped_models(host.plugins)}
    if source in known and Path(source).exists():
        raise ConfigError(
            f"{source} may be a folder here, or a model of a plugin",
            hint=f"write ./{source} for the folder, or {PREFIX}{source} for the plugin's model",
        )
    named = source.startswith(PREFIX) or not (Path(source).exists() or set(source) & set("./~\\:"))
    return find_model(host.plugins, source) if named else None


def _copy(folder: Path, files: Sequence[str], to: Path) -> None:
    with new_folder(to) as partial:
        for file in files:
            (partial / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / file, partial / file)
