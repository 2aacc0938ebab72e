"""Every installed component of a kind, or with a capability, on the same cases, each row a run of its own."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scorefold.artefacts import write_json, write_text
from scorefold.errors import DataError, PluginError, ScorefoldError, ShapeError, printable
from scorefold.plugin import Comparison
from scorefold_registry.components.file_names import file_name
from scorefold_registry.components.stage_files import read_result, read_stage
from scorefold_registry.experiments.cases import Case
from scorefold_registry.experiments.comparison_plan import NotOnThisCaseError, stages_of
from scorefold_registry.experiments.comparison_rows import Row, judged, over_seeds, with_regrets
from scorefold_registry.experiments.comparison_table import row_text
from scorefold_registry.experiments.progress import Watch
from scorefold_registry.experiments.question import Question
from scorefold_registry.experiments.sweep_result import as_number
from scorefold_registry.plugins.loading import describe
from scorefold_registry.plugins.records import Registered
from scorefold_registry.run import folders as run_folders
from scorefold_registry.run.cache import area, make_folder, refuse_others
from scorefold_registry.run.progress import Silent
from scorefold_registry.runfile.plan import make_plan
from scorefold_registry.runfile.reader import read

if TYPE_CHECKING:
    from scorefold_registry.host import Host

ROWS = "rows"


@dataclass(frozen=True)
class ComparisonResult:
    """A finished comparison: its rows in the order they were measured, and the folder that holds it."""

    kind: str
    comparison: Comparison
    rows: tuple[Row, ...]
    folder: Path
    seconds: float

    @property
    def complete(self) -> bool:
        """Whether every row was measured that could be put on its case, and at least one was."""
        measured = [row for row in self.rows if not row.skipped]
        return bool(measured) and all(row.error is None for row in measured)

    def as_json(self) -> dict[str, Any]:
        """The object that ``scorefold compare --json`` prints."""
        return {"kind": self.kind, "rows": [row.as_json() for row in self.rows]}


@dataclass(frozen=True)
class Place:
    """Where a comparison goes: its folder, and the folder of stages that are kept."""

    folder: Path
    cache: Path | None = None
    fresh: bool = False


def compare(
    host: Host,
    kind: str,
    *,
    on: Sequence[str] = (),
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    plugged: Mapping[str, Any] | None = None,
    fields: Mapping[str, Any] | None = None,
    seed: int = 0,
    seeds: int = 1,
    threads: int = 1,
    out: Path | str | None = None,
    cache: Path | str | None = None,
    fresh: bool = False,
) -> ComparisonResult:
    """Put every installed component of a kind, or with a capability, on the same cases.

    See ``scorefold_registry.experiments.question.ask`` for what can be chosen, and ``run_comparison`` for where it
    goes. What goes wrong with one component is an ``error`` in its rows.
    """
    from scorefold_registry.experiments.question import ask

    question = ask(
        host.catalogue,
        kind,
        on=on,
        only=only,
        skip=skip,
        plugged=plugged,
        fields=fields,
        seed=seed,
        seeds=seeds,
        threads=threads,
    )
    places = [None if place is None else Path(place) for place in (out, cache)]
    return run_comparison(host, question, out=places[0], cache=places[1], fresh=fresh)


def run_comparison(
    host: Host,
    question: Question,
    *,
    out: Path | None = None,
    cache: Path | None = None,
    fresh: bool = False,
    command: Sequence[str] = (),
    watch: Watch | None = None,
) -> ComparisonResult:
    """Measure every row and write the comparison to ``out``, or to a new folder among the runs.

    Rows that were measured before are taken from the cache with the cost they had, unless ``fresh``; an interrupted
    comparison goes on from there. Raises ``RunInterrupted`` after Ctrl-C and ``ArtefactError`` where a folder can't be
    written; what goes wrong in a row is the row's ``error``.
    """
    from scorefold_registry.experiments.comparison_report import write_comparison
    from scorefold_registry.run.environment import describe_environment

    watch, began = watch or Watch(), time.time()
    # Without it every row would fail alike.
    make_folder(area("cache", cache, ".scorefold/cache"))
    with _new_folder(question, out) as (folder, final):
        status = {"name": final.parent.name, "command": " ".join(command), "started": began}
        write_json(folder / "status.json", {"state": "running", **status})
        try:
            rows = list(_measured(host, question, Place(folder, cache, fresh), watch))
        finally:
            watch.close()
        seconds = time.time() - began
        rows = with_regrets(rows, question.comparison)
        result = ComparisonResult(question.kind, question.comparison, tuple(rows), folder, seconds)
        write_comparison(folder, result, describe_environment(host.plugins, "cpu", question.seeds[0]), command)
        write_json(folder / "status.json", {"state": "complete", **status, "ended": time.time(), "seconds": seconds})
    return replace(result, folder=final)


@contextmanager
def _new_folder(question: Question, out: Path | None) -> Iterator[tuple[Path, Path]]:
    """Where a comparison is written, and where it stands in the end."""
    if out is not None:
        refuse_others(out, ROWS)
        make_folder(out / ROWS)
        yield out, out
        return
    parent = area("runs", None, "runs").absolute() / f"compare-{question.kind.lower()}"
    with run_folders.new_run(parent, f"{datetime.now():%Y%m%d-%H%M%S}") as folder:
        (folder / ROWS).mkdir()
        final = run_folders.final_name(folder)
        yield folder, final
        folder.rename(final)


def _measured(host: Host, question: Question, place: Place, watch: Watch) -> Iterator[Row]:
    """Every row as it comes. What can't be measured is a row too, with the reason."""
    watch.began(len(question.pairs))
    for registered, case in question.pairs:
        label = host.catalogue.pinned(registered).rpartition("@")[0]
        shown = watch.started(f"{label} on {case.name}")
        row = Row(component=label, case=case.name, truth=case.truth)
        row = over_seeds(
            [_measure(host, question, place, registered, case, row, seed, shown) for seed in question.seeds]
        )
        watch.ended(row_text(row), failed=row.error is not None)
        yield row


def _measure(
    host: Host,
    question: Question,
    place: Place,
    registered: Registered,
    case: Case,
    row: Row,
    seed: int,
    shown: Silent | None,
) -> Row:
    from scorefold_registry.run.pipeline import run_plan

    ending = f"-seed-{seed}" if len(question.seeds) > 1 else ""
    name = file_name(f"{row.component}-{case.name}{ending}")
    file = place.folder / ROWS / f"{name}.yaml"
    file.with_suffix(".txt").unlink(missing_ok=True)
    try:
        stages = stages_of(host.catalogue, registered, question.comparison, case, question.choices)
        write_text(file, _run_text(name, seed, question.threads, stages))
        row = replace(row, run_file=f"{ROWS}/{file.name}", uses=_uses(stages))
        plan = make_plan(host.catalogue, read(file))
        result = run_plan(host, plan, runs=file.parent, cache=place.cache, fresh=place.fresh, progress=shown)
        measured = _read(row, result.folder, [stage.name for stage in result.stages])
    except Exception as error:
        _keep_traceback(file.parent / name, file.with_suffix(".txt"))
        return replace(row, error=_said(error), skipped=isinstance(error, (NotOnThisCaseError, ShapeError)))
    shutil.rmtree(file.parent / name, ignore_errors=True)
    return measured


def _run_text(name: str, seed: int, threads: int, stages: Mapping[str, Any]) -> str:
    from scorefold_registry.runfile.yaml_reader import yaml_text

    return yaml_text(
        {"version": 1, "name": name, "seed": seed, "runtime": {"threads": threads}, "stages": dict(stages)}
    )


def _uses(stages: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """The components that were plugged in, data apart."""
    made = [stage["use"] for name, stage in stages.items() if name != "data" and ":" in stage["use"]]
    return tuple(made[:-1])


def _said(error: Exception) -> str:
    """Why a row has no number, in a line."""
    if not isinstance(error, ScorefoldError):
        return printable(describe(error))
    hint = "" if isinstance(error, PluginError) or not error.hint else f" ({error.hint})"
    return printable(" ".join(f"{error.message}{hint}".split()))


def _keep_traceback(runs: Path, target: Path) -> None:
    """Keep what a failed run knows of its error, and drop the rest of it."""
    for log in runs.glob("*/error.txt"):
        shutil.copyfile(log, target)
    shutil.rmtree(runs, ignore_errors=True)


def _read(row: Row, folder: Path, stages: Sequence[str]) -> Row:
    """What a run answered and what it cost, from the folders of its stages."""
    facts = {name: read_stage(folder / name) for name in stages}
    results = {name: read_result(folder / name) for name in stages}
    last = facts[stages[-1]]
    answer = _answer(last["verb"], results[stages[-1]].get("answer"))
    if answer is None:
        reason = f"the verb {last['verb']!r} gave no answer on these data"
        return replace(row, error=reason)
    interval = answer.get("interval")
    trained = [facts[name]["cpu_seconds"] or 0.0 for name in stages if results[name].get("trained")]
    return judged(
        replace(
            row,
            quantity=answer["quantity"],
            value=_number_if_any(answer["value"]),
            headline=str(answer["headline"]) if answer.get("headline") else None,
            interval=None if interval is None else (_number(interval[0]), _number(interval[1])),
            truth=row.truth if row.truth is not None else _number_if_any(answer.get("truth")),
            cpu_seconds=last["cpu_seconds"],
            network_calls=last["network_calls"],
            training_cpu_seconds=sum(trained) if trained else None,
        )
    )


def _answer(verb: str, answer: Any) -> Mapping[str, Any] | None:
    """What a verb answered, None where it gave nothing. Raises ``DataError`` for what is no answer."""
    if answer is None:
        return None
    interval = answer.get("interval") if isinstance(answer, Mapping) else None
    if (
        not isinstance(answer, Mapping)
        or not isinstance(answer.get("quantity"), str)
        or "value" not in answer
        or not (interval is None or (isinstance(interval, list) and len(interval) == 2))
    ):
        raise DataError(
            f"the verb {verb!r} answered {answer!r:.200}; expected a mapping with a quantity as text, a value and, "
            "where they are known, an interval of two numbers and the truth"
        )
    return answer


def _number(value: Any) -> float:
    """A number that an answer gives. Raises ``DataError`` for what is none."""
    number = as_number(value)
    if number is None:
        raise DataError(f"the answer is {value!r}; expected a number")
    return number


def _number_if_any(value: Any) -> float | None:
    return None if value is None else _number(value)
