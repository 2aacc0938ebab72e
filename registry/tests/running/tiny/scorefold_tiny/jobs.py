"""Jobs that go wrong in every way a job can, for executors."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from scorefold.errors import DataError


class StubbornError(Exception):
    """An error that can't be pickled."""

    def __init__(self, message: str, lock: Any) -> None:
        super().__init__(message, lock)
        self.lock = lock


def fail(item: str) -> str:
    """Fails in the way that the item names."""
    if item == "data":
        raise DataError("too few points", hint="give more", file="points.csv", line=3, column=1)
    if item == "stubborn":
        raise StubbornError("it stays here", (number for number in range(3)))
    if item == "answer":
        return (number for number in range(3))  # type: ignore[return-value]
    return item


def die(item: tuple[str, str, int]) -> int:
    """Ends its process, "always", or "once" as a file records; otherwise squares."""
    how, folder, number = item
    mark = Path(folder) / f"died-{number}"
    if how == "always" or (how == "once" and not mark.exists()):
        mark.touch()
        os._exit(9)
    return number * number


def wait(item: tuple[str, int]) -> int:
    """Says that it is there and sleeps for a minute."""
    folder, number = item
    (Path(folder) / f"here-{os.getpid()}").touch()
    time.sleep(60)
    return number
