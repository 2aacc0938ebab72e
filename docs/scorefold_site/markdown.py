"""Markdown made from what the registry knows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape as escape_html


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are Markdown already; nothing where there are no rows."""
    lines = [f"| {' | '.join(cell(text) for text in row)} |" for row in rows]
    if not lines:
        return ""
    return "\n".join([f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *lines])


def cell(text: str) -> str:
    """Markdown on one line, with nothing in it that ends a cell."""
    return " ".join(text.split()).replace("|", r"\|")


def code(text: object) -> str:
    """Text as code, backticks in it included."""
    return f"`` {text} ``" if "`" in str(text) else f"`{text}`"


def fence(text: str, language: str = "") -> str:
    """Text as a block of code, whatever fences it holds."""
    marks = "`" * max(3, *(len(run) + 1 for run in re.findall(r"`{3,}", text)), 3)
    return f"{marks}{language}\n{text.rstrip()}\n{marks}"


def prose(text: str) -> str:
    """Plain text with code in double backticks, as docstrings are written, so that Markdown changes nothing else."""
    parts = re.split(r"(``.+?``|`[^`\n]+`)", text, flags=re.DOTALL)
    return "".join(part if number % 2 else _literal(part) for number, part in enumerate(parts))


def _literal(text: str) -> str:
    return re.sub(r"([\\*_\[\]#])", r"\\\1", escape_html(text, quote=False))


def page(*parts: str) -> str:
    """Parts with an empty line between them; those that are empty are left out."""
    return "\n\n".join(part for part in parts if part) + "\n"


def indented(text: str) -> str:
    """Text as the body of an admonition."""
    return "\n".join(f"    {line}" if line else "" for line in text.splitlines())
