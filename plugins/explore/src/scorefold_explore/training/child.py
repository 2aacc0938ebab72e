"""The process that trains: it runs a run file and prints how far it is, a JSON object a line.

It ends, as at Ctrl-C, when its standard input is closed: by the page's Stop, and by the end of the server.
"""

from __future__ import annotations

import _thread
import json
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scorefold.errors import ScorefoldError
from scorefold_registry import Host, run_file

EVERY = 0.25
"""Seconds between two lines about the progress of one stage."""


class Printed:
    """Prints the progress of a run; it has the methods that the registry calls."""

    def __init__(self) -> None:
        self._stage: dict[str, Any] = {}
        self._last = 0.0

    def stage_started(self, name: str, component: str, number: int, count: int) -> None:
        self._stage = {"stage": name, "number": number, "count": count}
        self._say(done=0, total=0, text="")

    def waiting(self, name: str) -> None:
        self._say(done=0, total=0, text="another run is making this stage")

    def advanced(self, name: str, done: int, total: int, text: str) -> None:
        if time.monotonic() - self._last > EVERY:
            self._say(done=done, total=total, text=text)

    def warned(self, name: str, text: str) -> None:
        """A warning is in the stage's result too, which the page shows."""

    def measured(self, name: str, step: int, metrics: Mapping[str, float]) -> None:
        """Metrics stand in the report of the run."""

    def stage_ended(self, name: str, seconds: float, reused: bool, metrics: Mapping[str, Any]) -> None:
        self._say(done=1, total=1, text="")

    def close(self) -> None:
        """The run has ended."""

    def _say(self, **facts: Any) -> None:
        self._last = time.monotonic()
        say({**self._stage, **facts})


def say(facts: Mapping[str, Any]) -> None:
    """Print one object on one line."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def run_in_child(file: str, runs: str) -> int:
    """Run a file; the last line that is printed has the run's ``folder``, or the ``error`` that ended it."""
    threading.Thread(target=_end_with_input, daemon=True).start()
    try:
        shown: Any = Printed()
        result = run_file(Host.discover(), Path(file), runs=Path(runs), progress=shown)
    except ScorefoldError as error:
        say({"error": {"message": error.message, "hint": error.hint}})
        return 1
    except KeyboardInterrupt:
        return 1
    say({"folder": str(result.folder)})
    return 0


def _end_with_input() -> None:
    sys.stdin.read()
    _thread.interrupt_main()


if __name__ == "__main__":
    sys.exit(run_in_child(*sys.argv[1:]))
