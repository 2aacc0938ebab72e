"""What a person sees while a sweep goes on: a bar on a terminal, plain lines elsewhere, or nothing."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from scorefold.errors import printable
from scorefold_registry.experiments.sweep_result import Measure, metric_of
from scorefold_registry.run.progress import duration, number_text


class SilentSweep:
    """Shows nothing, and says what there is to show."""

    def begun(self, points: int, workers: str) -> None:
        """So many points are about to be run, and by whom."""

    def ended(self, point: str, row: Mapping[str, Any]) -> None:
        """A point has ended, well or not; its row as its job told it."""

    def close(self) -> None:
        """The sweep has ended, well or not."""


class SweepLines(SilentSweep):
    """A line for each point that has ended."""

    def __init__(self, measures: Sequence[Measure], stream: TextIO | None = None) -> None:
        self._measures = measures
        self._stream = stream or sys.stdout
        self._points = self._done = 0

    def begun(self, points: int, workers: str) -> None:
        self._points = points
        self._say(f"{points} point{'' if points == 1 else 's'}, {workers}")

    def ended(self, point: str, row: Mapping[str, Any]) -> None:
        self._done += 1
        self._say(f"[{self._done}/{self._points}] {point}: {outcome(self._measures, row)}")

    def _say(self, text: str) -> None:
        print(printable(text), file=self._stream, flush=True)


class SweepBar(SilentSweep):
    """A live bar for the whole, and a line above it for each point that has ended."""

    def __init__(self, measures: Sequence[Measure], stream: TextIO | None = None) -> None:
        self._measures = measures
        self._console = Console(file=stream or sys.stdout, highlight=False)
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), TextColumn("{task.fields[note]}"))
        self._bar = Progress(*columns, console=self._console, transient=True)
        self._failed = 0
        self._task: Any = None

    def begun(self, points: int, workers: str) -> None:
        self._console.print(f"{points} point{'' if points == 1 else 's'}, {workers}", markup=False)
        self._task = self._bar.add_task("sweep", total=points, note=f"0/{points}")
        self._bar.start()

    def ended(self, point: str, row: Mapping[str, Any]) -> None:
        self._failed += row["error"] is not None
        self._console.print(printable(f"{point}: {outcome(self._measures, row)}"), markup=False, soft_wrap=True)
        self._bar.advance(self._task)
        task = self._bar.tasks[-1]
        left = task.time_remaining
        parts = [f"{task.completed:.0f}/{task.total:.0f}", f"{self._failed} failed" if self._failed else ""]
        parts.append("" if left is None or task.finished else f"{duration(left)} left")
        self._bar.update(self._task, note=", ".join(part for part in parts if part))

    def close(self) -> None:
        self._bar.stop()


def outcome(measures: Sequence[Measure], row: Mapping[str, Any]) -> str:
    """What came out of a point, in one line."""
    if row["error"] is not None:
        return f"failed: {' '.join(row['error']['message'].split())}"
    found = [(measure.stage, *hit) for measure in measures if (hit := metric_of(measure, row["stages"])) is not None]
    said = ", ".join(f"{stage}.{name} {number_text(value)}" for stage, name, value in found)
    reused = all(stage["reused"] for stage in row["stages"])
    took = "reused" if reused else duration(row["seconds"])
    return f"{said} ({took})" if said else took


def sweep_progress(measures: Sequence[Measure], stream: TextIO, quiet: bool = False) -> SilentSweep:
    """A bar where the stream is a terminal, lines elsewhere, nothing where quiet."""
    if quiet:
        return SilentSweep()
    return SweepBar(measures, stream) if stream.isatty() else SweepLines(measures, stream)
