"""Text for a terminal: colours where they are wanted, and long lines that wrap at words."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterable

STYLES = {"heading": "1", "answer": "1;36", "warning": "33", "error": "1;31"}


def styled(text: str, style: str, *, error: bool = False) -> str:
    """Text in one of ``STYLES``, where standard output (or standard error) shows colours.

    It does on a terminal, unless ``NO_COLOR`` is set or ``TERM`` is dumb; with ``FORCE_COLOR`` it always does.
    """
    stream = sys.stderr if error else sys.stdout
    wanted = stream.isatty() and os.environ.get("TERM") != "dumb"
    if os.environ.get("NO_COLOR") or not (wanted or os.environ.get("FORCE_COLOR")):
        return text
    return f"\x1b[{STYLES[style]}m{text}\x1b[0m"


def wrapped(line: str, indent: int) -> str:
    """A line whose rest goes on below, indented, where the terminal is too narrow; elsewhere the line as it is."""
    if not sys.stdout.isatty():
        return line
    width = max(40, shutil.get_terminal_size().columns)
    lead = len(line) - len(line.lstrip())
    return textwrap.fill(
        line.lstrip(),
        width,
        initial_indent=" " * lead,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def listed(rows: Iterable[tuple[str, str]], indent: int = 2) -> list[str]:
    """Names with what they mean beside them, in two columns."""
    every = list(rows)
    width = max((len(name) for name, _ in every), default=0)
    return [wrapped(f"{'':{indent}}{name:<{width}}  {text}".rstrip(), indent + width + 2) for name, text in every]
