"""Trials of allocations: each a job for the executor, a line in the log, and done once.

A trial is one cell with the seeds that it is tried with. Its line holds all that is read of it, so that what was
interrupted goes on from its log to the same answer; trials of something else in the same log are left alone.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import CodeType
from typing import Any

import torch
from torch import Tensor

from scorefold.config import Config
from scorefold.errors import ConfigError, DataError, TrainingError
from scorefold.interfaces import DataSource
from scorefold.seeds import derive_seed
from scorefold.stage import Executor, report
from scorefold_allocation.data.batch import TaskSource
from scorefold_allocation.learners.interface import AllocationCell, Learner
from scorefold_allocation.search.fits import Measure, as_losses

LOG = "trials.jsonl"


@dataclass(frozen=True)
class Trainee:
    """A learner and the tasks that it is tried on."""

    learner: Learner
    source: TaskSource


Tried = Trainee | Callable[[int, int, int], float]
"""Subject of trials: a learner on its tasks, or a ``scorefold.interfaces.Pilot``."""


def trial_digest(tried: Tried) -> str:
    """Digest that separates the lines of a log.

    For a learner it covers the classes, settings and files of the learner and its source. For a pilot it covers the
    name and the code of the pilot, but not the code of the functions that it calls. For a class without a ``config`` it
    covers the name alone.
    """
    parts = (tried.learner, tried.source) if isinstance(tried, Trainee) else (tried,)
    return hashlib.sha256("\n".join(map(_described, parts)).encode()).hexdigest()[:16]


def _described(thing: Any) -> str:
    if isinstance(thing, partial):
        return f"{_described(thing.func)} {thing.args!r} {thing.keywords!r}"
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    config, code = getattr(thing, "config", None), getattr(thing, "__code__", None)
    texts = [named.__module__, named.__qualname__, type(config).__qualname__]
    texts.append(config.model_dump_json() if isinstance(config, Config) else repr(config))
    if isinstance(thing, Learner):
        texts.append(thing.measure)
    if isinstance(thing, DataSource):
        texts.append(str(thing.fingerprint()))
    if isinstance(code, CodeType):
        texts += [code.co_code.hex(), *(repr(value) for value in code.co_consts if not isinstance(value, CodeType))]
    return " ".join(texts)


@dataclass(frozen=True)
class Trial:
    """Results of a cell: ``test`` and ``train`` for each of its ``seeds``, nan for what is not finite or failed.

    ``train`` is None where no training loss is reported; ``failure`` says why training gave up.
    """

    cell: AllocationCell
    seeds: tuple[int, ...]
    test: tuple[float, ...]
    train: tuple[float, ...] | None = None
    failure: str = ""

    def line(self, tried: str) -> str:
        """The trial as a line of JSON, of what has the digest ``tried``."""
        train = None if self.train is None else [_or_null(value) for value in self.train]
        facts = {"tried": tried, "cell": list(self.cell), "seeds": list(self.seeds)}
        facts["test"] = [_or_null(value) for value in self.test]
        return json.dumps({**facts, "train": train, "failure": self.failure}) + "\n"

    @classmethod
    def read(cls, line: str, tried: str) -> Trial | None:
        """The trial of a line, or None for a line that was cut short or is of something else."""
        try:
            facts = json.loads(line)
            if facts["tried"] != tried:
                return None
            cell, seeds, test = (
                AllocationCell(*facts["cell"]),
                tuple(facts["seeds"]),
                tuple(map(_or_nan, facts["test"])),
            )
            train = None if facts["train"] is None else tuple(map(_or_nan, facts["train"]))
            return cls(cell, seeds, test, train, facts["failure"])
        except (ValueError, KeyError, TypeError):
            return None


@dataclass(frozen=True)
class TrialJob:
    """A trial to do of what has the digest ``tried``: by a worker, which adds its line to ``log`` where it reaches that
    folder."""

    trainee: Trainee
    tried: str
    cell: AllocationCell
    seeds: tuple[int, ...]
    log: Path | None


@dataclass
class Trials:
    """Does trials and keeps what came of them.

    Seed i is the same for all cells, so that they share their random numbers. Trials of a learner that trains on the
    CPU are jobs for the ``executor``; others, and a pilot, are called in this process. ``log`` is a file that survives
    an interruption, or None; what it has ``kept`` is not tried again, but for trials that gave up. ``done`` is what was
    asked for.
    """

    tried: Tried
    root: int
    log: Path | None = None
    executor: Executor | None = None
    kept: dict[tuple[AllocationCell, tuple[int, ...]], Trial] = field(default_factory=dict)
    done: dict[tuple[AllocationCell, tuple[int, ...]], Trial] = field(default_factory=dict)
    digest: str = ""

    def __post_init__(self) -> None:
        if self.log is None:
            return
        self.digest = trial_digest(self.tried)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.log.exists():
            text = self.log.read_text(errors="replace")
            found = [Trial.read(line, self.digest) for line in text.splitlines()]
            self.kept |= {(trial.cell, trial.seeds): trial for trial in found if trial and not trial.failure}
            if text and not text.endswith("\n"):
                with self.log.open("a") as log:
                    log.write("\n")  # ends the line that was being written, so that the next one stands by itself

    @property
    def measure(self) -> Measure:
        """Measure of a trial: a loss, or an accuracy."""
        return self.tried.learner.measure if isinstance(self.tried, Trainee) else "loss"

    def run(self, cells: Sequence[AllocationCell], seeds: range) -> list[Trial]:
        """The trials of all cells with the seeds of these numbers, those that are not done yet as jobs."""
        own = tuple(derive_seed(self.root, "seed", number) for number in seeds)
        asked = [(cell, own) for cell in dict.fromkeys(cells) if (cell, own) not in self.done]
        self.done |= {key: self.kept[key] for key in asked if key in self.kept}
        missing = [cell for cell, _ in asked if (cell, own) not in self.done]
        self.done |= {(trial.cell, trial.seeds): trial for trial in self._do(missing, own)}
        return [self.done[cell, own] for cell in cells]

    def losses(self, cells: Sequence[AllocationCell], *seeds: range) -> Tensor:
        """Losses (R, k) in float64 of k cells with the R seeds of all ranges, tried one range after another."""
        tests = [[trial.test for trial in self.run(cells, part)] for part in seeds]
        return as_losses(torch.cat([torch.tensor(part, dtype=torch.float64).mT for part in tests]), self.measure)

    @property
    def label_runs(self) -> int:
        """The number of labels of all trials together. A cell's labels count once for each of its seeds."""
        return sum(trial.cell.tasks * trial.cell.size * len(trial.seeds) for trial in self.done.values())

    @property
    def failures(self) -> tuple[str, ...]:
        """Reasons why trials have no finite loss, one per cell."""
        return tuple(
            f"{trial.cell.tasks} tasks of {trial.cell.size} labels: {trial.failure or 'the loss is not finite'}"
            for trial in self.done.values()
            if not all(map(math.isfinite, trial.test))
        )

    def table(self) -> dict[str, list[Any]]:
        """Trials by columns, a row per cell with its seeds: the mean of their finite losses (or accuracies), None where
        there is none, and of the training losses where these are known.
        """
        names = ("tasks", "support", "query", "seeds", self.measure, f"training {self.measure}")
        rows = [
            (*trial.cell, len(trial.seeds), _mean(trial.test), _mean(trial.train or ())) for trial in self.done.values()
        ]
        return {name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=False)}

    def _do(self, cells: list[AllocationCell], seeds: tuple[int, ...]) -> list[Trial]:
        if (
            isinstance(self.tried, Trainee)
            and self.tried.learner.device.type == "cpu"
            and self.executor is not None
            and self.executor.parallel
            and cells
        ):
            jobs = [TrialJob(self.tried, self.digest, cell, seeds, self.log) for cell in cells]
            report(0, len(cells), f"{len(cells)} trials with {len(seeds)} seeds")
            found: list[Trial] = self.executor.map(
                "scorefold_allocation.search.trials:run_trial", jobs, "trials of allocations"
            )
            self._log_what_is_missing(found)
            return found
        trials = []
        for number, cell in enumerate(cells):
            report(number, len(cells), f"{cell.tasks} tasks of {cell.size} labels, {len(seeds)} seeds")
            trials.append(self._try(cell, seeds))
        return trials

    def _try(self, cell: AllocationCell, seeds: tuple[int, ...]) -> Trial:
        if isinstance(self.tried, Trainee):
            return run_trial(TrialJob(self.tried, self.digest, cell, seeds, self.log))
        return _logged(_called(self.tried, cell, seeds), self.digest, self.log)

    def _log_what_is_missing(self, trials: Sequence[Trial]) -> None:
        """Workers elsewhere may not have reached the log."""
        if self.log is not None:
            there = self.log.read_text() if self.log.exists() else ""
            for trial in trials:
                if trial.line(self.digest) not in there:
                    _logged(trial, self.digest, self.log)


def run_trial(job: TrialJob) -> Trial:
    """Try a cell with all of its seeds. Training that fails, and tasks that can't be had, give nan and say why."""
    learner, source = job.trainee.learner, job.trainee.source
    try:
        found = learner.evaluate_seeds(source, [job.cell], job.seeds)
    except (TrainingError, DataError) as error:
        return _logged(_failed(job.cell, job.seeds, error), job.tried, job.log)
    test = tuple(_finite(float(losses.test[0])) for losses in found)
    outside = [value for value in test if not 0 <= value <= 1 and math.isfinite(value)]
    if learner.measure == "accuracy" and outside:
        raise ConfigError(
            f"{type(learner).__name__} gave the accuracy {outside[0]:g}; expected 0 to 1",
            hint="give shares, not per cent; of a loss, set the learner's measure to loss",
        )
    trains = [_finite(float(losses.train[0])) for losses in found if losses.train is not None]
    trial = Trial(job.cell, job.seeds, test, tuple(trains) if len(trains) == len(test) else None)
    return _logged(trial, job.tried, job.log)


def _called(pilot: Callable[[int, int, int], float], cell: AllocationCell, seeds: tuple[int, ...]) -> Trial:
    try:
        losses = [pilot(*cell) for _ in seeds]
    except (TrainingError, DataError) as error:
        return _failed(cell, seeds, error)
    try:
        return Trial(cell, seeds, tuple(_finite(float(value)) for value in losses))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the pilot gave {losses[0]!r:.80}; expected a number, the loss") from error


def _failed(cell: AllocationCell, seeds: tuple[int, ...], error: Exception) -> Trial:
    return Trial(cell, seeds, (math.nan,) * len(seeds), failure=str(error))


def _logged(trial: Trial, tried: str, log: Path | None) -> Trial:
    """The trial, its line added to the log by one write, so that jobs beside one another don't mix theirs."""
    if log is not None and log.parent.is_dir():
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(file, trial.line(tried).encode())
            os.fsync(file)
        finally:
            os.close(file)
    return trial


def _mean(values: Sequence[float]) -> float | None:
    """The mean of the finite values; None where there is none."""
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else None


def _finite(value: float) -> float:
    return value if math.isfinite(value) else math.nan


def _or_null(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _or_nan(value: Any) -> float:
    return math.nan if value is None else float(value)
