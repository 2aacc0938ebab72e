"""Docstrings for Sphinx: ours are plain prose with code in double backticks, and reStructuredText is a little more."""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, Any]:
    """Has autodoc read docstrings as they are meant."""
    app.connect("autodoc-process-docstring", _processed)
    return {"parallel_read_safe": True}


def _processed(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = rst_of("\n".join(lines)).splitlines()


def rst_of(text: str) -> str:
    """Prose with nothing in it that reStructuredText would take for itself, and doctests as blocks of code."""
    return "\n\n".join(_paragraph(part) for part in re.split(r"\n\s*\n", text.strip("\n"))) + "\n"


def _paragraph(text: str) -> str:
    if text.lstrip().startswith(">>>"):
        return text
    parts = re.split(r"(``.+?``|`[^`\n]+`)", " ".join(text.split()), flags=re.DOTALL)
    return "".join(f"``{part.strip('`')}``" if number % 2 else _literal(part) for number, part in enumerate(parts))


def _literal(text: str) -> str:
    return re.sub(r"([\\*_|`])", r"\\\1", text)
