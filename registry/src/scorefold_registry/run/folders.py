"""Run folders: made under a temporary name, renamed when complete, listed and cleaned."""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from pydantic import BaseModel

from scorefold.errors import ArtefactError
from scorefold_registry.components.stage_files import Time, read_checked
from scorefold_registry.plugins.locks import is_locked, make_folder
from scorefold_registry.run.cache import folder_size

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
    """What a run's folder is called once it is complete."""
    return folder.with_name(folder.name.removesuffix(PARTIAL))


def _lock_file(folder: Path) -> Path:
    return folder.with_name(f".{final_name(folder).name}.lock")


class _Status(BaseModel):
    """What ``status.json`` says, where it is as a run wrote it."""

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
        """Whether it began later than now, by more than two clocks may differ."""
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
