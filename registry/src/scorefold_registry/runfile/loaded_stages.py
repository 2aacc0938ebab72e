"""Saved states that stages hand on, and models that come with plugins: their manifests and cards. No torch here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any

from scorefold.artefacts import MANIFEST_FILE, digest_file
from scorefold.errors import ArtefactError, PluginError, ScorefoldError
from scorefold.plugin import Model
from scorefold_registry.components.catalogue import Catalogue
from scorefold_registry.components.manifest import (
    CARD,
    RUN_FILE,
    UNKNOWN,
    check_file,
    check_names,
    folder_files,
    has_state,
    installed_component,
    read_manifest,
    referenced_folder,
    state_folder,
    uses_in,
)
from scorefold_registry.components.stage_files import STAGE_FILE, read_stage, stages_near
from scorefold_registry.plugins.names import did_you_mean, normalise, not_installed, sentences
from scorefold_registry.plugins.records import PluginRecord, Registered
from scorefold_registry.runfile.yaml_reader import parse_value

PREFIX = "model:"
"""Prefix of names of plugins' models, which are never folders."""


@dataclass(frozen=True)
class Shipped:
    """A model that a plugin brings. ``folder`` is where it stands in the plugin's package."""

    model: Model
    record: PluginRecord

    @property
    def id(self) -> str:
        """``model:NAME``, as a run file names it."""
        return f"{PREFIX}{self.model.name}"

    @property
    def folder(self) -> Path:
        return Path(str(self.record.file)).parent / self.model.folder

    def checked(self) -> Path:
        """Its folder, with the names of its files and its licences checked.

        Raises ``ArtefactError`` for a folder that is not there, for a file that is no part of a pushed model, and
        where the run file, the card, or a licence of the weights or of the data is missing.
        """
        self._licences()
        return self.folder

    def _licences(self) -> dict[str, str | None]:
        """The licences that the card names, with all that ``checked`` looks at checked. Raises as it does."""
        if not (self.folder / MANIFEST_FILE).is_file():
            raise self._broken(f"there is no {MANIFEST_FILE} in {self.folder}")
        for file in check_names(folder_files(self.folder), self.id):
            check_file(self.folder, file, self.folder)
        missing = [name for name in (CARD, RUN_FILE) if not (self.folder / name).is_file()]
        if missing:
            raise self._broken(f"{self.folder} has no {' and no '.join(missing)}")
        licences = licences_of(self.folder)
        for what, name in (("weights", "licence"), ("data", "data_licence")):
            if licences[name] in (None, UNKNOWN):
                raise self._broken(f"its card names no licence of the {what}")
        return licences

    def facts(self) -> dict[str, Any]:
        """Facts for ``plugins show``: the component, both licences, its size; or the reason why it can't be used."""
        found: dict[str, Any] = {"name": self.model.name, "summary": self.model.summary}
        try:
            licences = self._licences()
            component = read_manifest(self.folder).component
        except ArtefactError as error:
            return {**found, "fault": error.message}
        size = sum((self.folder / file).stat().st_size for file in folder_files(self.folder))
        return {**found, "component": component, **licences, "bytes": size}

    def _broken(self, why: str) -> ArtefactError:
        install = f"pip install --force-reinstall {self.record.distribution}"
        return ArtefactError(
            f"{self.id} of {self.record.distribution} can't be used: {why}",
            hint=f"{install}; its authors write a whole one by scorefold push with --licence and --data-licence",
        )


def card_header(folder: Path) -> Mapping[str, Any]:
    """The YAML header of the card in a folder; nothing where there is none that can be read."""
    try:
        _, begin, rest = (folder / CARD).read_text("utf-8").partition("---\n")
        found = parse_value(rest.partition("\n---")[0]) if begin else None
    except (OSError, ValueError, ScorefoldError):
        return {}
    return found if isinstance(found, dict) else {}


def licences_of(folder: Path) -> dict[str, str | None]:
    """The licences of the weights and of the data, as the card in a folder names them."""
    header = card_header(folder)
    keys = {"licence": "license", "data_licence": "data_license"}
    return {name: str(header[key]) if header.get(key) else None for name, key in keys.items()}


def shipped_models(plugins: Iterable[PluginRecord]) -> list[Shipped]:
    """The models of all plugins, in their order."""
    return [Shipped(model, record) for record in plugins for model in record.models]


def find_model(plugins: Iterable[PluginRecord], text: str) -> Shipped:
    """The model that ``model:NAME``, ``model:DISTRIBUTION/NAME`` or either without ``model:`` names.

    Raises ``PluginError`` for a name that no plugin has, with near misses or the line that installs it, and for one
    that several plugins have.
    """
    plugins = list(plugins)
    distribution, _, name = text.removeprefix(PREFIX).rpartition("/")
    models = shipped_models(plugins)
    found = [
        item
        for item in models
        if item.model.name == name and normalise(distribution) in ("", normalise(item.record.distribution))
    ]
    if len(found) == 1:
        return found[0]
    if found:
        names = [f"{PREFIX}{item.record.distribution}/{name}" for item in found]
        raise PluginError(f"{PREFIX}{name} comes with several plugins", hint=f"write {' or '.join(names)}")
    for plugin in not_installed(plugins):
        if name in plugin.models and distribution in ("", plugin.distribution):
            where = f"it comes with {plugin.distribution}, which is not installed"
            raise PluginError(f"there is no {PREFIX}{name}; {where}", hint=plugin.install)
    names = [item.model.name for item in models]
    known = f"the models of plugins are {', '.join(names)}" if names else "no plugin that is installed brings a model"
    message = f"no plugin brings a model called {text.removeprefix(PREFIX)!r:.100}"
    raise PluginError(message, hint=sentences(did_you_mean(name, names), known))


@dataclass(frozen=True)
class Artefact:
    """A saved state: its folder, the type of its numbers, and the components it is made of, its own first.

    ``digest`` is the digest of its manifest. The manifest holds the digests of the state and of the manifests that its
    ports refer to. ``name`` is ``model:NAME`` where the state comes with a plugin.
    """

    folder: Path
    digest: str
    dtype: str | None
    components: tuple[Registered, ...]
    name: str | None = None

    @property
    def place(self) -> str:
        """Value of ``load`` in a run file."""
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
        return ArtefactError(f"{folder} holds the result of a stage ({facts['gives']}), and no component", hint=hint)
    hint = stages_near(folder)
    if is_checkpoint(folder):
        hint = f"a checkpoint of diffusers is read by {{use: score:diffusers, config: {{path: {folder}}}}}"
    return ArtefactError(f"{folder} is no saved state: it has no {MANIFEST_FILE}", hint=hint)


def is_checkpoint(folder: Path) -> bool:
    """True if a folder holds a pipeline of diffusers."""
    return any(_is(S_ISREG, folder / name) for name in ("model_index.json", "scheduler/scheduler_config.json"))


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
    yield installed_component(catalogue, manifest, folder)[0]
    for use in uses_in(manifest.config):
        try:
            yield catalogue.resolve(use, any_revision=True)
        except PluginError as error:
            raise ArtefactError(f"{folder} can't be rebuilt: {error.message}", hint=error.hint) from error
    for name, entry in manifest.ports.items():
        for item in entry if isinstance(entry, list) else [entry]:
            if item.state is not None:
                place = referenced_folder(folder, item, f"port {name!r} of {folder}")
                yield from _components(catalogue, state_folder(place), seen)
