"""What a plugin's code may do to the process that imports it, and must not: end it, or move it elsewhere."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from scorefold_registry.plugins.surroundings import unchanged


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
