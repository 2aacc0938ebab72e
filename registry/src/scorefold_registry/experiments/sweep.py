"""A sweep: one run file with the values of some fields varied, each point an ordinary run, and what they measured."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from scorefold.artefacts import json_text, write_text
from scorefold.errors import ConfigError, ScorefoldError
from scorefold.stage import RunInfo
from scorefold_registry.experiments.engine import Experiment, TaskResult, Watch, run_elsewhere, run_here
from scorefold_registry.experiments.job import (
    TARGET,
    PointJob,
    PointRecord,
    PrunedError,
    run_job,
    stored_record,
    write_record,
)
from scorefold_registry.experiments.measures import StageMetric, choose_measures, measure_labels, metric_of
from scorefold_registry.experiments.points import SEED, Axis, Point, axes_of, make_points, point_text
from scorefold_registry.experiments.rows import SweepResult, make_row
from scorefold_registry.experiments.search import Pruning, SearchJobs, check_pruned, search_for
from scorefold_registry.plugins.discovery import development_plugins
from scorefold_registry.plugins.locks import make_folder
from scorefold_registry.plugins.records import LOCAL
from scorefold_registry.run.executor import LocalExecutor, plugins_executor
from scorefold_registry.run.folders import area, refuse_others
from scorefold_registry.run.progress import Silent, duration, number_text
from scorefold_registry.runfile.plan import Plan, make_plan
from scorefold_registry.runfile.reader import RunFileError, read

if TYPE_CHECKING:
    from scorefold_registry.components.catalogue import Catalogue
    from scorefold_registry.host import Host

POINTS = "points"


def sweep(
    host: Host,
    path: Path | str,
    over: Mapping[str, Sequence[Any] | str] | Sequence[Axis],
    *,
    measure: Sequence[str] = (),
    best: str | None = None,
    in_step: bool = False,
    random: int | None = None,
    search: int | None = None,
    prune: str | None = None,
    sets: Sequence[str] = (),
    seed: int | None = None,
    workers: int | None = None,
    out: Path | str | None = None,
    cache: Path | str | None = None,
    watch: Watch | None = None,
) -> SweepResult:
    """Run a run file at many values of some of its fields, and write the results into the sweep's folder.

    ``over`` gives the values of each field, or how they are drawn: ``{"seed": [0, 1], "stages.score.config.width":
    "integers(8, 64)"}``; see ``make_points`` for ``in_step`` and ``random``, ``run_file`` for ``sets`` and ``seed``.
    ``measure`` are texts such as ``"dimension.error"``; without any, the first metric of each stage that no other uses.
    ``best`` is ``"min:STAGE.METRIC"`` or ``"max:..."``. With ``search`` so many settings are tried one after another,
    each chosen by what those before it gave (see ``Search``), which needs ``best``; ``prune`` names a stage whose
    training is ended where its validation losses are worse than in most settings before it. Everything goes to
    ``out``, or to a folder of its own in ``sweeps``. Points go to the executor of a plugin that the run file
    configures, or else to ``workers`` processes (without a number, as many as the file's runtime says); all share one
    cache of stages.

    Every point is checked before the first is run and before torch is imported; one that fails is a row of the result.
    Raises ``RunFileError`` with every problem of every point, ``ConfigError`` for a sweep that can't be made or a
    measure that is not there, and ``Interrupted`` after Ctrl-C.
    """
    began = time.monotonic()
    axes = axes_of(over) if isinstance(over, Mapping) else tuple(over)
    base = read(path, sets, seed)
    found = (
        None
        if search is None
        else search_for(axes, search, best, base.seed, in_step=in_step, random=random, workers=workers, prune=prune)
    )
    if prune is not None and found is None:
        raise ConfigError("--prune goes with --search", hint="for example --search 20 --best min:score.loss")
    points = [found.point(0)] if found else make_points(axes, in_step=in_step, random=random, seed=base.seed)
    fields = tuple(axis.field for axis in axes)
    root = None if SEED in fields else seed
    plans = _plans(host.catalogue, base.path, points, sets, root)
    if found and prune is not None:
        check_pruned(prune, plans[0], found.rows)
    measures, goal = choose_measures(plans[0], measure, best)
    name = plans[0].run.name
    what = [axis.text for axis in axes] if found else [point.sets for point in points]
    asked = json_text([base.text, list(sets), seed, what, *([prune] if prune is not None else [])])
    own = f"{name}-{hashlib.sha256(asked.encode()).hexdigest()[:8]}"
    folder = area("sweeps", None, "sweeps") / own if out is None else Path(out)
    kept = area("cache", cache, ".scorefold/cache").absolute()

    from scorefold_registry.experiments.output_files import write_sweep

    with _open(folder, kept):
        make = _job_maker(host, base.path, plans[0], folder, kept, tuple(sets), root)
        if found and goal:
            asked_for = SearchJobs(found, make, goal[1])
            run = run_job if prune is None else Pruning(prune, found.report, folder).run
            experiment = _Sweep(asked_for, host, measures, asked_for.texts, asked_for.answer, run)
            records = run_here(experiment, watch or Watch(), f"a search of {search} settings, one after another")
            points = found.points[: len(records)]
        else:
            jobs = [make(point, planned) for point, planned in zip(points, plans, strict=True)]
            texts = {point.number: point_text(point) for point in points}
            records = _run(_Sweep(jobs, host, measures, texts), plans[0], folder, workers, watch or Watch())
        labels = measure_labels(measures, [record.stages for record in records])
        rows = tuple(make_row(point, record, labels) for point, record in zip(points, records, strict=True))
        result = SweepResult(
            name=name,
            folder=folder,
            file=base.path,
            fields=fields,
            measures=tuple(dict.fromkeys(labels.values())),
            rows=rows,
            goal=None if goal is None else f"{goal[0]}:{labels[goal[1]]}",
            seconds=time.monotonic() - began,
        )
        write_sweep(result)
    return result


def _plans(
    catalogue: Catalogue, path: Path, points: Sequence[Point], sets: Sequence[str], seed: int | None
) -> tuple[Plan, ...]:
    plans: list[Plan] = []
    problems: dict[str, ScorefoldError] = {}
    for point in points:
        try:
            plans.append(make_plan(catalogue, read(path, sets, seed, swept=point.sets)))
        except RunFileError as error:
            # What is wrong with the file itself is wrong with every point.
            problems |= {str(problem): problem for problem in error.problems if str(problem) not in problems}
    if problems:
        raise RunFileError(list(problems.values()))
    return tuple(plans)


@contextmanager
def _open(folder: Path, cache: Path) -> Iterator[None]:
    """Make a sweep's folder and the cache, without which every point would fail alike, and work there alone."""
    refuse_others(folder, POINTS)
    make_folder(folder)
    make_folder(cache)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        hint = "wait for it, or choose another folder with --out"
        raise ConfigError(f"another sweep is running in {folder}", hint=hint) from None
    try:
        yield
    finally:
        lock.release()


@dataclass
class _Sweep(Experiment[PointJob, dict[str, Any], PointRecord]):
    """The points of a sweep as the engine runs them, here or elsewhere; ``texts`` has what each is called."""

    tasks: Sequence[PointJob]
    host: Host
    measures: Sequence[StageMetric]
    texts: Mapping[int, str]
    answered: Callable[[PointRecord], None] = lambda record: None
    run_point: Callable[[Host, PointJob], dict[str, Any]] | None = None

    def label(self, task: PointJob) -> str:
        return self.texts[task.number]

    def run(self, task: PointJob, seed: int, shown: Silent | None) -> dict[str, Any]:
        return (self.run_point or run_job)(self.host, task)

    def row(self, task: PointJob, answers: Sequence[TaskResult[dict[str, Any]]]) -> PointRecord:
        record = write_record(task, answers[0])
        self.answered(record)
        return record

    def recorded(self, task: PointJob) -> PointRecord | None:
        return stored_record(task)

    def line(self, row: PointRecord) -> str:
        said = self.texts[row.number]
        if row.error is not None:
            how = "ended early" if row.error["code"] == PrunedError.code else "failed"
            return f"{said}: {how}: {' '.join(row.error['message'].split())}"
        hits = [(measure.stage, metric_of(measure, row.stages)) for measure in self.measures]
        numbers = ", ".join(f"{stage}.{hit[0]} {number_text(hit[1])}" for stage, hit in hits if hit is not None)
        took = "reused" if all(stage["reused"] for stage in row.stages) else duration(row.seconds)
        return f"{said}: {numbers} ({took})" if numbers else f"{said}: {took}"


def _job_maker(
    host: Host, source: Path, first: Plan, folder: Path, cache: Path, sets: tuple[str, ...], seed: int | None
) -> Callable[[Point, Plan | None], PointJob]:
    """Maker of the job of a point, whose record goes into a folder without earlier records. A point without a plan of
    its own has the threads of the first.
    """
    import torch

    records = folder / POINTS
    make_folder(records)
    # What an earlier sweep left, and nothing else that stands in a folder of this name.
    for file in records.glob("*.json"):
        if file.stem.isdecimal():
            file.unlink()
    # A copy, so that every point runs the same file, whatever becomes of the original meanwhile.
    copied = folder / source.name
    if copied.resolve() != source.resolve():
        write_text(copied, first.run.text)
    usable = [record for record in host.plugins if record.state != "disabled"]

    def make(point: Point, planned: Plan | None) -> PointJob:
        return PointJob(
            number=point.number,
            file=str(copied.absolute()),
            folder=str(source.parent.absolute()),
            sets=sets,
            swept=point.sets,
            seed=seed,
            runs=str((folder / "runs").absolute()),
            cache=str(cache),
            here=str(Path.cwd()),
            record=str((records / f"{point.number}.json").absolute()),
            threads=(planned or first).run.runtime.threads or torch.get_num_threads(),
            plugins=tuple(f"{record.distribution}/{record.name}" for record in usable),
            settings=None if host.settings.file is None else str(host.settings.file),
        )

    return make


def _run(points: _Sweep, first: Plan, folder: Path, workers: int | None, watch: Watch) -> list[PointRecord]:
    """The records of all points, run where the run file or the command says."""

    host, run, count = points.host, first.run, len(points.tasks)
    said = f"{count} point{'' if count == 1 else 's'}"
    workers = run.runtime.workers if workers is None else workers
    info = RunInfo(run.name, folder, run.seed, first.as_json(host.catalogue), first.plugins)
    offered = plugins_executor(host, info)
    if offered is None and workers == 1:
        return run_here(points, watch, f"{said}, one after another")
    _refuse_handed(host)
    by = f"on {workers} processes" if offered is None else f"by {type(offered).__module__.partition('.')[0]}"
    # Each job sets its own threads, so an executor of ours need not be given their number.
    executor = LocalExecutor(workers) if offered is None else offered
    return run_elsewhere(points, watch, f"{said}, {by}", executor, TARGET, f"sweep of {run.name}")


def _refuse_handed(host: Host) -> None:
    """Raises ``ConfigError`` for a plugin that only this process knows."""
    developed = {record.value for record in development_plugins(host.settings)}
    for record in host.plugins:
        if record.distribution == LOCAL and record.value not in developed:
            hint = "install it, name it in SCOREFOLD_DEV_PLUGINS, or sweep with one worker"
            raise ConfigError(
                f"plugin {record.name!r} was handed over as a module, which no worker can import", hint=hint
            )
