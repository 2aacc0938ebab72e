"""Trials of allocations: each a job for the executor, a line in the log, and done once.

A trial is one cell with the seeds that it is tried with. Its line holds all that is read of it, so that what was
interrupted goes on from its log to the same answer.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scorefold.errors import TrainingError
from scorefold.interfaces import TaskSource
from scorefold.seeds import derive_seed
from scorefold.stage import Executor
from scorefold_allocation.learner import Cell, Learner
from scorefold_allocation.scale import Measure, as_losses

LOG = "trials.jsonl"


@dataclass(frozen=True)
class Trainee:
    """A learner and the tasks that it is tried on."""

    learner: Learner
    source: TaskSource


Tried = Trainee | Callable[[int, int, int], float]
"""What is tried: a learner on its tasks, or a ``scorefold.interfaces.Pilot``."""


@dataclass(frozen=True)
class Trial:
    """What came of a cell: ``test`` and ``train`` for each of its ``seeds``, nan for what is not finite or failed.

    ``train`` is None where no training loss is told; ``failure`` says why training gave up.
    """

    cell: Cell
    seeds: tuple[int, ...]
    test: tuple[float, ...]
    train: tuple[float, ...] | None = None
    failure: str = ""

    def line(self) -> str:
        """The trial as a line of JSON."""
        train = None if self.train is None else [_or_null(value) for value in self.train]
        told = {"cell": list(self.cell), "seeds": list(self.seeds), "test": [_or_null(value) for value in self.test]}
        return json.dumps({**told, "train": train, "failure": self.failure}) + "\n"

    @classmethod
    def read(cls, line: str) -> Trial | None:
        """The trial of a line, or None for a line that was cut short."""
        try:
            told = json.loads(line)
            cell, seeds, test = Cell(*told["cell"]), tuple(told["seeds"]), tuple(map(_or_nan, told["test"]))
            train = None if told["train"] is None else tuple(map(_or_nan, told["train"]))
            return cls(cell, seeds, test, train, told["failure"])
        except (ValueError, KeyError, TypeError):
            return None


@dataclass(frozen=True)
class Job:
    """A trial to do: by a worker, which adds its line to ``log`` where it reaches that folder."""

    trainee: Trainee
    cell: Cell
    seeds: tuple[int, ...]
    log: Path | None


@dataclass
class Trials:
    """Does trials and keeps what came of them.

    Seed i is the same for all cells, so that they share their random numbers. A learner's trials are jobs for the
    ``executor``; a pilot is called in this process. ``log`` is a file that survives an interruption, or None.
    """

    tried: Tried
    root: int
    log: Path | None = None
    executor: Executor | None = None
    done: dict[tuple[Cell, tuple[int, ...]], Trial] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.log is not None and self.log.exists():
            text = self.log.read_text()
            for line in text.splitlines():
                self._keep(Trial.read(line))
            if text and not text.endswith("\n"):
                with self.log.open("a") as log:
                    log.write("\n")  # ends the line that was being written, so that the next one stands by itself

    @property
    def measure(self) -> Measure:
        """What a trial tells: a loss, or an accuracy."""
        return self.tried.learner.measure if isinstance(self.tried, Trainee) else "loss"

    def run(self, cells: Sequence[Cell], seeds: range) -> list[Trial]:
        """The trials of all cells with the seeds of these numbers, those that are not done yet as jobs."""
        own = tuple(derive_seed(self.root, "seed", number) for number in seeds)
        missing = [cell for cell in dict.fromkeys(cells) if (cell, own) not in self.done]
        for trial in self._do(missing, own):
            self._keep(trial)
        return [self.done[cell, own] for cell in cells]

    def losses(self, cells: Sequence[Cell], *seeds: range) -> Tensor:
        """Losses (R, k) in float64 of k cells with the R seeds of all ranges, tried one range after another."""
        tests = [[trial.test for trial in self.run(cells, part)] for part in seeds]
        return as_losses(torch.cat([torch.tensor(part, dtype=torch.float64).mT for part in tests]), self.measure)

    @property
    def label_runs(self) -> int:
        """The labels of all trials together, those of a cell once for each of its seeds."""
        return sum(trial.cell.tasks * trial.cell.size * len(trial.seeds) for trial in self.done.values())

    @property
    def failures(self) -> tuple[str, ...]:
        """Why trials gave no finite loss, in words, one for each cell."""
        return tuple(
            f"{trial.cell.tasks} tasks of {trial.cell.size} labels: {trial.failure or 'the loss is not finite'}"
            for trial in self.done.values()
            if not all(map(math.isfinite, trial.test))
        )

    def _keep(self, trial: Trial | None) -> None:
        if trial is not None:
            self.done[trial.cell, trial.seeds] = trial

    def _do(self, cells: list[Cell], seeds: tuple[int, ...]) -> list[Trial]:
        if not isinstance(self.tried, Trainee):
            return [_logged(_called(self.tried, cell, seeds), self.log) for cell in cells]
        jobs = [Job(self.tried, cell, seeds, self.log) for cell in cells]
        if self.executor is None or not jobs:
            return [run_job(job) for job in jobs]
        trials: list[Trial] = self.executor.map("scorefold_allocation.trials:run_job", jobs, "trials of allocations")
        self._log_what_is_missing(trials)
        return trials

    def _log_what_is_missing(self, trials: Sequence[Trial]) -> None:
        """Workers elsewhere may not have reached the log."""
        if self.log is not None:
            there = self.log.read_text() if self.log.exists() else ""
            for trial in trials:
                if trial.line() not in there:
                    _logged(trial, self.log)


def run_job(job: Job) -> Trial:
    """Try a cell with all of its seeds. Training that fails gives nan, and says why."""
    learner, source = job.trainee.learner, job.trainee.source
    try:
        found = learner.evaluate_seeds(source, [job.cell], job.seeds)
    except TrainingError as error:
        nothing = (math.nan,) * len(job.seeds)
        return _logged(Trial(job.cell, job.seeds, nothing, failure=str(error)), job.log)
    test = tuple(_finite(float(losses.test[0])) for losses in found)
    trains = [_finite(float(losses.train[0])) for losses in found if losses.train is not None]
    return _logged(Trial(job.cell, job.seeds, test, tuple(trains) if len(trains) == len(test) else None), job.log)


def _called(pilot: Callable[[int, int, int], float], cell: Cell, seeds: tuple[int, ...]) -> Trial:
    return Trial(cell, seeds, tuple(_finite(float(pilot(*cell))) for _ in seeds))


def _logged(trial: Trial, log: Path | None) -> Trial:
    """The trial, its line added to the log by one write, so that jobs beside one another don't mix theirs."""
    if log is not None and log.parent.is_dir():
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(file, trial.line().encode())
            os.fsync(file)
        finally:
            os.close(file)
    return trial


def _finite(value: float) -> float:
    return value if math.isfinite(value) else math.nan


def _or_null(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _or_nan(value: Any) -> float:
    return math.nan if value is None else float(value)
