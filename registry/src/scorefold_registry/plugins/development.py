"""Plugins under development: a file or a module, named in a variable or in ``scorefold.toml``, without installation."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import invalidate_caches
from importlib.util import find_spec
from pathlib import Path

from scorefold_registry.plugins.records import LOCAL, PluginRecord
from scorefold_registry.plugins.settings import Settings

VARIABLE = "SCOREFOLD_DEV_PLUGINS"


@dataclass(frozen=True)
class _Entry:
    """One plugin as somebody named it: relative to ``folder``, by ``source``, at the place ``at`` of a file."""

    text: str
    folder: Path
    source: str
    at: str | None = None


def development_plugins(settings: Settings) -> list[PluginRecord]:
    """The plugins that ``SCOREFOLD_DEV_PLUGINS`` names, then those of the settings file, each once, in their order.

    The folder that such a plugin's modules are imported from goes to the end of ``sys.path``, which processes that
    multiprocessing starts inherit. Nothing is imported here; one that is not there is recorded as broken.
    """
    records: dict[tuple[str, str | None], PluginRecord] = {}
    for entry in (*_of_variable(), *_of_settings(settings)):
        record = _record(entry)
        # Two files of one name are two plugins, of which the second is broken, with the reason.
        records.setdefault((record.value, record.cause), record)
    return list(records.values())


def plugin_name(module: str) -> str:
    """What a plugin without an entry point is called: its module, or its package where that says only ``plugin``.

    >>> plugin_name("my_plugin"), plugin_name("my_package.plugin")
    ('my-plugin', 'my-package')
    """
    package, _, last = module.rpartition(".")
    return (package.rpartition(".")[2] if package and last == "plugin" else last).replace("_", "-")


def _of_variable() -> Iterator[_Entry]:
    for text in os.environ.get(VARIABLE, "").split(","):
        if text.strip():
            yield _Entry(text.strip(), Path.cwd(), VARIABLE)


def _of_settings(settings: Settings) -> Iterator[_Entry]:
    if settings.file is None or not settings.develop:
        return
    lines = settings.file.read_text(encoding="utf-8").splitlines()
    for text in settings.develop:
        named = (number for number, line in enumerate(lines, start=1) if f'"{text}"' in line or f"'{text}'" in line)
        line = next(named, 1)
        yield _Entry(text, settings.file.parent, str(settings.file), f"{settings.file}:{line}")


def _record(entry: _Entry) -> PluginRecord:
    if entry.text.endswith(".py") or "/" in entry.text or os.sep in entry.text:
        path = Path(os.path.abspath(entry.folder / Path(entry.text).expanduser()))
        root, module = _module_of(path)
        missing = None if path.is_file() else f"there is no file {path}"
    else:
        path, root, module = None, entry.folder, entry.text
        missing = None
    record = PluginRecord(plugin_name(module), LOCAL, "0", module)
    if missing is None and not all(part.isidentifier() for part in module.split(".")):
        missing = f"{module!r} can't be the name of a module"
    if missing is not None:
        fix = f"name a Python file that is there, or a module as package.module, in {entry.source}"
        record.fail("broken", missing, entry.at, fix)
        return record
    if str(root) not in sys.path:
        # Last, so that nothing in the folder hides what is installed.
        sys.path.append(str(root))
    if path is not None and (other := _hidden_by(root, record.package)) is not None:
        record.fail("broken", f"{path} can't be imported: {record.package} is {other} already", entry.at, "rename it")
    return record


def _module_of(path: Path) -> tuple[Path, str]:
    """The folder that a file is imported from and its module's name: the packages around it belong to that."""
    folder, parts = path.parent, [path.stem]
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    return folder, ".".join(parts)


def _hidden_by(root: Path, package: str) -> str | None:
    """Where Python finds a package instead of in its folder; None where it finds the one that is meant."""
    if package in sys.builtin_module_names:
        return "a module of Python itself"
    if package in sys.modules:
        spec = sys.modules[package].__spec__
    elif (spec := find_spec(package)) is None:
        # Python remembers the files of a folder for a while, and the file may be new.
        invalidate_caches()
        spec = find_spec(package)
    origin = None if spec is None else spec.origin
    if origin in (str(root / f"{package}.py"), str(root / package / "__init__.py")):
        return None
    return origin or "another module"
