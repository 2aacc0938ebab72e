"""What a person sees while a comparison goes on: a bar on a terminal, a line a row elsewhere, or nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from scorefold_registry.experiments.compare import Watch
from scorefold_registry.experiments.comparison_rows import Row
from scorefold_registry.experiments.comparison_table import row_text
from scorefold_registry.run.progress import Lines, Silent


class RowLines(Watch):
    """A line for each row as it ends, and one now and then while a stage of it takes long."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._place = ""

    def began(self, component: str, case: str, number: int, count: int) -> Silent | None:
        self._place = f"[{number}/{count}]"
        return _Patient(self._stream)

    def ended(self, row: Row) -> None:
        print(f"{self._place} {row_text(row)}", file=self._stream, flush=True)


class _Patient(Lines):
    """Lines of a stage that takes long; none when it begins or ends."""

    def stage_started(self, name: str, component: str, number: int, count: int) -> None:
        self._last = time.monotonic()

    def stage_ended(self, name: str, seconds: float, reused: bool, metrics: Mapping[str, object]) -> None:
        """The row says how it ended."""


class RowBar(Watch):
    """A bar over all rows with what goes on in the present one, and a line for each that has ended."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream, highlight=False)
        self._bar = Progress(
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.description}", markup=False),
            console=self._console,
            transient=True,
        )
        self._task: TaskID | None = None

    def began(self, component: str, case: str, number: int, count: int) -> Silent | None:
        if self._task is None:
            self._task = self._bar.add_task("", total=count)
            self._bar.start()
        self._bar.update(self._task, completed=number - 1, description=f"{component} on {case}")
        return _Described(self._bar, self._task, f"{component} on {case}")

    def ended(self, row: Row) -> None:
        self._console.print(row_text(row), markup=False, soft_wrap=True)

    def close(self) -> None:
        self._bar.stop()


class _Described(Silent):
    """Tells in a bar's description how far a stage is."""

    def __init__(self, bar: Progress, task: TaskID, row: str) -> None:
        self._bar = bar
        self._task = task
        self._row = row

    def stage_started(self, name: str, component: str, number: int, count: int) -> None:
        self._bar.update(self._task, description=f"{self._row}: {name}")

    def advanced(self, name: str, done: int, total: int, text: str) -> None:
        self._bar.update(self._task, description=f"{self._row}: {name} {done}/{total}")


def watch_for(stream: TextIO, quiet: bool = False) -> Watch:
    """A bar where the stream is a terminal, lines elsewhere, nothing where quiet."""
    if quiet:
        return Watch()
    return RowBar(stream) if stream.isatty() else RowLines(stream)
