"""Operators and synchronisations of the simulated device, by the line of ours that causes them."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

OURS = "scorefold"
"""Packages whose names begin so have the lines that are named."""
_OWN_FOLDER = str(Path(__file__).parent)
_WAITS = {
    "aten::_local_scalar_dense": "item",
    "copy to the CPU": "copy to the CPU",
    "aten::nonzero": "nonzero",  # of boolean masks too
    "aten::masked_select": "nonzero",
    "aten::_unique2": "unique",
    "aten::unique_dim": "unique",
    "aten::unique_consecutive": "unique",
    "aten::equal": "equal",
    "aten::bincount": "bincount",
    "aten::repeat_interleave": "repeat_interleave",
}
"""Operators for which a program waits until the device has done all before, by the words for them."""


@dataclass(eq=False)
class Counts:
    """Operators that ran on the device, copies to it, and synchronisations by line: ``("item", "module:12")``.

    >>> counts = Counts(operators=3)
    >>> counts.synchronisations["item", "scorefold_iddiff.normal_bundle.estimator:12"] += 2
    >>> counts.waits, counts.copies
    (2, 0)
    """

    operators: int = 0
    copies: int = 0
    synchronisations: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def waits(self) -> int:
        """The number of synchronisations."""
        return self.synchronisations.total()

    def lines(self) -> list[str]:
        """A line for each place that waits, the most frequent first."""
        return [f"{count} {what} at {line}" for (what, line), count in self.synchronisations.most_common()]


_watching: list[Counts] = []


@contextmanager
def counted() -> Iterator[Counts]:
    """Counts what the simulated device does in this process while the context is entered."""
    counts = Counts()
    _watching.append(counts)
    try:
        yield counts
    finally:
        _watching.remove(counts)


def count_operator(name: str) -> None:
    """An operator is about to run on the device."""
    if not _watching:
        return
    waits = _WAITS.get(name)
    line = _line_of_ours() if waits else ""
    for counts in _watching:
        counts.operators += 1
        counts.copies += name == "copy to the device"
        if waits:
            counts.synchronisations[waits, line] += 1


def _line_of_ours() -> str:
    """The innermost line of a package of ours that is running, as ``module:line``."""
    frame = sys._getframe()
    while frame is not None:
        code, module = frame.f_code, str(frame.f_globals.get("__name__", ""))
        if module.startswith(OURS) and not code.co_filename.startswith(_OWN_FOLDER):
            return f"{module}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return "elsewhere"
