"""Markdown made from what the registry knows."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from html import escape as escape_html
from importlib import import_module
from importlib.util import find_spec


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


def folded(title: str, text: str) -> str:
    """A part that opens when its title is clicked."""
    return f"<details><summary>{escape_html(title)}</summary>\n\n{text}\n\n</details>"


def python(target: str, *, index: bool = True) -> str:
    """What the docstrings of a module, class or function say; ``index`` on the one page that links lead to."""
    module, _, name = target.rpartition(".")
    kind = "module"
    if not _is_module(target):
        kind = "class" if inspect.isclass(getattr(import_module(module), name)) else "function"
    options = "" if index else "\n   :no-index:"
    return fence(f".. auto{kind}:: {target}{options}", "{eval-rst}")


def _is_module(target: str) -> bool:
    try:
        return find_spec(target) is not None
    except ModuleNotFoundError:
        return False
