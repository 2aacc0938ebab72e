"""The engine of many runs: one failure stops no other, kept values are not measured again, and a stop counts rows."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest

from scorefold_registry.experiments.engine import Experiment, Interrupted, LineWatch, TaskResult, run_here
from scorefold_registry.run.progress import Silent


@dataclass(frozen=True)
class Row:
    values: tuple[float, ...]
    kept: tuple[bool, ...]
    error: str | None

    def __str__(self) -> str:
        return self.error or f"{sum(self.values):g}"


class Divisions(Experiment[int, float, Row]):
    """Seeds over tasks: what is divided by 0 fails, 13 ends the process, 99 is Ctrl-C, and there is nothing for 7."""

    def __init__(self, tasks: Sequence[int], seeds: Sequence[int] = (1,), keep: Path | None = None) -> None:
        self.tasks, self.seeds, self.keep = tasks, seeds, keep
        self.asked: list[tuple[int, int]] = []

    def label(self, task: int) -> str:
        return str(task)

    def kept_in(self, task: int, seed: int) -> Path | None:
        return None if self.keep is None else self.keep / f"{task}-{seed}.json"

    def run(self, task: int, seed: int, shown: Silent | None) -> float | None:
        self.asked.append((task, seed))
        if task == 13:
            raise SystemExit("in the middle")
        if task == 99:
            raise KeyboardInterrupt
        return None if task == 7 else seed / task

    def row(self, task: int, answers: Sequence[TaskResult[float]]) -> Row:
        error = answers[-1].error
        values = tuple(answer.value for answer in answers if answer.value is not None)
        return Row(values, tuple(answer.kept for answer in answers), None if error is None else error.message)


def test_one_failure_stops_no_other_task_and_ends_its_own_seeds() -> None:
    tried, stream = Divisions([0, 13, 7, 4], seeds=[1, 2]), StringIO()
    rows = run_here(tried, LineWatch(stream), "4 tasks")
    assert [row.error for row in rows] == [
        "ZeroDivisionError: division by zero",
        "SystemExit: in the middle",
        None,
        None,
    ]
    assert rows[3].values == (0.25, 0.5)
    assert tried.asked == [(0, 1), (13, 1), (7, 1), (4, 1), (4, 2)]
    assert stream.getvalue().splitlines() == [
        "4 tasks",
        "[1/4] ZeroDivisionError: division by zero",
        "[2/4] SystemExit: in the middle",
        "[3/4] 0",
        "[4/4] 0.75",
    ]


def test_what_was_kept_is_not_run_again_unless_it_cannot_be_read(tmp_path: Path) -> None:
    run_here(Divisions([0, 4], seeds=[1], keep=tmp_path), LineWatch(StringIO()))
    again = Divisions([0, 4], seeds=[1, 2], keep=tmp_path)
    rows = run_here(again, LineWatch(StringIO()))
    assert again.asked == [(0, 1), (4, 2)], "a failure is tried again"
    assert (rows[1].values, rows[1].kept) == ((0.25, 0.5), (True, False))
    (tmp_path / "4-1.json").write_text("{")
    damaged = Divisions([4], seeds=[1], keep=tmp_path)
    assert run_here(damaged, LineWatch(StringIO()))[0].values == (0.25,)
    assert damaged.asked == [(4, 1)]


def test_a_stop_says_how_far_it_came() -> None:
    with pytest.raises(Interrupted, match="interrupted after 1 of 3") as caught:
        run_here(Divisions([4, 99, 5]), LineWatch(StringIO()))
    assert (caught.value.done, caught.value.tasks) == (1, 3)


def test_a_failure_holds_nothing_of_its_run() -> None:
    """Models and data of a row that failed are gone before the next begins."""
    left: list[weakref.ref[Divisions]] = []

    class Heavy(Divisions):
        def run(self, task: int, seed: int, shown: Silent | None) -> float | None:
            assert not any(reference() for reference in left)
            data = Divisions([])
            left.append(weakref.ref(data))
            try:
                raise KeyError(data)
            except KeyError as error:
                raise ValueError("it fails") from error

    assert [row.error for row in run_here(Heavy([1, 2, 3]), LineWatch(StringIO()))] == ["ValueError: it fails"] * 3
