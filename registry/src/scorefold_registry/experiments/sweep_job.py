"""One point of a sweep: an ordinary run with the values of the point, done in whatever process it is sent to."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from scorefold.artefacts import write_json
from scorefold.errors import ConfigError, ScorefoldError
from scorefold.stage import Executor
from scorefold_registry.host import Host
from scorefold_registry.plugins.loading import describe
from scorefold_registry.run.executor import LocalExecutor
from scorefold_registry.runfile.reader import RunFile, read

TARGET = "scorefold_registry.experiments.sweep_job:run_point"


@dataclass(frozen=True)
class PointJob:
    """What a worker needs to run a point: everything is said, nothing is looked up where it happens to run.

    ``file`` is a copy of the run file, which stands in ``folder``; ``here`` is the folder that other relative paths
    start from, ``record`` the file that the row goes to, ``plugins`` those that are in use (``distribution/name``) and
    ``settings`` the ``scorefold.toml`` that names preferences.
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


def run_point(job: PointJob) -> dict[str, Any]:
    """Run a point in a worker, with one process for the jobs inside its stages; its row (see ``run_here``)."""
    return run_here(_host(job.plugins, job.settings), job, LocalExecutor())


def run_here(host: Host, job: PointJob, jobs: Executor | None = None) -> dict[str, Any]:
    """Run a point with a host; its row, which also goes to the job's record file.

    The row holds ``number``, ``run`` (the run's folder, or None), ``seconds``, ``stages`` (as ``scorefold run --json``
    lists them) and ``error`` (as ``--json`` gives errors, or None): a point that fails is a row too.
    """
    import torch

    began, before = time.monotonic(), torch.get_num_threads()
    try:
        with _working_in(job.here):
            torch.set_num_threads(job.threads)
            row = {"number": job.number, **_run(host, job, jobs), "error": None}
    except Exception as error:
        row = failed_row(job, error)
    finally:
        torch.set_num_threads(before)
    row["seconds"] = round(time.monotonic() - began, 3)
    write_json(Path(job.record), row)
    return row


def failed_row(job: PointJob, error: Exception) -> dict[str, Any]:
    """The row of a point that ended with an error; its run folder, where it came to one, holds the traceback."""
    told = error if isinstance(error, ScorefoldError) else ScorefoldError(describe(error))
    return {"number": job.number, "run": _newest(job), "seconds": 0.0, "stages": [], "error": told.as_json()}


def _run(host: Host, job: PointJob, jobs: Executor | None) -> dict[str, Any]:
    from scorefold_registry.run.pipeline import run_plan
    from scorefold_registry.runfile.plan import make_plan

    plan = make_plan(host.catalogue, read(job.file, job.sets, job.seed, swept=job.swept, folder=job.folder))
    before = _folders(job, plan.run)
    result = run_plan(host, plan, runs=job.runs, cache=job.cache, jobs=jobs)
    # The same point, run before: all that it had is in the cache and in the new folder.
    for folder in before:
        shutil.rmtree(folder, ignore_errors=True)
    told = result.as_json()
    return {"run": told["run"], "stages": told["stages"]}


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
