"""Heavy modules that plugins import while they register, found by registering them in another process.

That process watches its own imports by an audit hook, which sees the first import of a module only. So a plugin that
imported something heavy is left out of the next process, until no other does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

from scorefold_registry.plugins.discovery import LONGEST, discover
from scorefold_registry.plugins.records import PluginRecord

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

    package: str
    module: str
    at: str

    @property
    def what(self) -> str:
        return f"it imports {self.module} while registering, which slows every command"

    @property
    def fix(self) -> str:
        return f"let plugin.py hold strings only, and import {self.module} where it is used"


def heavy_imports(records: Sequence[PluginRecord]) -> list[HeavyImport]:
    """The heavy imports of registered plugins, the first of each line of code. Runs no other plugin's code."""
    found: list[HeavyImport] = []
    left = [each for each in records if each.environment is None and each.module is not None and each.state != "broken"]
    while left:
        new = _watched([each.key for each in left], {each.package for each in left})
        packages = {each.package for each in new}
        found += new
        left = [each for each in left if each.package not in packages] if packages else []
    return found


def _watched(keys: Sequence[str], packages: set[str]) -> list[HeavyImport]:
    """The first heavy imports of these plugins in a process of their own."""
    command = [sys.executable, "-m", __name__, *keys]
    surroundings = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        done = subprocess.run(command, env=surroundings, capture_output=True, timeout=2 * LONGEST, check=True)
        imports: list[list[str]] = json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return []  # it ends there and not here, which says nothing of its imports
    return [HeavyImport(*each) for each in imports if each[0] in packages]


def _report(keys: Sequence[str]) -> None:
    """Print the package, the module and the line of each heavy import as JSON, after what the plugins print."""
    found: dict[str, list[str]] = {}

    def seen(event: str, given: tuple[Any, ...]) -> None:
        if event != "import":
            return
        module = next((heavy for heavy in HEAVY if f"{given[0]}.".startswith(f"{heavy}.")), None)
        if module is not None:
            frame: FrameType | None = sys._getframe(1)
            while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] not in packages:
                frame = frame.f_back
            if frame is not None:
                at = f"{frame.f_code.co_filename}:{frame.f_lineno}"
                found.setdefault(at, [frame.f_globals["__name__"].partition(".")[0], module, at])

    packages = {record.package for record in discover(allow=keys, import_plugins=False).plugins if record.key in keys}
    sys.addaudithook(seen)
    discover(allow=keys)
    print(f"\n{json.dumps(list(found.values()))}")


if __name__ == "__main__":
    _report(sys.argv[1:])
