"""What a plugin's code may do to the process that imports it, and must not: end it, or move it elsewhere."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from scorefold_registry.plugins.surroundings import unchanged


@contextmanager
def isolated(warn: Callable[[str], None]) -> Iterator[None]:
    """Runs a plugin's code, and warns of what it changed, which is changed back.

    A ``KeyboardInterrupt`` that the code raises itself comes out as a ``RuntimeError``, so that it stays that plugin's
    fault; only Ctrl-C ends the command. Who handles Ctrl-C is put back too, and the ``Surroundings``.
    """
    try:
        with unchanged() as changed, _only_true_interrupts():
            yield
    finally:
        for what in changed:
            warn(f"it changes {what} while it is imported, which was changed back")


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
