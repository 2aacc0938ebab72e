"""Every installed component of a kind, or with a capability, on the same cases, each row a run of its own."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scorefold.artefacts import write_json, write_text
from scorefold.errors import ConfigError, PluginError, ScorefoldError, ShapeError, printable
from scorefold.plugin import Comparison
from scorefold_registry.components.parts import anchored_use
from scorefold_registry.components.paths import file_name, from_here
from scorefold_registry.components.stage_files import read_result, read_stage
from scorefold_registry.experiments.cases import Case, find_cases
from scorefold_registry.experiments.engine import Experiment, TaskResult, Watch, run_here
from scorefold_registry.experiments.measures import verb_answer
from scorefold_registry.experiments.question import choose, find_components
from scorefold_registry.experiments.row_file import Choices, NotOnThisCaseError, run_text, stages_of, used_in
from scorefold_registry.experiments.rows import CaseRow, ComparisonResult, over_seeds, with_regrets
from scorefold_registry.plugins.locks import make_folder
from scorefold_registry.plugins.records import Registered
from scorefold_registry.run import folders as run_folders
from scorefold_registry.run.folders import area, refuse_others
from scorefold_registry.run.progress import Silent
from scorefold_registry.runfile.plan import make_plan
from scorefold_registry.runfile.reader import MOST_THREADS, read

if TYPE_CHECKING:
    from scorefold_registry.host import Host

ROWS = "rows"
Pair = tuple[Registered, Case]


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
    command: Sequence[str] = (),
    watch: Watch | None = None,
) -> ComparisonResult:
    """Compare all installed components of a kind, or with a capability, on common cases.

    ``kind`` is a kind or a capability; ``on``, ``only`` and ``skip`` are names, each one or several separated by
    commas; ``plugged`` maps ports to inline components, ``fields`` maps ``component.field`` to values. All of it is
    checked before anything runs and before torch is imported: ``ConfigError`` and ``PluginError`` for what does not
    exist or does not fit, with near misses.

    The comparison is written to ``out``, or to a new folder among the runs. Rows that were measured before are taken
    from the cache with the cost they had, unless ``fresh``; an interrupted comparison goes on from there. Raises
    ``Interrupted`` after Ctrl-C and ``ArtefactError`` where a folder can't be written; what goes wrong with one
    component is an ``error`` in its rows.
    """
    comparison, components = find_components(host.catalogue, kind, only, skip)
    cases = find_cases(host.catalogue, kind, comparison, on)
    choices = choose(host.catalogue, comparison, components, cases, plugged or {}, fields or {})
    for name, value, least in (("seed", seed, 0), ("seeds", seeds, 1), ("threads", threads, 1)):
        if value < least:
            raise ConfigError(f"{name} is {value}; expected at least {least}")
    if threads > MOST_THREADS:
        raise ConfigError(f"threads is {threads}; expected at most {MOST_THREADS}", hint="--threads 1")

    from scorefold_registry.experiments.output_files import write_comparison
    from scorefold_registry.run.environment import environment_contents

    began = time.time()
    # Without it every row would fail alike.
    make_folder(area("cache", cache, ".scorefold/cache"))
    with _new_folder(kind, None if out is None else Path(out)) as (folder, final):
        status = {"name": final.parent.name, "command": " ".join(command), "started": began}
        write_json(folder / "status.json", {"state": "running", **status})
        # Case by case, so that what a case needs is made once and used while it is at hand.
        pairs = [(component, case) for case in cases for component in components]
        all_seeds = range(seed, seed + seeds)
        experiment = _Comparison(pairs, host, comparison, choices, folder / ROWS, threads, cache, fresh, all_seeds)
        rows = with_regrets(run_here(experiment, watch or Watch()), comparison)
        seconds = time.time() - began
        result = ComparisonResult(kind, comparison, tuple(rows), folder, seconds)
        write_comparison(result, environment_contents(host.plugins, "cpu", seed), command)
        write_json(folder / "status.json", {"state": "complete", **status, "ended": time.time(), "seconds": seconds})
    return replace(result, folder=final)


@contextmanager
def _new_folder(kind: str, out: Path | None) -> Iterator[tuple[Path, Path]]:
    """Temporary and final folder of a comparison."""
    if out is not None:
        refuse_others(out, ROWS)
        make_folder(out / ROWS)
        yield out, out
        return
    parent = area("runs", None, "runs").absolute() / f"compare-{kind.lower()}"
    with run_folders.new_run(parent, f"{datetime.now():%Y%m%d-%H%M%S}") as folder:
        (folder / ROWS).mkdir()
        final = run_folders.final_name(folder)
        yield folder, final
        folder.rename(final)


@dataclass
class _Comparison(Experiment[Pair, CaseRow, CaseRow]):
    """The rows of a comparison as the engine makes them: a run file each, run in this process, which counts calls."""

    tasks: Sequence[Pair]
    host: Host
    comparison: Comparison
    choices: Choices
    folder: Path
    threads: int
    cache: Path | str | None
    fresh: bool
    seeds: Sequence[int] = (0,)
    stages: dict[Path, dict[str, dict[str, Any]]] = field(default_factory=dict)
    """Those of the run files that were written."""

    def label(self, task: Pair) -> str:
        return f"{self._component(task)} on {task[1].name}"

    def run(self, task: Pair, seed: int, shown: Silent | None) -> CaseRow:
        from scorefold_registry.run.pipeline import run_plan

        file = self._file(task, seed)
        catalogue = self.host.catalogue
        stages = stages_of(catalogue, task[0], self.comparison, task[1], self.choices)
        # The file stands among the rows, and what was asked is seen from here.
        stages = {name: anchored_use(catalogue, stage, from_here) for name, stage in stages.items()}
        write_text(file, run_text(file.stem, seed, self.threads, stages))
        self.stages[file] = stages
        plan = make_plan(self.host.catalogue, read(file))
        places: dict[str, Any] = {"runs": self.folder, "cache": self.cache}
        # The folder of the run goes, so its page would be seen by nobody.
        result = run_plan(self.host, plan, **places, fresh=self.fresh, progress=shown, page=False)
        return _answered(self._begun(task, seed), result.folder, [stage.name for stage in result.stages])

    def row(self, task: Pair, answers: Sequence[TaskResult[CaseRow]]) -> CaseRow:
        rows = [self._ended(task, seed, answer) for seed, answer in zip(self.seeds, answers, strict=False)]
        return over_seeds(rows, len(self.seeds))

    def line(self, row: CaseRow) -> str:
        from scorefold_registry.experiments.table import compared_line

        return compared_line(row)

    def _component(self, task: Pair) -> str:
        return self.host.catalogue.pinned(task[0]).rpartition("@")[0]

    def _file(self, task: Pair, seed: int) -> Path:
        ending = f"-seed-{seed}" if len(self.seeds) > 1 else ""
        return self.folder / f"{file_name(f'{self._component(task)}-{task[1].name}{ending}')}.yaml"

    def _begun(self, task: Pair, seed: int) -> CaseRow:
        """The row of a task before it is measured."""
        row = CaseRow(self._component(task), task[1].name, truth=task[1].truth)
        file = self._file(task, seed)
        if file not in self.stages:
            return row
        return replace(row, run_file=f"{ROWS}/{file.name}", uses=used_in(self.stages[file]))

    def _ended(self, task: Pair, seed: int, answer: TaskResult[CaseRow]) -> CaseRow:
        """The row of one seed. Of its run nothing stays but the run file and the traceback of a failure."""
        file = self._file(task, seed)
        runs, traceback = file.with_suffix(""), file.with_suffix(".txt")
        traceback.unlink(missing_ok=True)
        for log in runs.glob("*/error.txt") if answer.error is not None else ():
            shutil.copyfile(log, traceback)
        shutil.rmtree(runs, ignore_errors=True)
        if answer.error is None:
            assert answer.value is not None
            return answer.value
        skipped = isinstance(answer.error, (NotOnThisCaseError, ShapeError))
        return replace(self._begun(task, seed), error=_in_a_line(answer.error), skipped=skipped)


def _answered(row: CaseRow, folder: Path, stages: Sequence[str]) -> CaseRow:
    """The row with what a run answered and what it cost, from the folders of its stages."""
    facts = {name: read_stage(folder / name) for name in stages}
    results = {name: read_result(folder / name) for name in stages}
    last = facts[stages[-1]]
    answer = verb_answer(last["verb"], results[stages[-1]].get("answer"), row.truth)
    if answer is None:
        return replace(row, error=f"the verb {last['verb']!r} gave no answer on these data")
    trained = [facts[name]["cpu_seconds"] or 0.0 for name in stages if results[name].get("trained")]
    return replace(
        row,
        **answer,
        cpu_seconds=last["cpu_seconds"],
        network_calls=last["network_calls"],
        training_cpu_seconds=sum(trained) if trained else None,
    )


def _in_a_line(error: ScorefoldError) -> str:
    """Reason why a row has no number, in a line."""
    hint = "" if isinstance(error, PluginError) or not error.hint else f" ({error.hint})"
    return printable(" ".join(f"{error.message}{hint}".split()))
