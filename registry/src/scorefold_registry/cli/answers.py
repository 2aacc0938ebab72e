"""Standard output under ``--json``: the answer and nothing else, whatever plugins and their processes print."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from contextvars import ContextVar
from typing import TextIO

from scorefold.errors import printable

_STANDARD_OUTPUT, _STANDARD_ERROR = 1, 2

_kept: ContextVar[TextIO | None] = ContextVar("kept", default=None)
"""Where answers go while standard output is kept for them; None where they go to standard output as it is."""


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
