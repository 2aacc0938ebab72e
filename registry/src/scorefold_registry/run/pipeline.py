"""Running a run file: where things go, what computes, and the session that does the stages."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from scorefold.artefacts import json_text
from scorefold.errors import ConfigError
from scorefold.stage import Executor
from scorefold_registry.plugins.locks import make_folder
from scorefold_registry.run import environment
from scorefold_registry.run import folders as run_folders
from scorefold_registry.run.environment import set_up
from scorefold_registry.run.execution import RunExecution
from scorefold_registry.run.folders import Cache, area
from scorefold_registry.run.os_process import torchrun_processes
from scorefold_registry.run.progress import Silent
from scorefold_registry.run.result import RunResult
from scorefold_registry.run.stage_builder import StageBuilder
from scorefold_registry.runfile.plan import Plan, make_plan
from scorefold_registry.runfile.reader import RunFile, read

if TYPE_CHECKING:
    from scorefold_registry.host import Host


def run_file(
    host: Host,
    path: str | Path,
    *,
    sets: Sequence[str] = (),
    seed: int | None = None,
    runs: str | Path | None = None,
    cache: str | Path | None = None,
    fresh: bool = False,
    progress: Silent | None = None,
) -> RunResult:
    """Run a run file.

    ``sets`` are ``--set`` options, ``seed`` replaces the file's root seed, ``runs`` and ``cache`` say where things go,
    ``fresh`` computes every stage anew. Raises ``RunFileError`` with every problem of the file before anything is
    imported or written, the error of a stage that fails (with the stage's place in the file), and ``RunInterrupted``.
    """
    plan = make_plan(host.catalogue, read(path, sets, seed))
    return run_plan(host, plan, runs=runs, cache=cache, fresh=fresh, progress=progress)


def run_plan(
    host: Host,
    plan: Plan,
    *,
    runs: str | Path | None = None,
    cache: str | Path | None = None,
    fresh: bool = False,
    progress: Silent | None = None,
    command: Sequence[str] | None = None,
    jobs: Executor | None = None,
    page: bool = True,
) -> RunResult:
    """Run a run file that has been checked; see ``run_file``.

    ``command`` is the command line that repeats the run, where that isn't ``scorefold run`` and the file. ``jobs`` does
    the jobs inside its stages, where that isn't a plugin's executor or local processes; the caller closes it. Without
    ``page`` no report is written, and no figure that a later run can draw.
    """
    import torch

    run = plan.run
    _check_processes(run)
    cache_area, runs_area = area("cache", cache, ".scorefold/cache").absolute(), area("runs", runs, "runs").absolute()
    name = f"{datetime.now():%Y%m%d-%H%M%S}-{run_digest(run)}"
    threads = torch.get_num_threads()
    try:
        try:
            device, dtype = set_up(run.runtime)
        except ConfigError as error:
            raise run.source.error(error.message, ("runtime", "device"), hint=error.hint) from None
        builder = StageBuilder(host, run.seed, device, dtype)
        make_folder(cache_area)
        with run_folders.new_run(runs_area / run.name, name) as folder:
            execution = RunExecution(
                host,
                plan,
                folder,
                Cache(cache_area),
                builder,
                progress=progress or Silent(),
                fresh=fresh,
                command=command or _command(run),
                jobs=jobs,
                page=page,
            )
            return execution.run()
    finally:
        torch.set_num_threads(threads)


def _check_processes(run: RunFile) -> None:
    """Raises ``ConfigError`` for a model to be divided in a process that stands alone, and in one of several that
    would each run the file."""
    if run.runtime.parallel == "fsdp2" and environment.current_team() is None:
        message = "parallel is fsdp2, which divides a model over processes, and there is one"
        hint = f"torchrun --nproc-per-node N -m scorefold_registry.cli run {run.path}, or leave parallel out"
        raise run.source.error(message, ("runtime", "parallel"), hint=hint)
    if (count := torchrun_processes()) > 1:
        hint = f"torchrun --nproc-per-node {count} -m scorefold_registry.cli run {run.path}"
        raise ConfigError(f"{count} processes would each run this file; expected the command scorefold run", hint=hint)


def run_digest(run: RunFile) -> str:
    """The end of the name of a run's folder: what was asked, in eight hexadecimal digits."""
    return hashlib.sha256(json_text([run.text, list(run.sets), run.seed]).encode()).hexdigest()[:8]


def _command(run: RunFile) -> list[str]:
    """The command line that runs a file as it was run."""
    command = ["scorefold", "run", str(run.path)]
    for option in run.sets:
        command += ["--set", option]
    if run.seed != (run.source.data.get("seed") or 0):
        command += ["--seed", str(run.seed)]
    return command
