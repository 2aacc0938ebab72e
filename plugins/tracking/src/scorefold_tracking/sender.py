"""Calls to a server, one after another in a thread of their own: a slow server never slows the run."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Event, Thread

Call = Callable[[], object]


class Sender:
    """Makes calls in the order in which they are put. After one that fails the others are not made."""

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[Call | Event | None] = SimpleQueue()
        self._failure: Exception | None = None
        # A thread that waits for a server must not keep the process from ending.
        Thread(target=self._work, name=name, daemon=True).start()

    def put(self, call: Call) -> None:
        """Make a call when those before it are done. Raises the failure of an earlier one."""
        self._check()
        self._calls.put(call)

    def wait(self, seconds: float) -> None:
        """Wait until all calls are made. Raises ``TimeoutError``, or the failure of one of them."""
        done = Event()
        self._calls.put(done)
        in_time = done.wait(seconds)
        self._check()
        if not in_time:
            raise TimeoutError(f"no answer within {seconds:g} s")

    def close(self) -> None:
        """Make no call that has not begun, and end the thread."""
        if self._failure is None:
            self._failure = RuntimeError("closed")
        self._calls.put(None)

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _work(self) -> None:
        while (item := self._calls.get()) is not None:
            if isinstance(item, Event):
                item.set()
            elif self._failure is None:
                try:
                    item()
                except Exception as error:
                    self._failure = error
