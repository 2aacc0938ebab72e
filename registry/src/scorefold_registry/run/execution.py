"""A run while it goes on: stages in order, each created, done and saved, or reused; observers notified; a report."""

from __future__ import annotations

import shlex
import shutil
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from scorefold.artefacts import json_text, new_folder, write_json, write_text
from scorefold.errors import PluginError, ScorefoldError
from scorefold.interfaces import DataSource
from scorefold.seeds import derive_seed
from scorefold.stage import Executor, RunInfo, Show, StageContext, StageInfo, showing
from scorefold_registry.components.stage_files import read_result, read_stage
from scorefold_registry.plugins.loading import raised_by
from scorefold_registry.plugins.process_guard import guarded
from scorefold_registry.plugins.records import workers_of
from scorefold_registry.run import environment
from scorefold_registry.run import folders as run_folders
from scorefold_registry.run.environment import environment_contents
from scorefold_registry.run.executor import LocalExecutor, plugins_executor
from scorefold_registry.run.folders import Cache
from scorefold_registry.run.keys import key_of
from scorefold_registry.run.progress import Silent
from scorefold_registry.run.report import CITATIONS, write_report
from scorefold_registry.run.result import Events, Observers, Own, RunInterrupted, RunResult, StageResult
from scorefold_registry.run.stage_builder import StageBuilder, fingerprints, rehearse
from scorefold_registry.run.stage_folder import draw_again, write_stage
from scorefold_registry.run.stage_values import Inputs, SeenOutcome, StageValues, frozen
from scorefold_registry.run.stage_work import StageWork, runners, stage_error
from scorefold_registry.runfile.citations import citations
from scorefold_registry.runfile.plan import Plan, PlannedStage
from scorefold_registry.runfile.reader import ENVIRONMENTS, RunFileError
from scorefold_registry.runfile.yaml_reader import yaml_text

if TYPE_CHECKING:
    from scorefold_registry.host import Host


_OURS = {"scorefold_registry", "scorefold_toolkit", "scorefold_verbs", "scorefold_dask"}
"""Packages that pass Ctrl-C on by raising it again."""


class RunExecution:
    """One run while it goes on, in ``folder``. ``command`` is the command line that repeats it; ``jobs`` does the jobs
    inside its stages, in place of a plugin's executor and of local processes, and is closed by whoever gave it.
    Without ``page`` there is no report, and figures that can be drawn at any time are left to a later run."""

    def __init__(
        self,
        host: Host,
        plan: Plan,
        folder: Path,
        cache: Cache,
        builder: StageBuilder,
        *,
        progress: Silent,
        fresh: bool,
        command: Sequence[str],
        jobs: Executor | None = None,
        page: bool = True,
    ) -> None:
        self.page, self.due = page, list[tuple[PlannedStage, str]]()
        self.host, self.plan, self.cache, self.builder = host, plan, cache, builder
        self.progress, self.fresh, self.command, self.jobs = progress, fresh, command, jobs
        self.resolved = plan.as_json(host.catalogue)
        plugins = MappingProxyType(dict(plan.plugins))
        self.info = RunInfo(plan.run.name, folder, plan.run.seed, frozen(self.resolved), plugins)
        names = tuple(planned.name for planned in plan.stages)
        self.values = StageValues(host, folder, builder.device, cache, names)
        self.events = Events(folder / "events.jsonl")
        self.observers = Observers(host.manager, self.events, self.info, self.values.put_files_back, progress.warned)
        self.status: dict[str, Any] = {}
        self.texts: dict[str, str] = {}
        self.keys: dict[str, str] = {}
        self.fingerprints: dict[str, str | None] = {}
        self.sources: dict[str, Any] = {}
        self.results: list[StageResult] = []
        self.current: str | None = None
        self.rehearsed = False

    def run(self) -> RunResult:
        """Do every stage. Raises ``RunInterrupted`` after Ctrl-C and the error of a stage that fails."""
        began = time.monotonic()
        try:
            return self._run(began)
        finally:
            self.progress.close()

    def _run(self, began: float) -> RunResult:
        self._write_head()
        self.observers.notify("scorefold_before_run")
        try:
            with workers_of(self.host.plugins), self._executor():
                for number, planned in enumerate(self.plan.stages, start=1):
                    self._stage(planned, number)
            self.current = None
            result, sections = self._finish(time.monotonic() - began)
        except KeyboardInterrupt:
            interrupted = RunInterrupted(self.current, self.info.folder)
            self._end("interrupted", stage=self.current)
            self._notify_error("interrupted", interrupted)
            raise interrupted from None
        except Exception as error:
            self._end("failed", stage=self.current, error=str(error))
            self._notify_error("failed", error)
            raise
        return self._notify_end(result, sections)

    def _write_head(self) -> None:
        folder, file = self.info.folder, self.plan.run
        about = environment_contents(self.host.plugins, self.builder.device, file.seed, environment.process_count())
        self.texts = {
            "run.yaml": file.text,
            "resolved.yaml": yaml_text(self.resolved),
            "environment.json": json_text(about, indent=2) + "\n",
        }
        for each in self.plan.environments:
            self.texts[f"{ENVIRONMENTS}/{each.spec.name}.txt"] = each.lock
            self.texts[f"{ENVIRONMENTS}/{each.spec.name}.json"] = json_text(each.facts(), indent=2) + "\n"
        with suppress(PluginError):  # a citation that can't be read costs no run
            self.texts[CITATIONS] = citations(self.host.catalogue, self.plan).bibtex() + "\n"
        self._write_texts()
        command_text = shlex.join(self.command)
        self.status = {"state": "running", "name": file.name, "command": command_text, "started": time.time()}
        write_json(folder / "status.json", self.status)
        self.events.write("run-started", name=file.name, seed=file.seed, command=command_text)

    def _write_texts(self) -> None:
        for name, text in self.texts.items():
            (self.info.folder / name).parent.mkdir(exist_ok=True)
            write_text(self.info.folder / name, text)

    @contextmanager
    def _executor(self) -> Iterator[None]:
        """Executor for the jobs inside stages: the given executor, a plugin's, or the default."""
        import torch

        executor = self.jobs or plugins_executor(self.host, self.info)
        executor = executor or LocalExecutor(self.plan.run.runtime.workers, torch.get_num_threads())
        self.builder, self.values.executor = replace(self.builder, executor=executor), executor
        try:
            yield
        finally:
            if self.jobs is None:
                self.observers.close_executor(executor)

    def _end(self, state: str, **facts: Any) -> None:
        write_json(self.info.folder / "status.json", {**self.status, "state": state, "ended": time.time(), **facts})
        self.events.write(f"run-{state}", **facts)

    def _notify_error(self, state: str, error: BaseException) -> None:
        self.observers.notify("scorefold_on_run_error", state=state, error=error)

    def _finish(self, seconds: float) -> tuple[RunResult, list[tuple[str, str, str]]]:
        """Write the report and give the folder its name; the result, and what plugins added to the report."""
        partial, final = self.info.folder, run_folders.final_name(self.info.folder)
        for planned, key in self.due if self.page else ():
            self._draw(planned, key)
        sections = self.observers.sections()
        self._write_texts()  # anybody may write into the folder of a run
        result = RunResult(
            name=self.info.name,
            folder=final,
            report=final / "report.html",
            stages=tuple(self.results),
            failures=tuple(self.observers.failures),
            seconds=seconds,
            _values=self.values.data_copies(),
            _load=self.values.after_the_run(final),
        )
        self._end("complete", seconds=seconds, **result.as_json())
        if self.page:
            write_report(partial, sections, [failure.text() for failure in self.observers.failures])
        partial.rename(final)
        run_folders.link_latest(final)
        return result, sections

    def _notify_end(self, result: RunResult, sections: Sequence[tuple[str, str, str]]) -> RunResult:
        """Notify the observers of a run that is complete; an observer that fails now still stands in the report."""
        self.events.moved(result.folder / "events.jsonl")
        self.info = self.observers.run = replace(self.info, folder=result.folder)
        self.values.moved(result.folder)
        self.observers.notify("scorefold_after_run", result=frozen(result.as_json()))
        if len(self.observers.failures) > len(result.failures):
            result = replace(result, failures=tuple(self.observers.failures))
            write_report(result.folder, sections, [failure.text() for failure in result.failures])
        return result

    def _stage(self, planned: PlannedStage, number: int) -> None:
        self.current = planned.name
        began = time.monotonic()
        shown = planned.registered.id if planned.source is None else f"{planned.source}, {planned.verb.name}"
        self.progress.stage_started(planned.name, shown, number, len(self.plan.stages))
        info = StageInfo(
            name=planned.name,
            component=planned.registered.component.versioned_id,
            verb=planned.verb.name,
            key="",
            config=self.info.config["stages"][planned.name],
            line=planned.line,
            column=planned.column,
        )
        try:
            with guarded():
                key = self._key(planned)
                info = replace(info, key=key)
                self.keys[planned.name] = key
                with self.cache.lock(key, lambda: self.progress.waiting(planned.name)):
                    target = self.info.folder / planned.name
                    reused = not self.fresh and planned.artefact is None and self.cache.fetch(key, target)
                    if reused:
                        self.values.written(planned.name, key, self.sources.pop(planned.name, None))
                    else:
                        self._compute(planned, info, began)
        except BaseException as error:
            # A plugin that ends the process, or pretends that Ctrl-C was pressed, would end the run without a word.
            packages = set().union(*(record.packages for record in self.host.plugins)) - _OURS
            if isinstance(error, KeyboardInterrupt) and not raised_by(error, packages):
                raise
            raise self._failed(planned, info, error) from error
        self._ended(planned, info, reused, time.monotonic() - began)

    def _key(self, planned: PlannedStage) -> str:
        import torch

        digests: list[str | None] = []
        creates = planned.source is None and planned.artefact is None
        if creates and planned.registered.component.kind == "data":
            source = self.builder.source(planned, self.values.value)
            assert planned.config is not None
            digests = fingerprints(source, planned.config)
            self.fingerprints[planned.name] = digests[0]
            self.sources[planned.name] = source
        digests += self.builder.inline_fingerprints(planned, self.values.value)
        runtime = self.plan.run.runtime
        surroundings = {
            "seed": derive_seed(self.info.seed, planned.name),
            "torch": torch.__version__,
            "device": self.builder.device.partition(":")[0],
            "dtype": runtime.dtype,
            "default_dtype": str(torch.get_default_dtype()),
            "precision": runtime.precision,
            "threads": torch.get_num_threads(),
        }
        if environment.current_team() is not None:
            surroundings |= {"processes": environment.process_count(), "parallel": runtime.parallel}
        return key_of(self.host, planned, self.keys.__getitem__, digests, surroundings)

    def _compute(self, planned: PlannedStage, info: StageInfo, began: float) -> None:
        """Run the stage, write its folder and keep it. The key's lock is held."""
        if planned.registered.component.kind != "data":
            self._rehearse(planned)
        checkpoints = self.cache.checkpoints(info.key)
        if self.fresh:
            shutil.rmtree(checkpoints, ignore_errors=True)
        self.events.write("stage-started", stage=planned.name, component=info.component, key=info.key)
        self.observers.notify(
            "scorefold_before_stage",
            stage_name=planned.name,
            stage=info,
            inputs=Own(lambda: Inputs(planned.after, self.values.value)),
        )
        context, source = self._context(planned, info, checkpoints), self.sources.pop(planned.name, None)
        work = StageWork(self.builder, self.values, planned, context, source)
        outcome = work.run(self.info, info, self.fingerprints)
        facts = self._facts(planned, info, work, time.monotonic() - began)
        target = self.info.folder / planned.name
        with new_folder(target) as partial, showing(self._advanced(planned.name)):
            # Figures of data would keep a training waiting. Who watches the run gets them with their stage.
            later = not self.page or (planned.registered.component.kind == "data" and not self.info.plugins)
            write_stage(self.host, planned, work.component, outcome, partial, facts, later=later)
        kept = planned.artefact is None and work.repeatable
        if kept:
            self.cache.store(info.key, target)
        else:
            # Not kept: a reference holds only where it stands, and what changed its surroundings may not hold at all.
            shutil.rmtree(checkpoints, ignore_errors=True)
        data = outcome.value if isinstance(outcome.value, DataSource) else None
        self.values.written(planned.name, info.key if kept else None, data)
        if data is not None:
            self.values.value(planned.name)  # now, while no other code has been called
        self.observers.notify(
            "scorefold_after_stage",
            stage_name=planned.name,
            stage=info,
            outputs=Own(lambda: SeenOutcome(outcome, lambda: self.values.value(planned.name))),
            seconds=time.monotonic() - began,
        )

    def _facts(self, planned: PlannedStage, info: StageInfo, work: StageWork, seconds: float) -> dict[str, Any]:
        """The facts of a computed stage that its folder keeps beside the result."""
        return {
            "name": planned.name,
            "component": info.component,
            "distribution": planned.registered.distribution,
            "version": planned.registered.version,
            "summary": planned.registered.component.summary,
            "verb": planned.verb.name,
            "gives": planned.verb.gives,
            "source": planned.source,
            "key": info.key,
            "seed": derive_seed(self.info.seed, planned.name),
            "resolved": info.config,
            "computed": time.time(),
            "seconds": seconds,
            "cpu_seconds": work.cpu_seconds,
            "peak_memory": work.peak_memory,
            "network_calls": work.calls,
        }

    def _rehearse(self, planned: PlannedStage) -> None:
        """Try what is left of the run once, before the first stage that may take long. Raises what is wrong."""
        if self.rehearsed:
            return
        self.rehearsed = True
        stages = self.plan.stages[self.plan.stages.index(planned) :]
        if problems := rehearse(self.builder, self.plan, self.values.on_cpu, stages):
            raise problems[0] if len(problems) == 1 else RunFileError(problems)

    def _context(self, planned: PlannedStage, info: StageInfo, checkpoints: Path) -> StageContext:
        runtime = self.plan.run.runtime
        checkpoints.mkdir(parents=True, exist_ok=True)
        return StageContext(
            stage=planned.name,
            seed_root=self.info.seed,
            split=planned.split,
            device=self.builder.device,
            dtype=self.builder.dtype,
            precision=runtime.precision,
            parallel=runtime.parallel,
            together=None if (others := environment.current_team()) is None else others.job,
            checkpoint_dir=checkpoints,
            executor=self.builder.executor,
            metrics=lambda step, values: self._measured(info, step, values),
            progress=self._advanced(planned.name),
            warn=lambda text: self.progress.warned(planned.name, text),
        )

    def _advanced(self, name: str) -> Show:
        return lambda done, total, text: self.progress.advanced(name, done, total, text)

    def _measured(self, stage: StageInfo, step: int, metrics: Mapping[str, float]) -> None:
        self.events.write("metrics", stage=stage.name, step=step, metrics=dict(metrics))
        self.progress.measured(stage.name, step, metrics)
        self.observers.notify(
            "scorefold_on_metrics",
            stage_name=stage.name,
            stage=stage,
            step=step,
            metrics=frozen(metrics),
        )

    def _ended(self, planned: PlannedStage, info: StageInfo, reused: bool, seconds: float) -> None:
        folder = self.info.folder / planned.name
        said = read_result(folder)
        metrics = said["metrics"]
        facts = read_stage(folder)
        if facts.get("figures_due"):
            self.due.append((planned, info.key))
        elif facts["figure_failure"] is not None and reused:
            self._draw(planned, info.key)
        elif facts["figure_failure"] is not None:
            self.observers.figures_failed(planned.name, planned.registered.plugin, facts["figure_failure"])
        result = StageResult(planned.name, info.component, reused, seconds, metrics, said.get("by_label", ()))
        self.results.append(result)
        if _note_steps(self.resolved["stages"][planned.name], metrics):
            self.texts["resolved.yaml"] = yaml_text(self.resolved)
            self._write_texts()
            self.info = self.observers.run = replace(self.info, config=frozen(self.resolved))
        self.events.write("stage-ended", stage=planned.name, reused=reused, seconds=round(seconds, 3), metrics=metrics)
        self.progress.stage_ended(planned.name, seconds, reused, metrics)

    def _draw(self, planned: PlannedStage, key: str) -> None:
        """Draw the figures of a finished stage from its value, and keep them with it."""
        folder = self.info.folder / planned.name
        with guarded():
            failure = draw_again(self.host, planned, folder, self.values.value(planned.name))
        kept = self.values.key_of(planned.name)
        self.values.written(planned.name, kept)
        if failure is not None:
            self.observers.figures_failed(planned.name, planned.registered.plugin, failure)
        elif kept is not None:
            with self.cache.lock(key):
                self.cache.store(key, folder)

    def _stage_error(self, planned: PlannedStage, error: BaseException, log: Path) -> ScorefoldError:
        return stage_error(self.host.plugins, planned, error, log, runners(self.host, error))

    def _failed(self, planned: PlannedStage, info: StageInfo, error: BaseException) -> ScorefoldError:
        """The error to show, with the stage's place in the file; everything known of it goes to ``error.txt``."""
        text = "".join(traceback.format_exception(error))
        log = self.info.folder / "error.txt"
        write_text(log, text)
        shown = error if isinstance(error, ScorefoldError) else self._stage_error(planned, error, log)
        if planned.line is not None:
            shown.at(planned.file or self.plan.run.path, planned.line, planned.column)
        self.events.write("stage-failed", stage=planned.name, error=str(shown))
        self.observers.notify("scorefold_on_stage_error", stage_name=planned.name, stage=info, error=shown)
        return shown


def _note_steps(resolved: dict[str, Any], metrics: Mapping[str, Any]) -> bool:
    """Write the steps and the batch of a training into its resolved stage in place of its minutes, so that a run of
    the file repeats it; whether there was something to write."""
    training = resolved.get("config", {}).get("training")
    if not isinstance(training, dict) or training.get("minutes") is None or "steps" not in metrics:
        return False
    training.update(steps=int(metrics["steps"]), minutes=None)
    if "batch size" in metrics:
        training["batch_size"] = int(metrics["batch size"])
    return True
