"""Progress of a run: bars on a terminal, lines elsewhere, or nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from scorefold.errors import printable
from scorefold_registry.run.os_process import peak_memory

SECONDS_BETWEEN_LINES = 10.0


class Silent:
    """Shows nothing, and says what there is to show."""

    def stage_started(self, name: str, component: str, number: int, count: int) -> None:
        """A stage begins, the ``number``-th of ``count``."""

    def waiting(self, name: str) -> None:
        """Another run is making this stage; this one waits for it."""

    def advanced(self, name: str, done: int, total: int, text: str) -> None:
        """So much of a stage is done."""

    def warned(self, name: str, text: str) -> None:
        """A stage gives a warning before it is done."""

    def measured(self, name: str, step: int, metrics: Mapping[str, float]) -> None:
        """A stage has reported metrics at a step."""

    def stage_ended(self, name: str, seconds: float, reused: bool, metrics: Mapping[str, Any]) -> None:
        """A stage has ended well."""

    def close(self) -> None:
        """The run has ended, well or not."""


def number_text(value: Any) -> str:
    """A number as a person reads it: four significant digits, whole numbers as they are."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return str(value) if isinstance(value, int) else f"{value:z.4g}"


def duration(seconds: float) -> str:
    """A time as a person says it: ``0.4 s``, ``42 s``, ``3 min 20 s``, ``2 h 05 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def metrics_text(metrics: Mapping[str, Any], limit: int = 4) -> str:
    """The first metrics in one line, parted by semicolons where a name holds a comma."""
    first = list(metrics.items())[:limit]
    between = "; " if any("," in name for name, _ in first) else ", "
    return printable(between.join(f"{name} {number_text(value)}" for name, value in first))


def _ending(name: str, seconds: float, reused: bool, metrics: Mapping[str, Any]) -> str:
    how = "reused" if reused else duration(seconds)
    figures = metrics_text(metrics)
    return f"{name}: {how}" + (f" ({figures})" if figures else "")


def _beside(text: str, metrics: Mapping[str, Any]) -> str:
    """The first metrics, unless a stage's own text has them already."""
    if any(name in text for name in metrics):
        return ""
    return metrics_text({name: value for name, value in metrics.items() if name != "step"}, limit=2)


def _memory() -> str:
    megabytes = peak_memory()
    return "" if megabytes is None else f"peak {megabytes:,.0f} MB"


class _Rate:
    """Speed of a part of a stage since its first report, and its remaining time."""

    def __init__(self) -> None:
        self._first: tuple[int, float] | None = None
        self._total = 0

    def text(self, step: int, total: int) -> str:
        rate = self._rate(step, total)
        return "" if rate is None else f"{rate:.3g}/s"

    def left(self, step: int, total: int) -> str:
        rate = self._rate(step, total)
        return "" if rate is None or total <= step else f"{duration((total - step) / rate)} left"

    def _rate(self, step: int, total: int) -> float | None:
        now = time.monotonic()
        if self._first is None or step < self._first[0] or total != self._total:
            self._first, self._total = (step, now), total
        first, began = self._first
        return None if step == first else (step - first) / max(now - began, 1e-9)


class Lines(Silent):
    """Plain lines: one when a stage begins and ends, and one now and then in between."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._last = 0.0
        self._latest: dict[str, float] = {}
        self._rate = _Rate()

    def _print(self, text: str) -> None:
        print(printable(text), file=self._stream, flush=True)

    def stage_started(self, name: str, component: str, number: int, count: int) -> None:
        self._print(f"[{number}/{count}] {name}: {component}")
        self._last, self._latest, self._rate = time.monotonic(), {}, _Rate()

    def waiting(self, name: str) -> None:
        self._print(f"  {name}: another run is making this stage; waiting for it")

    def advanced(self, name: str, done: int, total: int, text: str) -> None:
        rate, left = "" if "/s" in text else self._rate.text(done, total), self._rate.left(done, total)
        if time.monotonic() - self._last < SECONDS_BETWEEN_LINES:
            return
        self._last = time.monotonic()
        parts = [part for part in (f"{done}/{total}", left, text, rate, _beside(text, self._latest), _memory()) if part]
        self._print(f"  {name}: " + ", ".join(parts))

    def warned(self, name: str, text: str) -> None:
        self._print(f"  {name}: warning: {text}")

    def measured(self, name: str, step: int, metrics: Mapping[str, float]) -> None:
        self._latest = dict(metrics)

    def stage_ended(self, name: str, seconds: float, reused: bool, metrics: Mapping[str, Any]) -> None:
        self._print("  " + _ending(name, seconds, reused, metrics))


class Bars(Silent):
    """A live bar for the running stage, with loss and rate, and a line for each that has ended."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._console = Console(file=stream or sys.stdout, highlight=False)
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),
            TextColumn("{task.fields[note]}", markup=False),
            console=self._console,
            transient=True,
        )
        self._task: Any = None
        self._left = ""
        self._text = ""
        self._metrics: Mapping[str, float] = {}
        self._rate = _Rate()
        self._memory, self._measured = "", 0.0
        self._bar.start()

    def stage_started(self, name: str, component: str, number: int, count: int) -> None:
        self._left, self._text, self._metrics, self._rate = "", "", {}, _Rate()
        self._memory, self._measured = "", 0.0
        # Short enough for bar, steps, time left, loss and rate to fit a terminal of 80 columns.
        self._task = self._bar.add_task(f"\\[{number}/{count}] {name}", total=None, note=component)

    def waiting(self, name: str) -> None:
        self._bar.update(self._task, note="another run is making this stage; waiting for it")

    def advanced(self, name: str, done: int, total: int, text: str) -> None:
        rate = "" if "/s" in text else self._rate.text(done, total)
        self._text = ", ".join(part for part in (text, rate) if part)
        if time.monotonic() - self._measured > 1:
            self._memory, self._measured = _memory(), time.monotonic()
        self._bar.update(self._task, completed=done, total=total)
        left = self._bar.tasks[-1].time_remaining
        self._left = "" if left is None else f"{duration(left)} left"
        self._bar.update(self._task, note=self._note())

    def warned(self, name: str, text: str) -> None:
        self._console.print(printable(f"{name}: warning: {text}"), markup=False, soft_wrap=True)

    def measured(self, name: str, step: int, metrics: Mapping[str, float]) -> None:
        self._metrics = metrics
        self._bar.update(self._task, note=self._note())

    def _note(self) -> str:
        task = self._bar.tasks[-1]
        steps = "" if task.total is None else f"{task.completed:.0f}/{task.total:.0f}"
        parts = (steps, self._left, self._text, _beside(self._text, self._metrics), self._memory)
        return printable(", ".join(part for part in parts if part))

    def stage_ended(self, name: str, seconds: float, reused: bool, metrics: Mapping[str, Any]) -> None:
        self._bar.remove_task(self._task)
        self._console.print(_ending(name, seconds, reused, metrics), markup=False, soft_wrap=True)

    def close(self) -> None:
        self._bar.stop()


class OneStage(Silent):
    """Shows one stage of a run by name: those before it were seen when they were done."""

    def __init__(self, name: str, shown: Silent) -> None:
        self._name, self._shown = name, shown

    def stage_started(self, name: str, component: str, number: int, count: int) -> None:
        if name == self._name:
            self._shown.stage_started(name, component, 1, 1)

    def waiting(self, name: str) -> None:
        if name == self._name:
            self._shown.waiting(name)

    def advanced(self, name: str, done: int, total: int, text: str) -> None:
        if name == self._name:
            self._shown.advanced(name, done, total, text)

    def warned(self, name: str, text: str) -> None:
        self._shown.warned(name, text)

    def measured(self, name: str, step: int, metrics: Mapping[str, float]) -> None:
        if name == self._name:
            self._shown.measured(name, step, metrics)

    def stage_ended(self, name: str, seconds: float, reused: bool, metrics: Mapping[str, Any]) -> None:
        if name == self._name:
            self._shown.stage_ended(name, seconds, reused, metrics)

    def close(self) -> None:
        self._shown.close()


def progress_for(stream: TextIO, quiet: bool = False) -> Silent:
    """Bars where the stream is a terminal, lines elsewhere, nothing where quiet."""
    if quiet:
        return Silent()
    return Bars(stream) if stream.isatty() else Lines(stream)
