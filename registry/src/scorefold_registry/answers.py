"""Standard output under ``--json``: the answer and nothing else, whatever plugins and their processes print."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from typing import TextIO

from scorefold.errors import printable

_STANDARD_OUTPUT, _STANDARD_ERROR = 1, 2

_waiting: TextIO | None = None
"""Where answers go while standard output is kept for them; None where they go to standard output as it is."""


@contextmanager
def only_answers() -> Iterator[None]:
    """Keeps standard output for ``print_answer``: all else that is printed, by C libraries too, goes to the error."""
    global _waiting
    with ExitStack() as stack:
        sys.stdout.flush()
        _waiting = sys.stdout
        stack.callback(_forget)
        if _is_the_process_output(sys.stdout):
            kept = os.dup(_STANDARD_OUTPUT)
            stack.callback(os.close, kept)
            os.dup2(_STANDARD_ERROR, _STANDARD_OUTPUT)
            stack.callback(os.dup2, kept, _STANDARD_OUTPUT)
            _waiting = stack.enter_context(open(os.dup(kept), "w", encoding="utf-8", errors="backslashreplace"))
        stack.enter_context(redirect_stdout(sys.stderr))
        yield


def print_answer(text: str) -> None:
    """Prints what was asked for to standard output, without what would steer a terminal: in JSON that is escaped.

    Raises ``BrokenPipeError`` where nobody reads it.
    """
    print(printable(text), file=_waiting or sys.stdout, flush=True)


def _forget() -> None:
    global _waiting
    _waiting = None


def _is_the_process_output(stream: TextIO) -> bool:
    try:
        return stream.fileno() == _STANDARD_OUTPUT and os.fstat(_STANDARD_ERROR) is not None
    except (OSError, io.UnsupportedOperation):
        return False
