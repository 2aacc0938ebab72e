"""Docstrings for mkdocstrings: ours are plain prose with code in double backticks, and Markdown is neither."""

from __future__ import annotations

import re
from typing import Any

import griffe

from scorefold_site.markdown import fence, prose


class PlainDocstrings(griffe.Extension):  # type: ignore[misc, unused-ignore]
    """Rewrites every docstring as Markdown that reads the same."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called once for each object that griffe has read."""
        if obj.docstring is not None:
            obj.docstring.value = markdown_of(obj.docstring.value)


def markdown_of(text: str) -> str:
    """Prose with nothing in it that Markdown would take for itself, and doctests as blocks of code."""
    return "\n\n".join(_paragraph(part) for part in re.split(r"\n\s*\n", text))


def _paragraph(text: str) -> str:
    return fence(text, "pycon") if text.lstrip().startswith(">>>") else prose(text)
