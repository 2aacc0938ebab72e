"""Folders made, and lock files held: one process at a time makes a stage, a run's folder or an environment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from scorefold.errors import ArtefactError


def make_folder(path: Path) -> None:
    """A folder, with those above it. Raises ``ArtefactError`` where it can't be made."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        hint = "check that it may be written, or choose another folder with --runs, --out or --cache"
        raise ArtefactError(f"the folder {path} can't be made: {error.strerror or error}", hint=hint) from error


@contextmanager
def locked(path: Path, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold a lock file. ``waiting`` is called once where another process holds it. The lock ends with the process.

    Raises ``ArtefactError`` where there can be no such file, such as where a folder stands.
    """
    make_folder(path.parent)
    if path.is_dir():
        raise ArtefactError(f"the lock {path} can't be held: it is a folder", hint="remove it")
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if waiting is not None:
            waiting()
        lock.acquire(poll_interval=0.1)
    try:
        yield
    finally:
        lock.release()


def is_locked(path: Path) -> bool:
    """True if a process holds this lock file."""
    if not path.is_file():
        return False
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False
