"""Folders of runs, and the cache of finished stages."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from pydantic import BaseModel

from scorefold.artefacts import digest_folder, new_folder, write_text
from scorefold.errors import ArtefactError, ConfigError
from scorefold_registry.components.stage_files import Time, read_checked
from scorefold_registry.plugins.locks import is_locked, locked, make_folder
from scorefold_registry.plugins.settings import find_settings

_KEY = re.compile(r"(?P<key>[0-9a-f]{40})\Z|\.(?P<left>[0-9a-f]{40})\..*\.partial\Z")


def area(name: str, given: str | Path | None, default: str) -> Path:
    """Folder of runs or cached stages.

    The command line (``given``) comes first, then ``SCOREFOLD_<NAME>``, then ``<name>`` in the nearest
    ``scorefold.toml`` (relative to that file), then the default in the working folder.
    """
    if given is not None:
        return Path(given)
    if chosen := os.environ.get(f"SCOREFOLD_{name.upper()}", "").strip():
        return Path(chosen)
    settings = find_settings()
    written = settings.data.get(name)
    if written is None or settings.file is None:
        return Path(default)
    if not isinstance(written, str) or not written:
        raise ConfigError(f"{name} is {written!r}; expected the path of a folder", file=settings.file)
    return settings.file.parent / written


def refuse_others(folder: Path, mark: str) -> None:
    """Raises ``ConfigError`` for a folder that holds things, and not ``mark``, which everything of this sort has."""
    there = sorted(path.name for path in folder.iterdir() if path.name != ".lock") if folder.is_dir() else []
    if there and mark not in there:
        held = ", ".join([*there[:3], *(["..."] if len(there) > 3 else [])])
        hint = "choose a new folder with --out, or the folder to renew"
        raise ConfigError(f"{folder} contains other files: {held}", hint=hint)


@dataclass(frozen=True)
class Cache:
    """A folder of stages: ``<key>/`` finished, ``unfinished/<key>/`` their checkpoints, ``locks/<key>.lock``."""

    folder: Path

    def stage(self, key: str) -> Path:
        return self.folder / key

    def checkpoints(self, key: str) -> Path:
        """The folder that an interrupted stage resumes from."""
        return self.folder / "unfinished" / key

    def lock_file(self, key: str) -> Path:
        return self.folder / "locks" / f"{key}.lock"

    @contextmanager
    def lock(self, key: str, waiting: Callable[[], None] | None = None) -> Iterator[None]:
        """Hold a key: one process at a time makes or copies a stage."""
        with locked(self.lock_file(key), waiting):
            yield

    def fetch(self, key: str, target: Path) -> bool:
        """Copy a finished stage to ``target``, complete or not at all; False where there is none that is whole."""
        source, digest = self.stage(key), self._digest_file(key)
        if digest.is_dir():
            remove(digest)
        if not source.is_dir():
            remove(source)
            return False
        with suppress(_DamagedError), new_folder(target) as partial:
            # What is kept is files and folders. A link would copy what stands elsewhere, a pipe would never end.
            if not (_holds_only_files(source) and digest.is_file()):
                raise _DamagedError
            shutil.copytree(source, partial, dirs_exist_ok=True)
            if digest_folder(partial).encode() != digest.read_bytes():
                raise _DamagedError
        if not target.is_dir():
            remove(source)
            return False
        # The time of last use decides what pruning keeps.
        os.utime(source)
        return True

    def store(self, key: str, finished: Path) -> None:
        """Keep a finished stage and drop its checkpoints."""
        with new_folder(self.stage(key), replace=True) as partial:
            shutil.copytree(finished, partial, dirs_exist_ok=True)
            write_text(self._digest_file(key), digest_folder(partial))
        shutil.rmtree(self.checkpoints(key), ignore_errors=True)

    def _digest_file(self, key: str) -> Path:
        return self.folder / "digests" / key

    def prune(self, older_than_days: float) -> tuple[int, int]:
        """Remove what was not used for so many days, but nothing that is locked: (entries, bytes).

        Stages, checkpoints of unfinished ones, and what killed writers left; also the lock files of what is gone.
        """
        limit = time.time() - older_than_days * 86400
        sizes = []
        for parent in (self.folder, self.folder / "unfinished"):
            for entry in sorted(parent.iterdir()) if parent.is_dir() else []:
                key = _KEY.match(entry.name)
                if key is not None:
                    sizes += self._remove(entry, key["key"] or key["left"], limit)
        for lock_file in sorted((self.folder / "locks").glob("*.lock")):
            self._remove_lock(lock_file, limit)
        return len(sizes), sum(sizes)

    def _remove_lock(self, lock_file: Path, limit: float) -> None:
        """Remove the lock file of a key of which nothing is left, unless it is held or was held after ``limit``.

        Who waits for it at this moment may then compute the stage beside another, which changes no result.
        """
        key = lock_file.stem
        if any(path.exists() for path in (self.stage(key), self.checkpoints(key))) or not lock_file.is_file():
            return
        if lock_file.stat().st_mtime > limit:
            return
        with suppress(Timeout), FileLock(lock_file).acquire(timeout=0):
            lock_file.unlink(missing_ok=True)

    def _remove(self, entry: Path, key: str, limit: float) -> list[int]:
        """Remove an entry that was last changed by ``limit``, unless its key is locked; its bytes where it is gone."""
        lock_file = self.lock_file(key)
        lock_file.parent.mkdir(parents=True, exist_ok=True)
        if lock_file.is_dir() or entry.is_symlink():
            return []
        # Its age is asked under the lock: without it, whoever works on it may remove it meanwhile.
        with suppress(Timeout), FileLock(lock_file).acquire(timeout=0):
            if not entry.is_dir() or (changed := newest(entry)) > limit:
                if entry.is_dir() and changed > time.time():
                    _made_now(entry)  # the clock ran ahead; without this it would never grow old
                return []
            size = folder_size(entry)
            shutil.rmtree(entry)
            if entry == self.stage(key):
                self._digest_file(key).unlink(missing_ok=True)
            return [size]
        return []


def remove(path: Path) -> None:
    """Remove a folder with what it holds, a file, or a link and not what it leads to; nothing where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


class _DamagedError(Exception):
    """A kept stage is not as it was stored."""


def _holds_only_files(folder: Path) -> bool:
    modes = [item.lstat().st_mode for item in (folder, *folder.rglob("*"))]
    return all(stat.S_ISREG(mode) or stat.S_ISDIR(mode) for mode in modes)


def _made_now(entry: Path) -> None:
    """Give a folder and all in it the time that it is now."""
    for item in (entry, *entry.rglob("*")):
        with suppress(OSError):
            os.utime(item)


def newest(folder: Path) -> float:
    """Time of the last change of a folder or a file in it, in seconds since 1970."""
    return max(item.stat().st_mtime for item in (folder, *folder.rglob("*")))


def folder_size(folder: Path) -> int:
    """The bytes of all files in a folder."""
    return sum(item.stat().st_size for item in folder.rglob("*") if item.is_file())


PARTIAL = ".partial"
LATEST = "latest"
"""The link beside the runs of a name that leads to the newest complete one."""


@contextmanager
def new_run(parent: Path, name: str) -> Iterator[Path]:
    """A new run folder ``<parent>/<name>.partial``, locked while it is worked on.

    Two runs that begin in the same second get different folders.
    """
    make_folder(parent)
    for count in itertools.count(1):
        chosen = name if count == 1 else f"{name}-{count}"
        folder = parent / f"{chosen}{PARTIAL}"
        with suppress(Timeout), FileLock(_lock_file(folder)).acquire(timeout=0):
            try:
                if folder.exists() or (parent / chosen).exists():
                    continue
                folder.mkdir()
                yield folder
            finally:
                _lock_file(folder).unlink(missing_ok=True)
            return


def final_name(folder: Path) -> Path:
    """Name of a run's folder when it is complete."""
    return folder.with_name(folder.name.removesuffix(PARTIAL))


def _lock_file(folder: Path) -> Path:
    return folder.with_name(f".{final_name(folder).name}.lock")


class _Status(BaseModel):
    """Content of ``status.json``, as a run wrote it."""

    state: Literal["running", "complete", "interrupted", "failed"] = "interrupted"
    started: Time | None = None
    seconds: Time | None = None


CLOCKS_APART = 300.0
"""Seconds by which the clocks of machines that share a folder may differ."""


@dataclass(frozen=True)
class RunEntry:
    """A run folder. ``state`` is complete, running, interrupted or failed."""

    name: str
    folder: Path
    state: str
    started: float
    seconds: float | None
    stages: tuple[str, ...]

    @property
    def in_future(self) -> bool:
        """True if it began later than now, by more than two clocks may differ."""
        return self.started > time.time() + CLOCKS_APART

    def as_json(self) -> dict[str, Any]:
        """The entry of ``scorefold runs list --json``."""
        return {
            "name": self.name,
            "folder": str(self.folder),
            "state": self.state,
            "started": self.started,
            "seconds": self.seconds,
            "stages": list(self.stages),
            "report": str(self.folder / "report.html") if (self.folder / "report.html").exists() else None,
        }


def entry_of(folder: Path) -> RunEntry:
    """A run's folder as an entry. Raises ``FileNotFoundError`` where it went away meanwhile."""
    try:
        facts = read_checked(folder / "status.json", _Status)
    except ArtefactError:
        facts = _Status()
    state = facts.state
    if folder.name.endswith(PARTIAL) and state != "failed":
        # What a killed run left; one that goes on is locked until it has its final name.
        state = "running" if is_locked(_lock_file(folder)) else "interrupted"
    stages = tuple(sorted(item.parent.name for item in folder.glob("*/stage.json")))
    started = facts.started or folder.stat().st_mtime
    return RunEntry(folder.parent.name, folder, state, started, facts.seconds, stages)


def list_runs(area: Path) -> list[RunEntry]:
    """The runs in a folder of runs, the newest first."""
    entries = []
    for status in area.glob("*/*/status.json"):
        if not status.parent.is_symlink():
            with suppress(FileNotFoundError):  # it was renamed or removed while it was read
                entries.append(entry_of(status.parent))
    return sorted(entries, key=lambda entry: (entry.started, entry.folder.name), reverse=True)


def link_latest(folder: Path) -> None:
    """Let ``latest`` beside a complete run's folder lead to it, where the system has links."""
    link, new = folder.parent / LATEST, folder.parent / f".{LATEST}.{folder.name}"
    with suppress(OSError, NotImplementedError):
        new.symlink_to(folder.name, target_is_directory=True)
        try:
            new.replace(link)
        finally:
            new.unlink(missing_ok=True)  # where a folder of this name stands in its way


def superseded(area: Path, keep: int, name: str | None = None) -> list[RunEntry]:
    """The runs that ``runs clean`` removes: of each name those that did not end well and are older than the newest
    complete run, and the complete ones beyond the newest ``keep``. Where none is complete, the newest ``keep`` stay.
    One that is going on always does, and one that began in the future, as the clock ran ahead then: nobody knows
    whether it is old or new."""
    runs = [entry for entry in list_runs(area) if name in (None, entry.name) and entry.state != "running"]
    runs = [entry for entry in runs if not entry.in_future]
    found = []
    for each in dict.fromkeys(entry.name for entry in runs):
        own = [entry for entry in runs if entry.name == each]
        complete = [entry for entry in own if entry.state == "complete"]
        newest = complete[0].started if complete and keep else float("inf")
        broken = [entry for entry in own if entry.state != "complete" and entry.started < newest]
        found += broken[0 if complete else keep :] + complete[keep:]
    return found


def remove_runs(runs: Iterable[RunEntry]) -> tuple[list[Path], int]:
    """Remove runs, but never one that is going on: (folders, bytes).

    Raises ``ArtefactError`` where a folder can't be removed.
    """
    removed: list[Path] = []
    freed = 0
    for entry in runs:
        with suppress(Timeout), FileLock(_lock_file(entry.folder)).acquire(timeout=0):
            size = folder_size(entry.folder)
            try:
                shutil.rmtree(entry.folder)
            except OSError as error:
                raise ArtefactError(f"{entry.folder} can't be removed: {error.strerror or error}") from error
            finally:
                _lock_file(entry.folder).unlink(missing_ok=True)
            freed += size
            removed.append(entry.folder)
            if (link := entry.folder.parent / LATEST).is_symlink() and not link.exists():
                link.unlink()
    return removed, freed
