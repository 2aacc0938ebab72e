"""Output of commands: only the answer under ``--json``, colours if they are wanted, wrapped lines."""

from __future__ import annotations

import io
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from contextvars import ContextVar
from typing import TextIO

from scorefold.errors import printable

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


def two_columns(rows: Iterable[tuple[str, str]], indent: int = 2) -> list[str]:
    """Names with what they mean beside them, in two columns."""
    every = list(rows)
    width = max((len(name) for name, _ in every), default=0)
    return [wrapped(f"{'':{indent}}{name:<{width}}  {text}".rstrip(), indent + width + 2) for name, text in every]


_STANDARD_OUTPUT, _STANDARD_ERROR = 1, 2

_kept: ContextVar[TextIO | None] = ContextVar("kept", default=None)
"""Stream of the answers while standard output is kept for them; None for standard output itself."""


@contextmanager
def only_answers() -> Iterator[None]:
    """Keeps standard output for ``print_answer``: all else that is printed, by C libraries too, goes to the error."""
    with ExitStack() as stack:
        sys.stdout.flush()
        kept = sys.stdout
        if _is_the_process_output(kept):
            descriptor = os.dup(_STANDARD_OUTPUT)
            stack.callback(os.close, descriptor)
            os.dup2(_STANDARD_ERROR, _STANDARD_OUTPUT)
            stack.callback(os.dup2, descriptor, _STANDARD_OUTPUT)
            kept = stack.enter_context(open(os.dup(descriptor), "w", encoding="utf-8"))
        stack.callback(_kept.reset, _kept.set(kept))
        stack.enter_context(redirect_stdout(sys.stderr))
        yield


def print_answer(text: str) -> None:
    """Prints what was asked for to standard output, without what would steer a terminal: in JSON that is escaped.

    Raises ``BrokenPipeError`` where nobody reads it.
    """
    print(printable(text), file=_kept.get() or sys.stdout, flush=True)


def _is_the_process_output(stream: TextIO) -> bool:
    try:
        return stream.fileno() == _STANDARD_OUTPUT
    except (OSError, io.UnsupportedOperation):
        return False
