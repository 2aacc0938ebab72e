"""Guards around the code of plugins: what it changes in this process is put back, and what it imports is seen."""

from __future__ import annotations

import builtins
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn

from scorefold_registry.plugins.surroundings import Surroundings


@contextmanager
def isolated(warn: Callable[[str], None]) -> Iterator[None]:
    """Runs a plugin's code, and warns of what it changed, which is changed back.

    A ``KeyboardInterrupt`` that the code raises itself comes out as a ``RuntimeError``, so that it stays that plugin's
    fault; only Ctrl-C ends the command. So does a call of ``os._exit``, which would end it without a word. Who handles
    Ctrl-C is put back too, and the ``Surroundings``.
    """
    try:
        with guarded() as changed, _only_true_interrupts():
            yield
    finally:
        for what in changed:
            warn(f"it changes {what} while it is imported, which was changed back")


@contextmanager
def guarded() -> Iterator[list[str]]:
    """Runs a plugin's code: what it changes of the ``Surroundings`` is put back and listed, ``os._exit`` is refused."""
    with unchanged() as changed, _no_exit():
        yield changed


@contextmanager
def _only_true_interrupts() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    pressed = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True
        assert callable(before)
        before(number, frame)

    # Only the main thread gets the signal, and only it may say who handles it.
    watched = callable(before) and threading.current_thread() is threading.main_thread()
    if watched:
        signal.signal(signal.SIGINT, handle)
    try:
        yield
    except KeyboardInterrupt as error:
        if pressed:
            raise
        raise RuntimeError("it raised KeyboardInterrupt, as if by Ctrl-C").with_traceback(error.__traceback__) from None
    finally:
        if watched:
            signal.signal(signal.SIGINT, before)


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Code that takes longer is ended by a ``TimeoutError``, in the main thread and where the system has the timer.

    Code that computes little in that time, such as an import from a slow disk, has five times as long.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    began, used, done = time.monotonic(), time.process_time(), False

    def end(number: int, frame: FrameType | None) -> None:
        waits = time.process_time() - used < seconds / 2 and time.monotonic() - began < 5 * seconds
        if not (done or waits):
            raise TimeoutError(f"it did not end within {time.monotonic() - began:.3g} seconds")

    handler = signal.signal(signal.SIGALRM, end)
    # Again each second, since the code may go on after the error.
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        done = True
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, handler)
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - began), 0.001), interval)


@contextmanager
def _no_exit() -> Iterator[None]:
    """``os._exit`` raises a ``RuntimeError``; in a process that was forked meanwhile it ends that process, and who kept
    it can use it afterwards."""
    end, process, guarded = os._exit, os.getpid(), True

    def refuse(status: int) -> NoReturn:
        if not guarded or os.getpid() != process:
            end(status)
        raise RuntimeError(f"it called os._exit({status}), which would have ended the command")

    os._exit = refuse  # type: ignore[assignment]
    try:
        yield
    finally:
        guarded = False
        os._exit = end


@contextmanager
def unchanged() -> Iterator[list[str]]:
    """Runs code, puts its surroundings back, and fills the list with what it had changed."""
    before = Surroundings.now()
    changed: list[str] = []
    try:
        yield changed
    finally:
        changed += before.put_back()


HEAVY = frozenset(
    {
        "accelerate",
        "cv2",
        "diffusers",
        "jax",
        "matplotlib",
        "numpy",
        "pandas",
        "PIL",
        "pyarrow",
        "pydantic",
        "scipy",
        "skdim",
        "sklearn",
        "tensorflow",
        "torch",
        "torchdiffeq",
        "torchvision",
        "transformers",
        # Core's own modules that import one of these.
        "scorefold.config",
        "scorefold.data",
        "scorefold.interfaces",
        "scorefold_toolkit.distributions",
        "scorefold.results",
        "scorefold_toolkit.training",
    }
)


@dataclass(frozen=True)
class HeavyImport:
    """A heavy module that a plugin's own code imported while registering, and the line that did."""

    module: str
    file: str
    line: int

    @property
    def what(self) -> str:
        return f"it imports {self.module} while registering, which slows every command"

    @property
    def at(self) -> str:
        return f"{self.file}:{self.line}"

    @property
    def fix(self) -> str:
        return f"let plugin.py hold strings only, and import {self.module} where it is used"

    def __str__(self) -> str:
        return f"{self.what}, at {self.at}; {self.fix}"


@contextmanager
def watch_imports(package: str) -> Iterator[list[HeavyImport]]:
    """Yields a list that fills with the heavy imports of a package's code, one for each line.

    Import statements are watched by wrapping ``__import__``, not by a finder, because a finder is not asked for what
    another plugin has imported already.
    """
    found: dict[tuple[str, int], HeavyImport] = {}
    reports: list[HeavyImport] = []
    thread, original = threading.get_ident(), builtins.__import__

    def watching(
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> Any:
        if level == 0 and threading.get_ident() == thread:
            heavy = _heavy(name, fromlist or ())
            frame = _frame_in(package, sys._getframe(1)) if heavy else None
            if heavy and frame is not None:
                place = (frame.f_code.co_filename, frame.f_lineno)
                if place not in found:
                    found[place] = HeavyImport(heavy, *place)
                    reports.append(found[place])
        return original(name, globals, locals, fromlist or (), level)

    builtins.__import__ = watching
    try:
        yield reports
    finally:
        builtins.__import__ = original


def _heavy(name: str, fromlist: Sequence[str]) -> str | None:
    parts = name.split(".")
    names = [".".join(parts[: end + 1]) for end in range(len(parts))] + [f"{name}.{item}" for item in fromlist]
    return next((item for item in names if item in HEAVY), None)


def _frame_in(package: str, frame: FrameType | None) -> FrameType | None:
    """The innermost frame at or above ``frame`` whose module belongs to the package."""
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] == package:
            return frame
        frame = frame.f_back
    return None
