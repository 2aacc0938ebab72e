"""Updating a plugin from its template, as dpkg does with configuration files: nobody's work is lost.

A plugin that ``scorefold new`` wrote carries a record: whose template it came from, and the digest of each file as it
was written. An update renders the template of today aside and holds three versions of each file against one another: as
written then, as it is in the folder, as written now. (copier has an update of its own, which needs the template in a
git repository with tags; templates of ours come in wheels.)
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from scorefold.artefacts import digest_file, read_json, write_json
from scorefold.errors import ArtefactError, ConfigError
from scorefold_registry.cli.new.templates import Templates, render

RECORD = ".scorefold-template.json"

ACTIONS = {
    "add": "new in the template",
    "replace": "changed in the template, and not by you",
    "merge": "changed in the template and by you: yours is left, and the new version is beside it",
    "remove": "gone from the template, and not changed by you",
    "keep": "changed by you, and not in the template: yours is left",
    "orphan": "gone from the template, and changed by you: yours is left",
    "absent": "changed in the template, and removed by you: left out",
}
"""What an update does with a file, and why. Files that are as the template has them need nothing."""

_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_ODD = "no file"
"""Stands for the digest of what is no plain file (a folder, a link): it is like no version of the template's."""


@dataclass(frozen=True)
class Record:
    """Where a plugin's files come from: the template's distribution and version, and each file's digest as written."""

    distribution: str
    version: str
    kind: str
    name: str
    files: Mapping[str, str]


@dataclass(frozen=True)
class Change:
    """What an update does with a file: ``action`` is one of ``ACTIONS``, ``path`` is relative, with '/'."""

    path: str
    action: str


def write_record(folder: Path, templates: Templates, kind: str, name: str, files: Mapping[str, str]) -> None:
    """The record of a plugin, beside its files."""
    record = {"distribution": templates.distribution, "version": templates.version, "kind": kind, "name": name}
    write_json(folder / RECORD, {**record, "files": dict(sorted(files.items()))})


def read_record(folder: Path) -> Record:
    """The record of a plugin. Raises ``ConfigError`` for a folder without one and for one that is damaged."""
    if not (folder / RECORD).is_file():
        raise ConfigError(
            f"{folder} has no {RECORD}; only a plugin that `scorefold new` wrote can be updated",
            hint="render the template beside it with scorefold new, and compare the two folders",
        )
    try:
        found = read_json(folder / RECORD)
    except ArtefactError as error:
        raise ConfigError(f"{folder / RECORD} can't be read: {error}", hint=_RESTORE) from error
    texts = ("distribution", "version", "kind", "name")
    whole = isinstance(found, dict) and all(isinstance(found.get(key), str) for key in texts)
    if not whole or not isinstance(found.get("files"), dict):
        raise ConfigError(f"{folder / RECORD} does not say what the template wrote", hint=_RESTORE)
    files: dict[str, Any] = found["files"]
    for path, digest in files.items():
        if not _is_inside(path) or not isinstance(digest, str) or not _DIGEST.match(digest):
            raise ConfigError(f"{folder / RECORD} has an entry that can't be one: {path!r}", hint=_RESTORE)
    return Record(found["distribution"], found["version"], found["kind"], found["name"], files)


_RESTORE = "restore the file, from version control for example"


def digests(folder: Path) -> dict[str, str]:
    """The digest of each file under a folder by its path, the record apart."""
    files = [path for path in folder.rglob("*") if path.is_file() and path != folder / RECORD]
    return {path.relative_to(folder).as_posix(): digest_file(path) for path in files}


@contextmanager
def rendered(templates: Templates, record: Record) -> Iterator[Path]:
    """The plugin as its template writes it today, in a folder that is gone afterwards. Raises as ``render``."""
    with tempfile.TemporaryDirectory() as aside:
        yield render(templates, record.kind, record.name, Path(aside) / "plugin")


def plan_update(folder: Path, record: Record, now: Mapping[str, str]) -> list[Change]:
    """What an update does, in order of path; ``now`` are the digests of the files as the template writes them today.

    Raises ``ConfigError`` where a new version would be written over one that waits to be merged, and for a path that a
    link leads out of the folder.
    """
    changes: list[Change] = []
    for path in sorted({*record.files, *now}):
        mine = _digest_of(folder, path)
        action = _decide(record.files.get(path), mine, now.get(path))
        if action is not None:
            changes.append(Change(path, action))
    waiting = [
        f"{change.path}.new"
        for change in changes
        if change.action == "merge" and _digest_of(folder, f"{change.path}.new") not in (None, now[change.path])
    ]
    if waiting:
        raise ConfigError(
            f"{', '.join(waiting)} is there already, from an earlier update", hint="merge it into yours, then remove it"
        )
    return changes


def _decide(then: str | None, mine: str | None, now: str | None) -> str | None:
    """What to do with a file by its three digests (None: there is no file); None for nothing."""
    if mine == now:
        return None
    if now is None:
        return "remove" if mine == then else "orphan"
    if mine is None:
        if then is None:
            return "add"
        return None if then == now else "absent"
    if mine == then:
        return "replace"
    return "keep" if then == now else "merge"


def apply_update(folder: Path, source: Path, changes: list[Change]) -> None:
    """Does what was planned; ``source`` holds the files of today. Raises ``ConfigError`` where it can't be written."""
    try:
        for change in changes:
            target = folder / change.path
            if change.action in ("add", "replace"):
                _put(source / change.path, target)
            elif change.action == "merge":
                _put(source / change.path, target.with_name(f"{target.name}.new"))
            elif change.action == "remove":
                target.unlink()
    except OSError as error:
        raise ConfigError(
            f"{folder / change.path} can't be written: {error.strerror or error}",
            hint="the same command goes on from here",
        ) from error


def _put(source: Path, target: Path) -> None:
    """Copies a file into its place, where it appears whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    try:
        shutil.copyfile(source, partial)
        if target.exists():
            shutil.copymode(target, partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _digest_of(folder: Path, path: str) -> str | None:
    """The digest of a file in the folder, None where there is nothing."""
    file = folder / path
    if not file.parent.resolve().is_relative_to(folder.resolve()):
        raise ConfigError(f"{file.parent} leads out of {folder}", hint="an update changes no files elsewhere")
    if file.is_symlink() or (file.exists() and not file.is_file()):
        return _ODD
    return digest_file(file) if file.exists() else None


def _is_inside(path: str) -> bool:
    """Whether a path is relative, with '/', and stays in the folder that it starts from."""
    pure = PurePosixPath(path)
    return bool(pure.parts) and not pure.is_absolute() and ".." not in pure.parts and "\\" not in path
