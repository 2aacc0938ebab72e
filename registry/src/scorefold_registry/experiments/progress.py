"""Progress of many runs: a bar on a terminal, a line per run elsewhere, or nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from scorefold.errors import printable
from scorefold_registry.run.progress import Lines, Silent, duration


class Watch:
    """Shows nothing, and says what there is to show."""

    def began(self, count: int, said: str = "") -> None:
        """So many runs are about to begin; ``said`` is the line that says so."""

    def started(self, label: str) -> Silent | None:
        """A run begins in this process; gives what shows its stages."""
        return None

    def ended(self, text: str, *, failed: bool) -> None:
        """A run has ended, well or not; ``text`` is its line."""

    def close(self) -> None:
        """There are no more runs, whatever the reason."""


class LineWatch(Watch):
    """A line for each run as it ends, numbered or not, and one now and then while a stage of it takes long."""

    def __init__(self, stream: TextIO, numbered: bool = True) -> None:
        self._stream, self._numbered = stream, numbered
        self._count = self._done = 0

    def began(self, count: int, said: str = "") -> None:
        self._count = count
        if said:
            self._print(said)

    def started(self, label: str) -> Silent | None:
        return _LongStages(self._stream)

    def ended(self, text: str, *, failed: bool) -> None:
        self._done += 1
        self._print(f"[{self._done}/{self._count}] {text}" if self._numbered else text)

    def _print(self, text: str) -> None:
        print(printable(text), file=self._stream, flush=True)


class _LongStages(Lines):
    """Lines of a stage that takes long; none when it begins or ends."""

    def stage_started(self, name: str, component: str, number: int, count: int) -> None:
        self._last = time.monotonic()

    def stage_ended(self, name: str, seconds: float, reused: bool, metrics: Mapping[str, object]) -> None:
        """The line of the run says how it ended."""


class BarWatch(Watch):
    """A bar over all runs with what goes on in the present one, and a line above it for each that has ended."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream, highlight=False)
        columns = (BarColumn(bar_width=20), TextColumn("{task.fields[note]}  {task.description}", markup=False))
        self._bar = Progress(*columns, console=self._console, transient=True)
        self._task = TaskID(0)
        self._failed = 0

    def began(self, count: int, said: str = "") -> None:
        if said:
            self._print(said)
        self._task = self._bar.add_task("", total=count, note=f"0/{count}")
        self._bar.start()

    def started(self, label: str) -> Silent | None:
        self._bar.update(self._task, description=label)
        return _Described(self._bar, self._task, label)

    def ended(self, text: str, *, failed: bool) -> None:
        self._failed += failed
        self._print(text)
        self._bar.advance(self._task)
        task = self._bar.tasks[-1]
        left = task.time_remaining
        parts = [f"{task.completed:.0f}/{task.total:.0f}", f"{self._failed} failed" if self._failed else ""]
        parts.append("" if left is None or task.finished else f"{duration(left)} left")
        self._bar.update(self._task, description="", note=", ".join(filter(None, parts)))

    def close(self) -> None:
        self._bar.stop()

    def _print(self, text: str) -> None:
        self._console.print(printable(text), markup=False, soft_wrap=True)


class _Described(Silent):
    """Progress of a stage, in a bar's description."""

    def __init__(self, bar: Progress, task: TaskID, label: str) -> None:
        self._bar, self._task, self._label = bar, task, label

    def stage_started(self, name: str, component: str, number: int, count: int) -> None:
        self._bar.update(self._task, description=f"{self._label}: {name}")

    def advanced(self, name: str, done: int, total: int, text: str) -> None:
        self._bar.update(self._task, description=f"{self._label}: {name} {done}/{total}")


def watch_for(stream: TextIO, quiet: bool = False) -> Watch:
    """A bar where the stream is a terminal, lines elsewhere, nothing where quiet."""
    if quiet:
        return Watch()
    return BarWatch(stream) if stream.isatty() else LineWatch(stream)
