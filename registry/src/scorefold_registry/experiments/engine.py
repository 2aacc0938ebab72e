"""One engine for many runs: each task becomes a row, a failed task stops no other, and progress is printed."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TextIO, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from scorefold.artefacts import read_json, write_json
from scorefold.errors import ScorefoldError, WorkerError, printable
from scorefold.stage import Executor
from scorefold_registry.plugins.loading import describe
from scorefold_registry.run.progress import Lines, Silent, duration

SECONDS_BETWEEN_LOOKS = 0.2

TaskT = TypeVar("TaskT")
ValueT = TypeVar("ValueT")
RowT = TypeVar("RowT", bound=Any)


@dataclass(frozen=True)
class TaskResult(Generic[ValueT]):
    """Result of one run of a task, or its error. ``kept`` marks a stored result."""

    value: ValueT | None = None
    error: ScorefoldError | None = None
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    kept: bool = False


def as_ours(error: BaseException) -> ScorefoldError:
    """An error with a message in one line, which stands in a row."""
    return error if isinstance(error, ScorefoldError) else ScorefoldError(describe(error))


def attempt(
    run: Callable[[], ValueT | None], reason: Callable[[BaseException], ScorefoldError] = as_ours
) -> TaskResult[ValueT]:
    """Call a function and return its result, or the reason of its error; Ctrl-C passes."""
    from scorefold_registry.run.os_process import cpu_seconds

    began, before = time.monotonic(), cpu_seconds()

    def spent() -> tuple[float, float]:
        return time.monotonic() - began, cpu_seconds() - before

    try:
        return TaskResult(run(), None, *spent())
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        why = reason(error)
        # Frames hold the models and the data of the run, and would hold them until somebody collects garbage.
        why.__traceback__ = why.__context__ = why.__cause__ = None
        return TaskResult(None, why, *spent())


class Experiment(ABC, Generic[TaskT, ValueT, RowT]):
    """Experiment of many runs: ``tasks``, each with every one of ``seeds`` (one for tasks that have their own)."""

    tasks: Sequence[TaskT]
    seeds: Sequence[int] = (0,)

    @abstractmethod
    def label(self, task: TaskT) -> str:
        """Label of a task while it runs."""

    @abstractmethod
    def run(self, task: TaskT, seed: int, shown: Silent | None) -> ValueT | None:
        """Run a task with a seed. It may raise anything. None where there is nothing to run it on."""

    @abstractmethod
    def row(self, task: TaskT, answers: Sequence[TaskResult[ValueT]]) -> RowT:
        """The row of a task, with its ``error`` or None, from its answers: one a seed, or fewer, the last without a
        value."""

    def line(self, row: RowT) -> str:
        """The row as a person sees it when it comes."""
        return str(row)

    def reason(self, task: TaskT, error: BaseException) -> ScorefoldError:
        """Reason why a run of a task has no value, with a message in one line."""
        return as_ours(error)

    def kept_in(self, task: TaskT, seed: int) -> Path | None:
        """The file that keeps the value of a task, which is a number; None where every one is measured anew."""
        return None

    def recorded(self, task: TaskT) -> RowT | None:
        """The stored row of a task; None before it is done."""
        raise NotImplementedError


class Interrupted(KeyboardInterrupt):
    """The user stopped an experiment after ``done`` of its ``tasks``; repeating the command continues it."""

    def __init__(self, done: int, tasks: int) -> None:
        super().__init__(done, tasks)
        self.done, self.tasks = done, tasks

    def __str__(self) -> str:
        return f"interrupted after {self.done} of {self.tasks}"


def run_here(experiment: Experiment[TaskT, ValueT, RowT], watch: Watch, said: str = "") -> list[RowT]:
    """The rows of all tasks, run one after another in this process. Raises ``Interrupted`` after Ctrl-C."""
    rows: list[RowT] = []
    watch.began(len(experiment.tasks), said)
    try:
        for task in experiment.tasks:
            shown = watch.started(experiment.label(task))
            rows.append(experiment.row(task, list(_answers(experiment, task, shown))))
            watch.ended(experiment.line(rows[-1]), failed=rows[-1].error is not None)
    except KeyboardInterrupt:
        raise Interrupted(len(rows), len(experiment.tasks)) from None
    finally:
        watch.close()
    return rows


def _answers(
    experiment: Experiment[TaskT, ValueT, RowT], task: TaskT, shown: Silent | None
) -> Iterator[TaskResult[ValueT]]:
    for seed in experiment.seeds:
        file = experiment.kept_in(task, seed)
        answer = None if file is None else _kept(file)
        if answer is None:
            answer = attempt(partial(experiment.run, task, seed, shown), partial(experiment.reason, task))
            if file is not None and answer.value is not None:
                write_json(file, {"value": answer.value, "cpu_seconds": answer.cpu_seconds})
        yield answer
        if answer.value is None:
            return


def _kept(file: Path) -> TaskResult[Any] | None:
    """A number measured before, with its CPU seconds; None where there is none, or it can't be read."""
    try:
        data = read_json(file)
        return TaskResult(float(data["value"]), cpu_seconds=float(data["cpu_seconds"]), kept=True)
    except (ScorefoldError, OSError, ValueError, KeyError, TypeError):
        return None


def run_elsewhere(
    experiment: Experiment[TaskT, ValueT, RowT], watch: Watch, said: str, executor: Executor, target: str, key: str
) -> list[RowT]:
    """The rows of all tasks, which an executor hands to ``target`` (``module:function``), a task at a time.

    A task that ends its worker is a row with that error, and the others go on. ``key`` names the tasks in what is
    printed. Closes the executor. Raises ``Interrupted`` after Ctrl-C, when no worker is left.
    """
    rows: dict[TaskT, RowT] = {}
    watch.began(len(experiment.tasks), said)
    try:
        with _watching(experiment, watch), closing(executor):
            while left := [task for task in experiment.tasks if task not in rows]:
                try:
                    rows |= zip(left, executor.map(target, left, key=key), strict=True)
                except WorkerError as error:
                    rows |= {task: row for task in left if (row := experiment.recorded(task)) is not None}
                    dead = left[error.item]
                    rows[dead] = experiment.row(dead, [TaskResult(error=error)])
    except KeyboardInterrupt:
        done = sum(experiment.recorded(task) is not None for task in experiment.tasks)
        raise Interrupted(done, len(experiment.tasks)) from None
    finally:
        watch.close()
    return [rows[task] for task in experiment.tasks]


@contextmanager
def _watching(experiment: Experiment[TaskT, ValueT, RowT], watch: Watch) -> Iterator[None]:
    """Show each row when its record appears: an executor answers only when all are done."""
    left = list(experiment.tasks)
    over = threading.Event()

    def look() -> None:
        for task in list(left):
            if (row := experiment.recorded(task)) is not None:
                left.remove(task)
                watch.ended(experiment.line(row), failed=row.error is not None)

    def look_again() -> None:
        while not over.wait(SECONDS_BETWEEN_LOOKS):
            look()

    thread = threading.Thread(target=look_again, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        look()


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
