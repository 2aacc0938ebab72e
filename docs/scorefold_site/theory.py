"""Links from the formulas of the theory pages to the functions that are them.

A page names a function in full, as code: ``scorefold_pullback.geometry.pullback.Pullback.exp``. On the site that is a
link to its entry, on a page of all of them, and from there to its source.
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

from scorefold_site.api import MODULES
from scorefold_site.markdown import fence, page

_ELSEWHERE = {module for _, modules in MODULES.values() for module in modules}
"""Modules that have their entries on pages of the reference."""

_NAME = re.compile(r"`((?:scorefold|scorefold_\w+)(?:\.\w+)+)`")


def named(root: Path) -> dict[str, Any]:
    """What the theory pages name, by its full name. Raises ``LookupError`` for what does not exist."""
    texts = [path.read_text(encoding="utf-8") for path in sorted((root / "docs/theory").glob("*.md"))]
    return {name: _found(name) for text in texts for name in _NAME.findall(text)}


def linked(text: str) -> str:
    """A page whose functions are links."""
    return _NAME.sub(r"{py:obj}`\1 <\1>`", text)


def function_page(root: Path) -> dict[str, str]:
    """The page of all functions and classes that the theory pages name, a module after another."""
    modules: dict[str, list[str]] = {}
    for name, item in named(root).items():
        modules.setdefault(item.__module__, []).append(name)
    entries = [
        part
        for module, names in sorted(modules.items())
        for part in (f"## `{module}`", *(_entry(name, module) for name in sorted(names)))
    ]
    return {"theory/functions.md": page("# The functions of the formulas", *entries)}


def _entry(name: str, module: str) -> str:
    item = name.removeprefix(f"{module}.")
    kind = "method" if "." in item else "class" if isinstance(_found(name), type) else "function"
    options = "\n   :no-index:" if module in _ELSEWHERE else ""
    return fence(f".. auto{kind}:: {name}{options}", "{eval-rst}")


def _found(name: str) -> Any:
    """The object of a full name, in the deepest module of it."""
    parts = name.split(".")
    for depth in range(len(parts) - 1, 0, -1):
        try:
            item: Any = import_module(".".join(parts[:depth]))
        except ModuleNotFoundError:
            continue
        for part in parts[depth:]:
            if not hasattr(item, part):
                break
            item = getattr(item, part)
        else:
            return item
    raise LookupError(f"the theory pages name {name}, which does not exist")
