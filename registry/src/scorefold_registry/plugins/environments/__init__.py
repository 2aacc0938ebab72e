"""Plugins in environments of their own: declared in ``scorefold.toml``, installed once, and called in a worker."""

from __future__ import annotations

import itertools
import weakref
from typing import Any

running: dict[int, float] = {}
"""The workers that run, by the number of their process, with the CPU seconds that each has used so far."""

ENDED = 0
"""The number under which ``running`` has the CPU seconds of ended workers that the system does not count."""


class Names:
    """Names for objects of another process. Each goes when its holder has gone."""

    def __init__(self, letter: str) -> None:
        self._letter, self._numbers = letter, itertools.count()
        self._gone: list[str] = []

    def next_name(self, holder: Any) -> str:
        """A name for the object that ``holder`` stands for."""
        name = f"{self._letter}{next(self._numbers)}"
        weakref.finalize(holder, self._gone.append, name).atexit = False
        return name

    def take_gone(self) -> list[str]:
        """The names whose holders have gone since this was last asked."""
        gone = self._gone[:]
        del self._gone[: len(gone)]
        return gone

    def put_back(self, gone: list[str]) -> None:
        """Puts names from ``take_gone`` back, for the next time."""
        self._gone[:0] = gone
