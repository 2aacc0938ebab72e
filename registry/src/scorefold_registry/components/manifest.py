"""The manifest of a saved state: what it may say, and where its references may lead. No torch here.

Copies and points stand inside the state's folder. A reference may lead to a state anywhere, as a link may. It is
followed only where the state found there has the digest that stands next to the reference.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field

from scorefold.artefacts import MANIFEST_FILE, STATE_FILE, digest_file, load_facts
from scorefold.errors import ArtefactError, PluginError
from scorefold_registry.components.catalogue import Catalogue
from scorefold_registry.components.stage_files import PORTS, VALUE_ARRAYS, VALUE_FILE, read_checked, validated
from scorefold_registry.plugins.names import parse_reference
from scorefold_registry.plugins.records import Registered, how_to_get

FORMAT = 1
LOCK_FILE = "lock.txt"
"""Next to a state of a component in an environment of its own: what installs the environment again."""
LOCK_DIGEST = "^sha256:[0-9a-f]{64}$"
REFERENCE_FILE = "reference.json"
"""In a folder that holds another's state: where that stands, and the digest of its manifest."""

# They stand in the line that a person is to type.
_Distribution = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$", max_length=200)]
_Version = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+!-]*$", max_length=200)]


def _relative(text: str) -> str:
    outside = PurePosixPath(text).is_absolute() or PureWindowsPath(text).anchor or "\\" in text
    if outside or not text.isprintable() or not text:
        raise ValueError(f"{text!r} is no relative path")
    return text


_Path = Annotated[str, AfterValidator(_relative), Field(max_length=1000)]


class PortContent(BaseModel, extra="forbid"):
    """Content of a port: the shape of data, points kept inside, or a state elsewhere or copied inside."""

    spec: dict[str, Any] | None = None
    value: _Path | None = None
    state: _Path | None = None
    digest: str = ""
    copied: bool = Field(False, alias="copy")


class Locked(BaseModel, extra="forbid"):
    """Environment of a plugin's own, by the digest of its lock, which is next to the manifest."""

    lock: str = Field(pattern=LOCK_DIGEST)


class Manifest(BaseModel):
    """Manifest that ``host.save`` writes next to a state; ``half`` if it has the parameters in less precision than they
    are computed with, ``environment`` where ``distribution`` is the name of an environment of the plugin's own.
    """

    component: str = Field(max_length=300)
    distribution: _Distribution
    version: _Version
    config: dict[str, Any]
    ports: dict[str, PortContent | list[PortContent]]
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**63)] | None
    dtype: Literal["float16", "bfloat16", "float32", "float64"] | None
    fingerprint: str | None
    half: Annotated[bool, Field(strict=True)] = False
    environment: Locked | None = None

    @property
    def saved(self) -> str:
        """Name of the saved object in messages."""
        return f"{self.component} of {self.distribution} {self.version}"

    @property
    def remedy(self) -> str:
        """The line that brings back what the state is of."""
        if self.environment is not None:
            return (
                "its plugin has an environment of its own: scorefold plugins add --isolated --name "
                f"{self.distribution} --lock {LOCK_FILE}, with the {LOCK_FILE} next to the state"
            )
        return how_to_get(self.distribution, self.version)


def check_manifest(raw: Mapping[str, Any], folder: Path) -> Manifest:
    """A manifest as read. Raises ``ArtefactError`` for another format, and for one that no release wrote."""
    if raw.get("format") != FORMAT or isinstance(raw.get("format"), bool):
        raise ArtefactError(
            f"{folder} is of format {raw.get('format')!r:.60}; this release reads {FORMAT}",
            hint="a folder that host.save wrote is expected; update scorefold-registry if a later release wrote it",
        )
    lacking = [key for key, field in Manifest.model_fields.items() if field.is_required() and key not in raw]
    if lacking:
        raise ArtefactError(f"{folder / MANIFEST_FILE} lacks {', '.join(lacking)}; it is not as host.save wrote it")
    return validated(raw, Manifest, folder / MANIFEST_FILE)


def read_manifest(folder: Path) -> Manifest:
    """The manifest in a folder, its state unread; see ``check_manifest`` for the errors."""
    return check_manifest(load_facts(folder), folder)


def installed_component(catalogue: Catalogue, manifest: Manifest, folder: Path) -> tuple[Registered, int]:
    """The component that a state is of, and the revision it was saved at.

    Raises ``ArtefactError`` where it is not installed, or only in an older revision.
    """
    try:
        reference = parse_reference(manifest.component)
        found = catalogue.resolve(f"{manifest.distribution}/{reference.id}")
        isolated = found.record.environment
        if (manifest.environment is None) is not (isolated is None):
            raise PluginError(f"{found.record.label} is another plugin than that")
        if manifest.environment is not None and manifest.environment.lock != isolated.lock_digest:
            raise PluginError(
                f"it was saved in an environment {manifest.distribution!r} with the lock {manifest.environment.lock}; "
                f"the lock here is {isolated.lock_digest}"
            )
    except PluginError as error:
        hint = manifest.remedy
        raise ArtefactError(f"{folder} holds the state of {manifest.saved}: {error.message}", hint=hint) from error
    revision = reference.revision or 1
    if revision > found.component.revision:
        raise other_revision(manifest, folder, found, "is older")
    return found, revision


def other_revision(manifest: Manifest, folder: Path, found: Registered, why: str) -> ArtefactError:
    """The error for a state that the installed revision can't take over."""
    return ArtefactError(
        f"{folder} holds the state of {manifest.saved}; installed is revision {found.component.revision}, which {why}",
        hint=manifest.remedy,
    )


def state_folder(folder: Path) -> Path:
    """Folder of the state of a folder: itself, or the target of its ``reference.json``.

    Raises ``ArtefactError`` for a reference to a state that is gone or changed, as ``referenced_folder`` does.
    """
    file = folder / REFERENCE_FILE
    if not file.is_file():
        return folder
    return state_folder(referenced_folder(folder, read_checked(file, PortContent), str(folder)))


def has_state(folder: Path) -> bool:
    """True if a folder holds a state, or refers to one."""
    return (folder / MANIFEST_FILE).is_file() or (folder / REFERENCE_FILE).is_file()


def referenced_folder(folder: Path, reference: PortContent, what: str) -> Path:
    """The folder that a reference leads to; ``what`` holds it. Raises ``ArtefactError`` where that is another now."""
    if reference.state is None:
        raise ArtefactError(f"{what} does not say where its state stands")
    inside = reference.copied
    place = place_inside(folder, reference.state, what) if inside else Path(os.path.normpath(folder / reference.state))
    manifest = state_folder(place) / MANIFEST_FILE
    if not manifest.is_file():
        raise ArtefactError(
            f"{what} refers to the state in {place}, which is not there",
            hint="restore it at this place, or save with bundle=True to store copies inside",
        )
    if digest_file(manifest) != reference.digest:
        raise ArtefactError(
            f"{what} refers to the state in {place}, which has changed since",
            hint="restore it, or make this state again from the new one",
        )
    return place


def place_inside(folder: Path, text: str, what: str) -> Path:
    """A folder inside ``folder``. Raises ``ArtefactError`` for a path, or a link on it, that leads out."""
    place = Path(os.path.normpath(folder / text))
    if not place.is_relative_to(folder) or not place.resolve().is_relative_to(folder.resolve()):
        raise ArtefactError(f"{what} refers to {text!r}, which leads out of it")
    return place


def uses_in(resolved: Any) -> Iterator[str]:
    """The components named in a resolved configuration, at any depth."""
    if isinstance(resolved, Mapping):
        if isinstance(resolved.get("use"), str) and ":" in resolved["use"]:
            yield resolved["use"]
        for value in resolved.values():
            yield from uses_in(value)
    elif isinstance(resolved, list):
        for item in resolved:
            yield from uses_in(item)


UNKNOWN = "unknown"
"""The licence of a model for which nobody named one, as the Hub writes it."""

CARD, RUN_FILE = "README.md", "run.yaml"
_STATES = {MANIFEST_FILE, STATE_FILE, VALUE_FILE, VALUE_ARRAYS, LOCK_FILE}
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
            why = "which could run code when it is loaded" if danger else "which does not belong to a pushed model"
            raise ArtefactError(
                f"{where} holds {name!r:.200}, {why}",
                hint=f"a pushed model is {MANIFEST_FILE}, {STATE_FILE} and a card",
            )
        kept.append(name)
    if MANIFEST_FILE not in kept:
        raise ArtefactError(f"{where} is no pushed model: it has no {MANIFEST_FILE}", hint="scorefold push makes one")
    return kept


def folder_files(folder: Path) -> list[str]:
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
