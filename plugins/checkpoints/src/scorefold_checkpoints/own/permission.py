"""Code that a run file or a saved state may run: code of installed plugins, and code that the user has allowed."""

from __future__ import annotations

import os
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

from scorefold.errors import ConfigError

VARIABLE = "SCOREFOLD_ALLOW_CODE"
"""An environment variable: modules and files whose code may be run, separated by commas."""


def check_module(module: str) -> None:
    """Raises ``ConfigError`` for a module that is neither of an installed plugin nor allowed, itself or a package that
    it is in."""
    parents = {module[:end] for end, letter in enumerate(f"{module}.") if letter == "."}
    if module.partition(".")[0] not in _plugin_packages() and not parents & set(_allowed()):
        raise _refusal(f"the module {module}", module)


def check_file(file: Path) -> None:
    """Raises ``ConfigError`` for a file that is neither of an installed plugin nor allowed."""
    place = file.resolve()
    folders = [Path(folder) for name in _plugin_packages() for folder in _folders(name)]
    if not any(place.is_relative_to(folder.resolve()) for folder in folders) and place not in {
        Path(each).expanduser().resolve() for each in _allowed()
    }:
        raise _refusal(str(file), str(file))


def _allowed() -> list[str]:
    return [each.strip() for each in os.environ.get(VARIABLE, "").split(",") if each.strip()]


def _plugin_packages() -> set[str]:
    return {point.module.partition(".")[0] for point in entry_points(group="scorefold.plugins")}


def _folders(package: str) -> list[str]:
    spec = find_spec(package)
    return list(spec.submodule_search_locations or ()) if spec is not None else []


def _refusal(what: str, name: str) -> ConfigError:
    return ConfigError(
        f"{what} holds code, which a run file or a saved state runs only with your permission",
        hint=f"where you trust it: export {VARIABLE}={name}",
    )
