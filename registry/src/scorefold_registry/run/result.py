"""The result of a run, its events, and the plugins that watch it: one that fails stops nothing and hides no other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pluggy

from scorefold.artefacts import json_text
from scorefold.errors import ScorefoldError
from scorefold.stage import Executor, RunInfo, StageInfo
from scorefold_registry.plugins.loading import describe, own_frame, raised_by
from scorefold_registry.plugins.names import with_article
from scorefold_registry.plugins.process_guard import guarded

PATIENCE = 60.0
"""Seconds after which a hook that still runs is named. Nothing ends it: sending a large file may take longer."""


class Events:
    """``events.jsonl``: one JSON object a line, written out at once, so that a killed run keeps its story."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, event: str, **facts: Any) -> None:
        """Add an event with the time (seconds since 1970)."""
        line = json_text({"time": round(time.time(), 3), "event": event, **facts})
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def moved(self, path: Path) -> None:
        """The file stands elsewhere from now on."""
        self._path = path


@dataclass(frozen=True)
class Failure:
    """A plugin's hook that raised while it watched."""

    plugin: str
    hook: str
    stage: str | None
    error: str
    frame: str | None

    def text(self) -> str:
        """The failure in one line."""
        where = f" in stage {self.stage!r}" if self.stage else ""
        at = f" at {self.frame}" if self.frame else ""
        return f"plugin {self.plugin!r}: {self.hook} failed{where}: {self.error}{at}"


@dataclass(frozen=True)
class Own:
    """An argument of which each hook gets one of its own."""

    make: Callable[[], Any]


@dataclass
class Observers:
    """Calls lifecycle hooks of a run, each plugin by itself, and puts back what it changes around it.

    ``failures`` lists the first failure of each plugin's hook. ``files_back`` restores the folders of stages, and
    returns the changes that it found. ``warn`` gets the name of a plugin and a sentence about a hook that takes long.
    """

    manager: pluggy.PluginManager
    events: Events
    run: RunInfo
    files_back: Callable[[], list[str]]
    warn: Callable[[str, str], None]
    failures: list[Failure] = field(default_factory=list)

    def notify(self, hook: str, *, stage_name: str | None = None, **arguments: Any) -> None:
        """Call a hook for what it does."""
        for _ in self.ask(hook, stage_name=stage_name, **arguments):
            pass

    def ask(self, hook: str, *, stage_name: str | None = None, **arguments: Any) -> Iterator[tuple[str, Any]]:
        """Call a hook for its answers: pairs of a plugin's name and what it returned, in the order of the plugins."""
        # pluggy lists implementations in the reverse of the order in which it calls them.
        for implementation in reversed(getattr(self.manager.hook, hook).get_hookimpls()):
            plugin = implementation.plugin_name
            given = {name: _own({"run": self.run, **arguments}[name]) for name in implementation.argnames}
            with _unharmed(given.get("error")), guarded() as changed, self._named_if_slow(plugin, hook):
                answered, answer = self._call(implementation.function, given, plugin, hook, stage_name)
            changed = [f"{what}, which was put back" for what in changed]
            try:
                changed += self.files_back()
            except ScorefoldError as error:
                error.message += f", after {hook} of plugin {plugin!r}"
                raise
            for what in changed:
                self._record(Failure(plugin, hook, stage_name, f"it changes {what}", None))
            if answered:
                yield plugin, answer

    @contextmanager
    def _named_if_slow(self, plugin: str, hook: str) -> Iterator[None]:
        said = f"{hook} still runs after {PATIENCE:.0f} s; Ctrl-C ends the run, and --plugins=-{plugin} leaves it out"
        timer = threading.Timer(PATIENCE, self.warn, (f"plugin {plugin!r}", said))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _call(
        self, function: Callable[..., Any], given: Mapping[str, Any], plugin: str, hook: str, stage_name: str | None
    ) -> tuple[bool, Any]:
        try:
            answer = function(**given)
            # A generator runs when it is read, so it is read here, where its failure is caught.
            return True, list(answer) if isinstance(answer, Iterator) else answer
        except BaseException as error:
            package = function.__module__.partition(".")[0]
            if isinstance(error, KeyboardInterrupt) and not raised_by(error, {package}):
                raise
            self._record(Failure(plugin, hook, stage_name, describe(error), own_frame(error, {package})))
            return False, None

    def sections(self) -> list[tuple[str, str, str]]:
        """Sections of plugins in the report: (plugin, title, HTML fragment)."""
        found: list[tuple[str, str, str]] = []
        for plugin, answer in self.ask("scorefold_report_sections"):
            for section in answer if isinstance(answer, list | tuple) else (answer,) if answer else ():
                if isinstance(section, tuple) and len(section) == 2 and all(isinstance(part, str) for part in section):
                    found.append((plugin, *section))
                else:
                    error = f"{with_article(type(section).__name__)} is not a pair of a title and an HTML fragment"
                    self._record(Failure(plugin, "scorefold_report_sections", None, error, None))
        return found

    def figures_failed(self, stage_name: str, plugin: str, error: str) -> None:
        """Record that a stage's figures could not be drawn."""
        self._record(Failure(plugin, f"figures of {stage_name}", None, error, None))

    def close_executor(self, executor: Executor) -> None:
        """End an executor; one that can't be ended is recorded, and costs no result."""
        try:
            executor.close()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            package = type(executor).__module__.partition(".")[0]
            failure = Failure(package, "scorefold_executor", None, describe(error), own_frame(error, {package}))
            self._record(failure)

    def _record(self, failure: Failure) -> None:
        known = {(other.plugin, other.hook) for other in self.failures}
        if (failure.plugin, failure.hook) in known:
            return
        self.failures.append(failure)
        self.events.write("observer-failed", text=failure.text(), plugin=failure.plugin, hook=failure.hook)


def _own(argument: Any) -> Any:
    """An argument as a hook gets it, which no other hook sees."""
    if isinstance(argument, RunInfo | StageInfo):
        return replace(argument)
    return argument.make() if isinstance(argument, Own) else argument


@contextmanager
def _unharmed(error: BaseException | None) -> Iterator[None]:
    """Give an error its text and its facts back after a hook has seen it."""
    if error is None:
        yield
        return
    arguments, facts = error.args, dict(vars(error))
    try:
        yield
    finally:
        error.args = arguments
        vars(error).clear()
        vars(error).update(facts)


class RunInterrupted(KeyboardInterrupt):
    """The user stopped a run; repeat the command to continue from the last checkpoint."""

    def __init__(self, stage: str | None, folder: Path) -> None:
        super().__init__(stage)
        self.stage = stage
        self.folder = folder


@dataclass(frozen=True)
class StageResult:
    """Result of a stage of a run. ``seconds`` is wall time in this run; ``by_label`` has the answers for each label."""

    name: str
    component: str
    reused: bool
    seconds: float
    metrics: Mapping[str, Any]
    by_label: Sequence[Mapping[str, Any]] = ()


@dataclass
class RunResult:
    """A finished run: its folder, its report, its stages in order, and the observers that failed.

    >>> import scorefold as sf
    >>> run = sf.load_data("data:sphere", dimension=2, ambient=3, points=100, progress=False).run
    >>> [(stage.name, stage.component) for stage in run.stages], run.value("data").event_shape
    ([('data', 'data:sphere@1')], (3,))
    """

    name: str
    folder: Path
    report: Path
    stages: tuple[StageResult, ...]
    failures: tuple[Failure, ...]
    seconds: float
    _values: dict[str, Any] = field(repr=False, default_factory=dict)
    _load: Callable[[str], Any] | None = field(repr=False, default=None)

    def value(self, stage: str) -> Any:
        """The value of a stage: a model, a data source, an estimate. It is read when it is first asked for."""
        if stage not in self._values:
            assert self._load is not None
            self._values[stage] = self._load(stage)
        return self._values[stage]

    def as_json(self) -> dict[str, Any]:
        """The object that ``scorefold run --json`` prints."""
        return {
            "run": str(self.folder),
            "stages": [
                {
                    "name": stage.name,
                    "component": stage.component,
                    "reused": stage.reused,
                    "seconds": round(stage.seconds, 3),
                    "metrics": dict(stage.metrics),
                    **({"by_label": [dict(row) for row in stage.by_label]} if stage.by_label else {}),
                }
                for stage in self.stages
            ],
        }
