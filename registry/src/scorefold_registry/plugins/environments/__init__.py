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
    """Names for objects of another process. One whose holder has gone is in ``gone`` until that process knows it."""

    def __init__(self, letter: str) -> None:
        self._letter, self._numbers = letter, itertools.count()
        self.gone: set[str] = set()

    def next_name(self, holder: Any) -> str:
        """A name for the object that ``holder`` stands for."""
        name = f"{self._letter}{next(self._numbers)}"
        weakref.finalize(holder, self.gone.add, name).atexit = False
        return name
