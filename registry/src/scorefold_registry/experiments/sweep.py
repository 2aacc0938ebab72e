"""A sweep: one run file with the values of some fields varied, each point an ordinary run, and what they measured."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from scorefold.artefacts import read_json, write_json, write_text
from scorefold.errors import ConfigError, WorkerError
from scorefold.stage import Executor, RunInfo
from scorefold_registry.experiments.points import Point, axes_of, point_text
from scorefold_registry.experiments.progress import Watch
from scorefold_registry.experiments.sweep_job import TARGET, PointJob, failed_row, run_here
from scorefold_registry.experiments.sweep_plan import SweepPlan, plan_sweep
from scorefold_registry.experiments.sweep_report import write_sweep
from scorefold_registry.experiments.sweep_result import (
    Measure,
    SweepResult,
    best_setting,
    make_row,
    make_settings,
    metric_of,
    named,
)
from scorefold_registry.plugins.development import development_plugins
from scorefold_registry.plugins.records import LOCAL
from scorefold_registry.run.cache import area, make_folder, refuse_others
from scorefold_registry.run.executor import LocalExecutor, plugins_executor
from scorefold_registry.run.progress import duration, number_text
from scorefold_registry.run.stage_folder import resolved_run

if TYPE_CHECKING:
    from scorefold_registry.host import Host

SECONDS_BETWEEN_LOOKS = 0.2
POINTS = "points"

Rows = dict[int, dict[str, Any]]
"""What the jobs of points told, by the points' numbers."""


class SweepInterrupted(KeyboardInterrupt):
    """The user stopped a sweep after ``done`` of ``points``; the same command goes on from there."""

    def __init__(self, done: int, points: int) -> None:
        super().__init__(done, points)
        self.done, self.points = done, points


def sweep(
    host: Host,
    path: Path | str,
    over: Mapping[str, Sequence[Any] | str],
    *,
    measure: Sequence[str] = (),
    best: str | None = None,
    in_step: bool = False,
    random: int | None = None,
    sets: Sequence[str] = (),
    seed: int | None = None,
    workers: int | None = None,
    out: Path | str | None = None,
    cache: Path | str | None = None,
) -> SweepResult:
    """Run a run file at many values of some of its fields.

    ``over`` gives the values of each field, or how they are drawn: ``{"seed": [0, 1], "stages.score.config.width":
    "integers(8, 64)"}``. A point that fails is a row of the result. See ``plan_sweep`` and ``run_sweep`` for the other
    arguments and the errors.
    """
    plan = plan_sweep(
        host.catalogue,
        path,
        axes_of(over),
        in_step=in_step,
        random=random,
        measure=measure,
        best=best,
        sets=sets,
        seed=seed,
        out=out,
    )
    return run_sweep(host, plan, workers=workers, cache=cache)


def run_sweep(
    host: Host,
    plan: SweepPlan,
    *,
    workers: int | None = None,
    cache: str | Path | None = None,
    watch: Watch | None = None,
) -> SweepResult:
    """Run every point of a sweep that has been checked, and write its results into its folder.

    Points go to the executor of a plugin that the run file configures, or else to ``workers`` processes (without a
    number, as many as the file's runtime says); all share one cache of stages. A point that fails is a row with its
    error. Raises ``ConfigError`` where a measure is not there, and ``SweepInterrupted``.
    """
    began = time.monotonic()
    watch = watch or Watch()
    refuse_others(plan.folder, POINTS)
    make_folder(plan.folder)
    kept = area("cache", cache, ".scorefold/cache").absolute()
    # Without it every point would fail alike.
    make_folder(kept)
    with _alone(plan.folder):
        rows = run_points(host, plan, workers, kept, watch)
        ordered = [rows[point.number] for point in plan.points]
        labels = named(plan.measures, ordered)
        made = tuple(make_row(point, row, labels) for point, row in zip(plan.points, ordered, strict=True))
        shown = tuple(dict.fromkeys(labels.values()))
        settings = make_settings(made, shown)
        result = SweepResult(
            name=plan.plans[0].run.name,
            folder=plan.folder,
            file=plan.file,
            fields=plan.fields,
            measures=shown,
            rows=made,
            settings=settings,
            goal=None if plan.best is None else f"{plan.best[0]}:{labels[plan.best[1]]}",
            best=None if plan.best is None else best_setting(settings, plan.best[0], labels[plan.best[1]]),
            seconds=time.monotonic() - began,
        )
        write_sweep(result)
    return result


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        hint = "wait for it, or give another folder with --out"
        raise ConfigError(f"another sweep is at work in {folder}", hint=hint) from None
    try:
        yield
    finally:
        lock.release()


def run_points(host: Host, plan: SweepPlan, workers: int | None, cache: Path, watch: Watch) -> Rows:
    """The row of every point. Raises ``SweepInterrupted`` after Ctrl-C, when no worker is left."""
    records = plan.folder / POINTS
    make_folder(records)
    # What an earlier sweep left, and nothing else that stands in a folder of this name.
    for record in records.glob("*.json"):
        if record.stem.isdecimal():
            record.unlink()
    jobs = _jobs(host, plan, records, cache)
    first = plan.plans[0]
    info = RunInfo(first.run.name, plan.folder, first.run.seed, resolved_run(host.catalogue, first), first.plugins)
    count = first.run.runtime.workers if workers is None else workers
    offered = plugins_executor(host, info)
    try:
        if offered is None and count == 1:
            watch.began(len(jobs), _beginning(len(jobs), "one after another"))
            return dict(_one_by_one(host, plan, jobs, watch))
        _refuse_handed(host)
        by = f"on {count} processes" if offered is None else f"by {type(offered).__module__.partition('.')[0]}"
        watch.began(len(jobs), _beginning(len(jobs), by))
        with _watching(records, plan, watch):
            # Each job sets its own threads, so this is only what the pool itself needs to be told.
            return _elsewhere(LocalExecutor(count) if offered is None else offered, plan, jobs)
    except KeyboardInterrupt:
        raise SweepInterrupted(len(list(records.glob("*.json"))), len(jobs)) from None
    finally:
        watch.close()


def _beginning(count: int, by: str) -> str:
    return f"{count} point{'' if count == 1 else 's'}, {by}"


def outcome(measures: Sequence[Measure], point: Point, row: Mapping[str, Any]) -> str:
    """A point and what came out of it, in one line."""
    said = point_text(point)
    if row["error"] is not None:
        return f"{said}: failed: {' '.join(row['error']['message'].split())}"
    found = [(measure.stage, *hit) for measure in measures if (hit := metric_of(measure, row["stages"])) is not None]
    numbers = ", ".join(f"{stage}.{name} {number_text(value)}" for stage, name, value in found)
    took = "reused" if all(stage["reused"] for stage in row["stages"]) else duration(row["seconds"])
    return f"{said}: {numbers} ({took})" if numbers else f"{said}: {took}"


def _jobs(host: Host, plan: SweepPlan, records: Path, cache: Path) -> list[PointJob]:
    import torch

    # A copy, so that every point runs the same file, whatever becomes of the original meanwhile.
    file = plan.folder / plan.file.name
    if file.resolve() != plan.file.resolve():
        write_text(file, plan.plans[0].run.text)
    usable = [record for record in host.plugins if record.state != "disabled"]
    return [
        PointJob(
            number=point.number,
            file=str(file.absolute()),
            folder=str(plan.file.parent.absolute()),
            sets=plan.sets,
            swept=point.sets,
            seed=plan.seed,
            runs=str((plan.folder / "runs").absolute()),
            cache=str(cache),
            here=str(Path.cwd()),
            record=str((records / f"{point.number}.json").absolute()),
            threads=planned.run.runtime.threads or torch.get_num_threads(),
            plugins=tuple(f"{record.distribution}/{record.name}" for record in usable),
            settings=None if host.settings.file is None else str(host.settings.file),
        )
        for point, planned in zip(plan.points, plan.plans, strict=True)
    ]


def _refuse_handed(host: Host) -> None:
    """Raises ``ConfigError`` for a plugin that only this process knows."""
    developed = {record.value for record in development_plugins(host.settings)}
    for record in host.plugins:
        if record.distribution == LOCAL and record.value not in developed:
            hint = "install it, name it in SCOREFOLD_DEV_PLUGINS, or sweep with one worker"
            raise ConfigError(
                f"plugin {record.name!r} was handed over as a module, which no worker can import", hint=hint
            )


def _one_by_one(
    host: Host, plan: SweepPlan, jobs: Sequence[PointJob], watch: Watch
) -> Iterator[tuple[int, dict[str, Any]]]:
    for point, job in zip(plan.points, jobs, strict=True):
        row = run_here(host, job)
        watch.ended(outcome(plan.measures, point, row), failed=row["error"] is not None)
        yield job.number, row


def _elsewhere(executor: Executor, plan: SweepPlan, jobs: Sequence[PointJob]) -> Rows:
    """The rows of jobs that an executor does. A job that ends its worker is a row with that error."""
    rows: Rows = {}
    try:
        while left := [job for job in jobs if job.number not in rows]:
            try:
                told = executor.map(TARGET, left, key=f"sweep of {plan.plans[0].run.name}")
                rows |= {row["number"]: row for row in told}
            except WorkerError as error:
                done = [job for job in left if Path(job.record).exists()]
                rows |= {job.number: read_json(Path(job.record)) for job in done}
                dead = left[error.item]
                rows[dead.number] = failed_row(dead, error)
                write_json(Path(dead.record), rows[dead.number])
    finally:
        executor.close()
    return rows


@contextmanager
def _watching(records: Path, plan: SweepPlan, watch: Watch) -> Iterator[None]:
    """Tell of each point when its record appears: an executor answers only when all are done."""
    left = {f"{point.number}.json": point for point in plan.points}
    over = threading.Event()

    def look() -> None:
        for name in sorted(left, key=lambda name: int(name.partition(".")[0])):
            if (records / name).exists():
                row = read_json(records / name)
                watch.ended(outcome(plan.measures, left.pop(name), row), failed=row["error"] is not None)

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
