"""Heavy modules that plugins import while they register, found by registering them in another process.

That process watches its own imports by an audit hook, which sees the first import of a module only. So a plugin that
imported something heavy is left out of the next process, until no other does. Where a process fails, each plugin has
one of its own, so that the plugin that fails is named.
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

from scorefold.errors import printable
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
    """A heavy module that a plugin's own code imported while registering, and the line that did.

    With ``failure``, the imports of the plugin's ``module`` could not be measured.
    """

    package: str
    module: str
    at: str | None = None
    failure: str = ""

    @property
    def what(self) -> str:
        if self.failure:
            return f"its imports could not be measured: {self.failure}"
        return f"it imports {self.module} while registering, which slows every command"

    @property
    def fix(self) -> str:
        if self.failure:
            return f"python -X importtime -c 'import {self.module}' shows them"
        return f"let plugin.py hold strings only, and import {self.module} where it is used"


def heavy_imports(records: Sequence[PluginRecord]) -> list[HeavyImport]:
    """The heavy imports of registered plugins, the first of each line of code. Runs no other plugin's code."""
    found: list[HeavyImport] = []
    left = [each for each in records if each.environment is None and each.module is not None and each.state != "broken"]
    while left:
        new = _watched(left)
        packages = {each.package for each in new}
        found += new
        left = [each for each in left if each.package not in packages] if packages else []
    return found


def _watched(records: Sequence[PluginRecord]) -> list[HeavyImport]:
    """The first heavy imports of these plugins in a process of their own, or the plugins that make it fail."""
    command = [sys.executable, "-m", __name__, *(each.key for each in records)]
    surroundings = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        done = subprocess.run(
            command, env=surroundings, capture_output=True, text=True, errors="replace", timeout=2 * LONGEST
        )
        imports = [HeavyImport(*each) for each in json.loads(done.stdout.splitlines()[-1])]
    except subprocess.TimeoutExpired:
        failure = f"it did not end within {2 * LONGEST} seconds"
    except OSError as error:
        failure = str(error)
    except (ValueError, IndexError, TypeError):
        said = done.stderr.strip().rpartition("\n")[2]
        failure = printable(said[:200]) or f"the process that imports it ended with status {done.returncode}"
    else:
        packages = {each.package for each in records}
        return [each for each in imports if each.package in packages]
    if len(records) > 1:
        return [found for each in records for found in _watched([each])]
    return [HeavyImport(records[0].package, records[0].value.partition(":")[0], failure=failure)]


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
