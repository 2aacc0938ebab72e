"""Watches what a plugin imports while it registers: listing plugins must stay cheap for everyone."""

from __future__ import annotations

import builtins
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

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
