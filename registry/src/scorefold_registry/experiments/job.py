"""One point of a sweep: an ordinary run with the values of the point, done in whatever process it is sent to."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from scorefold.artefacts import read_json, write_json
from scorefold.errors import ConfigError, ScorefoldError
from scorefold.stage import Executor
from scorefold_registry.experiments.engine import TaskResult, attempt
from scorefold_registry.host import Host
from scorefold_registry.run.executor import LocalExecutor
from scorefold_registry.run.progress import Silent
from scorefold_registry.runfile.reader import RunFile, read

TARGET = "scorefold_registry.experiments.job:run_point"


class PrunedError(ScorefoldError):
    """The training of a point was ended early."""

    code = "pruned"


@dataclass(frozen=True)
class PointJob:
    """Job of a worker that runs a point. It is complete, so that a worker reads no local settings.

    ``file`` is a copy of the run file, which stands in ``folder``; ``here`` is the folder that other relative paths
    start from, ``record`` the file that the record goes to, ``plugins`` those that are in use (``distribution/name``)
    and ``settings`` the ``scorefold.toml`` that names preferences.
    """

    number: int
    file: str
    folder: str
    sets: tuple[str, ...]
    swept: tuple[str, ...]
    seed: int | None
    runs: str
    cache: str
    here: str
    record: str
    threads: int
    plugins: tuple[str, ...]
    settings: str | None


@dataclass(frozen=True)
class PointRecord:
    """Record of a point: the run's folder, or None, its stages (as ``scorefold run --json`` lists them), and the error
    that it ended with (as ``--json`` gives errors), or None.
    """

    number: int
    run: str | None
    stages: Sequence[Mapping[str, Any]]
    error: Mapping[str, Any] | None
    seconds: float


def run_point(job: PointJob) -> PointRecord:
    """Run a point in a worker, with one process for the jobs inside its stages."""
    host = _host(job.plugins, job.settings)
    return write_record(job, attempt(lambda: run_job(host, job, LocalExecutor())))


def run_job(
    host: Host, job: PointJob, jobs: Executor | None = None, *, progress: Silent | None = None
) -> dict[str, Any]:
    """Run a point with a host: what ``scorefold run --json`` prints. Raises what the run does."""
    import torch

    from scorefold_registry.run.pipeline import run_plan
    from scorefold_registry.runfile.plan import make_plan

    threads = torch.get_num_threads()
    try:
        with _working_in(job.here):
            torch.set_num_threads(job.threads)
            run = read(job.file, job.sets, job.seed, swept=job.swept, folder=job.folder)
            before = _folders(job, run)
            plan = make_plan(host.catalogue, run)
            result = run_plan(host, plan, runs=job.runs, cache=job.cache, jobs=jobs, progress=progress)
    finally:
        torch.set_num_threads(threads)
    # The same point, run before: all that it had is in the cache and in the new folder.
    for folder in before:
        shutil.rmtree(folder, ignore_errors=True)
    return result.as_json()


def write_record(job: PointJob, answer: TaskResult[dict[str, Any]]) -> PointRecord:
    """Record of a point, also written to the job's file. The run's folder may hold the traceback of an error."""
    ran = answer.value or {"run": _newest(job), "stages": []}
    error = None if answer.error is None else answer.error.as_json()
    made = PointRecord(job.number, ran["run"], ran["stages"], error, round(answer.seconds, 3))
    write_json(Path(job.record), vars(made))
    return made


def stored_record(job: PointJob) -> PointRecord | None:
    """Record of a point from the job's file; None before there is one."""
    file = Path(job.record)
    return PointRecord(**read_json(file)) if file.exists() else None


def _folders(job: PointJob, run: RunFile) -> list[Path]:
    """The folders of this point's runs so far, the newest last."""
    from scorefold_registry.run.pipeline import run_digest

    found = (Path(job.runs) / run.name).glob(f"*-{run_digest(run)}*")
    return sorted(folder for folder in found if folder.is_dir())


def _newest(job: PointJob) -> str | None:
    try:
        found = _folders(job, read(job.file, job.sets, job.seed, swept=job.swept))
    except ScorefoldError:
        return None
    return str(found[-1]) if found else None


@contextmanager
def _working_in(folder: str) -> Iterator[None]:
    before = os.getcwd()
    try:
        os.chdir(folder)
    except OSError as error:
        raise ConfigError(
            f"the worker can't work in {folder}: {error.strerror or error}",
            hint="the workers of a sweep share the folders of the process that started it",
        ) from error
    try:
        yield
    finally:
        os.chdir(before)


@cache
def _host(plugins: tuple[str, ...], settings: str | None) -> Host:
    return Host.discover(allow=plugins, toml=None if settings is None else Path(settings))
