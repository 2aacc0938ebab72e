"""Every installed component of a kind, or with a capability, on the same cases, each row a run of its own.

The request, components and choices for all rows, is checked before anything runs.
"""

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
from scorefold.config import Use
from scorefold.errors import ConfigError, PluginError, ScorefoldError, ShapeError, printable
from scorefold.plugin import Comparison, Port
from scorefold_registry.components.catalogue import Catalogue
from scorefold_registry.components.messages import config_error
from scorefold_registry.components.parts import anchored_use, check_config, options_model
from scorefold_registry.components.paths import file_name, from_here
from scorefold_registry.components.stage_files import read_result, read_stage
from scorefold_registry.experiments.cases import Case, check_cases, find_cases
from scorefold_registry.experiments.engine import Experiment, TaskResult, Watch, run_here
from scorefold_registry.experiments.measures import numbers_of, verb_answer
from scorefold_registry.experiments.row_file import (
    Choices,
    NotOnThisCaseError,
    as_inline,
    own_config,
    run_text,
    stages_of,
    used_in,
    with_field,
)
from scorefold_registry.experiments.rows import CaseRow, ComparisonResult, over_seeds, with_regrets
from scorefold_registry.plugins.locks import make_folder
from scorefold_registry.plugins.names import did_you_mean, sentences, with_article
from scorefold_registry.plugins.records import Registered
from scorefold_registry.run import folders as run_folders
from scorefold_registry.run.folders import area, refuse_others
from scorefold_registry.run.progress import Silent
from scorefold_registry.runfile.loaded_stages import find_loaded
from scorefold_registry.runfile.plan import make_plan
from scorefold_registry.runfile.reader import MOST_THREADS, near, read

if TYPE_CHECKING:
    from scorefold_registry.host import Host


def find_components(
    catalogue: Catalogue, kind: str, only: Sequence[str], skip: Sequence[str]
) -> tuple[Comparison, list[Registered]]:
    """Comparison of a kind or capability, and its components: those in ``only`` or all, without those in ``skip``.

    ``only`` and ``skip`` are names, each one or several separated by commas. Raises ``ConfigError`` with near misses
    for what does not exist or is not compared.
    """
    able = [name for name, item in catalogue.kinds.items() if item.comparison is not None]
    able += [name for name, item in catalogue.capabilities.items() if item.comparison is not None]
    known = f"what can be compared: {', '.join(able)}"
    if kind in catalogue.capabilities:
        common = catalogue.capabilities[kind].comparison
        if common is None:
            raise ConfigError(f"components that provide {kind} have no number in common to compare", hint=known)
        found = [item for item in catalogue.components if kind in item.component.provides]
        comparison = common
    elif kind in catalogue.kinds:
        declared = catalogue.kinds[kind]
        if declared.comparison is None:
            inside = "parts of other components" if not declared.default else "what others are compared on"
            raise ConfigError(
                f"components of kind {kind} are not compared by themselves: they are {inside}",
                hint=sentences(known, "--plug, --set and --data choose what they are built from"),
            )
        comparison, found = declared.comparison, catalogue.of_kind(kind)
    else:
        near = did_you_mean(kind, [*catalogue.kinds, *catalogue.capabilities])
        raise ConfigError(f"there is no kind or capability {kind!r}", hint=sentences(near, known))
    if not only:
        # A component in an environment of its own is compared where it is named: adding one changes no table.
        found = [item for item in found if item.record.environment is None]
    if not found:
        raise ConfigError(f"no installed component is or provides {kind}", hint=known)
    return comparison, _chosen(found, only, skip)


def _chosen(components: Sequence[Registered], only: Sequence[str], skip: Sequence[str]) -> list[Registered]:
    """The components whose names are in ``only`` (or all), without those in ``skip``."""

    def named(texts: Sequence[str]) -> list[Registered]:
        found: list[Registered] = []
        parts = [part.strip() for given in texts for part in given.split(",") if part.strip()]
        if texts and not parts:
            raise ConfigError("--only and --skip need the name of a component", hint="for example --only pca,mle")
        for text in parts:
            these = [item for item in components if text in (item.component.name, item.id, item.qualified)]
            if not these:
                names = [item.component.name for item in components]
                hint = sentences(did_you_mean(text.rpartition(":")[2], names), f"compared are {', '.join(names)}")
                raise ConfigError(f"no compared component is called {text!r}", hint=hint)
            found += these
        return found

    kept, left_out = named(only) or list(components), named(skip)
    chosen = [item for item in components if item in kept and item not in left_out]
    if not chosen:
        raise ConfigError("every component was left out; nothing is compared")
    return chosen


def choose(
    catalogue: Catalogue,
    comparison: Comparison,
    components: Sequence[Registered],
    cases: Sequence[Case],
    plugged: Mapping[str, Any],
    fields: Mapping[str, Any],
) -> Choices:
    """Choices for all rows: components for ports, and values for ``component.field``.

    Raises ``ConfigError`` and ``PluginError`` for what does not exist or does not fit, with near misses, and for a case
    that the compared verb of a component can't be put on.
    """
    last, ports = comparison.verbs[-1], [port for item in components for port in item.component.requires]
    for owner, item in {item.component.kind: item for item in components}.items():
        kind = catalogue.kind(owner)
        verb = catalogue.verb(item.component, last) if last in kind.verb_names else kind.verb(last)
        if verb is not None:
            check_cases(cases, verb, options_model(verb))
            ports = [*(port for port in verb.takes if not port.passed_over), *ports]
    choices = Choices(_plugged(catalogue, ports, plugged), _fields(catalogue, fields))
    _check_fields(catalogue, components, cases, choices)
    return choices


def _plugged(catalogue: Catalogue, offered: Sequence[Port], given: Mapping[str, Any]) -> dict[str, Any]:
    """Choices for ports, checked against the ports of the components and of the compared verb."""
    ports = {port.name: port for port in offered if "data" not in port.kinds}
    found = {}
    for name, value in given.items():
        if name not in ports:
            known = f"their ports are {', '.join(ports)}" if ports else "none of them has a port beside data"
            raise ConfigError(
                f"no component here has a port {name!r}", hint=sentences(did_you_mean(name, ports), known)
            )
        several = ports[name].many and isinstance(value, list)
        parts = [_plugged_part(catalogue, ports[name], part) for part in (value if several else [value])]
        found[name] = parts if several else parts[0]
    return found


def _plugged_part(catalogue: Catalogue, port: Port, value: Any) -> Any:
    """A component for a port: inline, or a saved model as ``{load: ...}``, whose folder is anchored here."""
    if isinstance(value, Mapping) and set(value) == {"load"}:
        saved = find_loaded(catalogue, str(value["load"]), Path.cwd())
        found, value = saved.components[0], {"load": saved.place}
    else:
        inline = as_inline(value)
        if inline is None:
            hint = f"such as {port.name}={{use: kind:name}} or {port.name}={{load: FOLDER}}"
            raise ConfigError(f"port {port.name!r} is given {value!r}", hint=hint)
        found = catalogue.resolve(inline["use"])
        if isinstance(value, Mapping):
            _check_inline(port.name, value, found)
        config, problems = check_config(catalogue, found, inline["config"])
        if config is None or problems:
            raise config_error(f"the config of {found.id}", problems)
    if found.component.kind not in port.kinds:
        wanted = " or ".join(port.kinds)
        raise ConfigError(
            f"port {port.name!r} takes {with_article(wanted)}; {found.id} is {with_article(found.component.kind)}"
        )
    return value


def _check_inline(port: str, value: Mapping[str, Any], found: Registered) -> None:
    """Raises ``ConfigError`` for what a component named inline does not have, and for data, which are the case's."""
    for key, part in value.items():
        if key not in Use.model_fields:
            hint = near(str(key), tuple(Use.model_fields))
            raise ConfigError(f"port {port!r} is given a component with the key {key!r}", hint=hint)
        if key != "use" and not (part is None or isinstance(part, Mapping)):
            raise ConfigError(f"port {port!r} is given {key} {part!r}; expected a mapping")
    inner = {item.name: item for item in found.component.requires}
    for key in value.get("inputs") or {}:
        if key not in inner:
            hint = sentences(did_you_mean(str(key), inner), f"its ports are {', '.join(inner) or 'none'}")
            raise ConfigError(f"{found.id} has no port {key!r}", hint=hint)
        if "data" in inner[key].kinds:
            hint = "leave it out; --data selects the data"
            raise ConfigError(f"the port {key!r} of {found.id} gets the data of each case", hint=hint)


def _fields(catalogue: Catalogue, given: Mapping[str, Any]) -> dict[str, list[tuple[tuple[str, ...], Any]]]:
    """``component.field`` and values, by the component's qualified name."""
    found: dict[str, list[tuple[tuple[str, ...], Any]]] = {}
    for name, value in given.items():
        component, *path = name.split(".")
        if not path or not all(path):
            raise ConfigError(f"{name!r} names no field", hint="for example iddiff.points=16")
        found.setdefault(catalogue.resolve(component).qualified, []).append((tuple(path), value))
    return found


def _check_fields(
    catalogue: Catalogue, components: Sequence[Registered], cases: Sequence[Case], choices: Choices
) -> None:
    """Raises ``ConfigError`` for a chosen field that its component does not have, or of a value it does not take."""
    started = [(catalogue.resolve(case.data["use"]), case.data["config"]) for case in cases if case.data is not None]
    bases = {
        **{item.qualified: own_config(catalogue, item) for item in components},
        **{found.qualified: config for found, config in started},
    }
    for name, changes in choices.fields.items():
        registered = catalogue.resolve(name)
        config = bases.get(name, own_config(catalogue, registered))
        for path, value in changes:
            config = with_field(config, path, value)
        checked, problems = check_config(catalogue, registered, config)
        if checked is None or problems:
            raise config_error(f"the config of {registered.id}", problems)


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
    measures: Sequence[str] = (),
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
    commas; ``plugged`` maps ports to inline components, ``fields`` maps ``component.field`` to values,
    ``measures`` names further metrics of the compared verb for a table of their own. All of it but ``measures`` is
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
        result = ComparisonResult(kind, comparison, tuple(rows), folder, seconds, tuple(measures))
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
    """The stages of the run files that were written, by run file."""

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
        metrics=numbers_of(results[stages[-1]].get("metrics", {})),
        cpu_seconds=last["cpu_seconds"],
        network_calls=last["network_calls"],
        training_cpu_seconds=sum(trained) if trained else None,
    )


def _in_a_line(error: ScorefoldError) -> str:
    """Reason why a row has no number, in a line."""
    hint = "" if isinstance(error, PluginError) or not error.hint else f" ({error.hint})"
    return printable(" ".join(f"{error.message}{hint}".split()))
