"""Stages that hand on a saved state: what its manifest says, held to what is installed. No torch here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from scorefold.artefacts import MANIFEST_FILE, digest_file
from scorefold.errors import ArtefactError, PluginError
from scorefold_registry.components.catalogue import Catalogue
from scorefold_registry.components.manifest import follow, has_state, installed, read_manifest, state_folder, uses_in
from scorefold_registry.components.stage_files import STAGE_FILE, read_stage, stages_near
from scorefold_registry.plugins.names import sentences
from scorefold_registry.plugins.records import Registered
from scorefold_registry.runfile.shipped import PREFIX, find_model


@dataclass(frozen=True)
class Artefact:
    """A saved state: its folder, the type of its numbers, and the components it is made of, its own first.

    ``digest`` is its manifest's, which holds those of the state and of the manifests that its ports refer to. ``name``
    is ``model:NAME`` where it comes with a plugin.
    """

    folder: Path
    digest: str
    dtype: str | None
    components: tuple[Registered, ...]
    name: str | None = None

    @property
    def place(self) -> str:
        """What a run file says to load it."""
        return self.name or str(self.folder)


def find_loaded(catalogue: Catalogue, text: str, folder: Path) -> Artefact:
    """The state that ``load: TEXT`` means in a run file in ``folder``.

    Raises as ``find_artefact``, and for a model that no plugin brings, or whose folder is not as it was pushed.
    """
    if not text.startswith(PREFIX):
        return find_artefact(catalogue, Path(os.path.realpath(folder / text)))
    try:
        shipped = find_model(catalogue.plugins, text)
    except PluginError as error:
        raise ArtefactError(error.message, hint=error.hint) from error
    return replace(find_artefact(catalogue, shipped.checked()), name=text)


def find_artefact(catalogue: Catalogue, folder: Path) -> Artefact:
    """The state that a folder holds or refers to, unread but for manifests.

    Raises ``ArtefactError`` for a folder that is not there or holds no state, for components that are not installed or
    older than the state, and for a port whose state is gone or another one now.
    """
    try:
        if not has_state(folder):
            raise _stateless(folder)
        held = state_folder(folder)
        components = tuple(dict.fromkeys(_components(catalogue, held, set())))
        return Artefact(held, digest_file(held / MANIFEST_FILE), read_manifest(held).dtype, components)
    except RecursionError:
        raise ArtefactError(f"{folder} refers to states that refer to states, too deep to follow") from None
    except OSError as error:
        raise ArtefactError(f"this can't be read as a folder: {error.strerror}") from error
    except ValueError as error:
        raise ArtefactError(f"this can't be read as a folder: {error}") from error


def _stateless(folder: Path) -> ArtefactError:
    if not _is(S_ISDIR, folder):
        hint = sentences(stages_near(folder), "a relative path starts at the folder of the run file")
        return ArtefactError(f"there is no folder {folder}", hint=hint)
    if _is(S_ISREG, folder / STAGE_FILE):
        facts = read_stage(folder)
        source = facts["source"]
        hint = f"load {folder.parent / source}" if source else "load a stage that gives a component, such as a score"
        return ArtefactError(f"{folder} holds what a stage gave ({facts['gives']}), and no component", hint=hint)
    return ArtefactError(f"{folder} is no saved state: it has no {MANIFEST_FILE}", hint=stages_near(folder))


def _is(kind: Callable[[int], bool], path: Path) -> bool:
    """Raises ``OSError`` for what can't be looked at, which pathlib hides since Python 3.14."""
    try:
        return kind(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False


def _components(catalogue: Catalogue, folder: Path, seen: set[Path]) -> Iterator[Registered]:
    """The component of a state, those named in its configuration, and those that its ports are plugged to."""
    if folder in seen:
        return
    seen.add(folder)
    manifest = read_manifest(folder)
    yield installed(catalogue, manifest, folder)[0]
    for use in uses_in(manifest.config):
        try:
            yield catalogue.resolve(use, any_revision=True)
        except PluginError as error:
            raise ArtefactError(f"{folder} can't be rebuilt: {error.message}", hint=error.hint) from error
    for name, entry in manifest.ports.items():
        for item in entry if isinstance(entry, list) else [entry]:
            if item.state is not None:
                place = follow(folder, item, f"port {name!r} of {folder}")
                yield from _components(catalogue, state_folder(place), seen)
