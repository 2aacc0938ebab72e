"""A stage while it is computed: its inputs are made and its verb is called. What was changed on the way is found, and
an unexpected error names what is at fault."""

from __future__ import annotations

import errno
import threading
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from scorefold.errors import ArtefactError, PluginError, ScorefoldError, SplitError
from scorefold.interfaces import DataSource, Flow, ScoreModel, evaluations
from scorefold.stage import Outcome, RunInfo, StageContext, StageInfo, showing
from scorefold_registry.components.building import Memory
from scorefold_registry.components.saving import port_objects
from scorefold_registry.plugins.loading import describe, load_target, owners_of
from scorefold_registry.plugins.names import with_article
from scorefold_registry.plugins.process_guard import guarded, seeded
from scorefold_registry.plugins.records import PluginRecord
from scorefold_registry.run.os_process import cpu_seconds, peak_memory, restart_peak
from scorefold_registry.run.stage_builder import StageBuilder
from scorefold_registry.run.stage_values import Inputs, StageValues, changed_files
from scorefold_registry.run.units import in_units_of, spec_of, unit_warnings
from scorefold_registry.runfile.plan import PlannedStage

if TYPE_CHECKING:
    from scorefold_registry.host import Host

_COMPARED = 10_000
"""Points that are compared with the data of the model."""


@dataclass
class StageWork:
    """A stage while it is computed.

    ``component`` is what the verb acts on: the source of a data stage is built before, the components of others by
    ``compute``, as the ``inputs`` of the verb. ``given`` has the values of earlier stages that were read, ``changed``
    what the code changed in this process, ``drawn`` the global generators that moved, and ``calls`` the evaluations of
    score models and flows. ``repeatable`` is False where something was changed, so that the result is no other run's.
    Memory is in megabytes.
    """

    builder: StageBuilder
    values: StageValues
    planned: PlannedStage
    context: StageContext
    component: Any = None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    given: dict[str, list[Any]] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)
    drawn: list[str] = field(default_factory=list)
    calls: int | None = None
    repeatable: bool = True
    cpu_seconds: float = 0.0
    peak_memory: float | None = None

    def run(self, run: RunInfo, stage: StageInfo, digests: Mapping[str, str | None]) -> Outcome:
        """Have the hook ``scorefold_run_stage`` do the stage: by ``compute`` unless a plugin does it elsewhere.

        ``digests`` are the digests of the files that data sources read. Raises ``PluginError`` for an outcome that
        can't be written, and ``DataError`` where files changed while they were read.
        """
        self._import_code()
        source, started = self.component, cpu_seconds()
        restart_peak()
        with guarded() as around:
            inputs = Inputs(self.planned.after, self.value, self.compute)
            outcome = self.builder.host.hook.scorefold_run_stage(run=replace(run), stage=replace(stage), inputs=inputs)
        # A worker of an earlier run that ends meanwhile is counted in steps of 10 ms.
        self.cpu_seconds, self.peak_memory = max(0.0, cpu_seconds() - started), peak_memory()
        runner, name = self._runner(), self.planned.name
        check_outcome(outcome, runner)
        if source is not None and source.fingerprint() != digests[name]:
            raise changed_files(name, name)
        own = [f"{what}, which was put back" for what in self.changed]
        others = self.values.changed_by(name, self.given, digests)
        own += [f"the data of stage {other!r} while it read them" for other in others]
        blamed = ((self.owners(), own), (runner, [f"{what}, which was put back" for what in around]))
        texts = [f"{who} changed {' and '.join(w)}; no other run reuses this result" for who, w in blamed if w]
        self.repeatable = not texts
        if self.drawn:
            # A thread that has nothing to do with the stage moves them as well, so nobody is accused of more.
            who = f"{self.owners()}{', or another thread of this process,' if threading.active_count() > 1 else ''}"
            texts.append(f"{who} drew from {' and '.join(self.drawn)}, which this stage has seeded and put back")
        # Anybody may write into the folder of a run, and the stage had read what it needs.
        try:
            texts += [f"while the stage ran, somebody changed {what}" for what in self.values.put_files_back()]
        except ArtefactError as error:
            error.message += f", while stage {name!r} ran"
            raise
        if texts:
            outcome.result = {**outcome.result, "warnings": [*outcome.result.get("warnings", ()), *texts]}
        if self.component is None and self.builder.host.builder.memory.of(outcome.value) is not None:
            # Another runner did the stage, and gives what this host has loaded of it.
            self.component = outcome.value
        return outcome  # type: ignore[no-any-return]

    def value(self, name: str) -> Any:
        """The value of an earlier stage, as an object of this stage's own."""
        found = self.values.value(name)
        self.given.setdefault(name, []).append(found)
        return found

    def compute(self) -> Outcome:
        """Create the component, fill the verb's inputs and call the verb, in this process."""
        with guarded() as self.changed, seeded(self.context.seed("global generators")) as self.drawn:
            return self._compute()

    def _compute(self) -> Outcome:
        planned = self.planned
        if self.component is None:
            self.component = self.builder.component(planned, self.value, self.values.component)
        self.inputs = self.builder.inputs(planned, self.component, self.value)
        inputs, unlike = self._in_units(dict(self.inputs))
        outcome = self._called(inputs)
        if unlike:
            outcome.result = {**outcome.result, "warnings": [*unlike, *outcome.result.get("warnings", ())]}
        return outcome

    def _called(self, inputs: Mapping[str, Any]) -> Outcome:
        planned = self.planned
        with showing(self.context.progress):
            if planned.verb.gives == planned.registered.component.kind:
                # It makes or trains the component: what it costs is steps, and not evaluations.
                return call_verb(planned, self.component, inputs, self.context)
            models = models_of(self.builder.host.builder.memory, self.component, *inputs.values())
            with evaluations(models) as tally:
                outcome = call_verb(planned, self.component, inputs, self.context)
        self.calls = tally.points
        return outcome

    def _in_units(self, inputs: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Inputs with data in the units of the model's own, and warnings where other data are unlike them."""
        spec = spec_of(self.builder.host.builder.memory, self.component)
        if (
            spec is None or self.planned.verb.name == "sample"
        ):  # which reads conditions, and training points as they are
            return inputs, []
        data = inputs.get("data")
        found = {k: in_units_of(spec, v) if isinstance(v, DataSource) else v for k, v in inputs.items()}
        if not isinstance(data, DataSource) or data.event_scale == spec.event_scale:
            return found, []
        try:
            points = found["data"].load(self.context.split or "test").tensor(limit=_COMPARED)
        except SplitError:
            return found, []  # the verb says what is missing, if it needs points
        alike = tuple(points.shape[1:]) == tuple(spec.event_shape)
        return found, unit_warnings(spec.event_scale, points) if alike else []

    def _import_code(self) -> None:
        """Import the code that will run: what this costs is the process's business, and not the method's."""
        registered = self.planned.registered
        if (environment := registered.record.environment) is not None:
            environment.session()
        else:
            load_target(registered, registered.component.target)
        import_module(self.planned.verb.target.partition(":")[0])

    def owners(self) -> str:
        """The plugins whose code ran, for messages: of the component, the inputs, and what is plugged into them."""
        builder, own = self.builder.host.builder, self.planned.registered.plugin
        values = [item for value in self.inputs.values() for item in (value if isinstance(value, list) else [value])]
        parts = [*values, *(part for each in (self.component, *values) for part in port_objects(builder, each))]
        made = [builder.memory.of(part) for part in parts]
        others = sorted({each.registered.plugin for each in made if each is not None} - {own})
        inside = f" or of what is plugged into it ({', '.join(others)})" if others else ""
        return f"the code of plugin {own!r}{inside}"

    def _runner(self) -> str:
        """Runner of the stage, for messages."""
        others = " or ".join(repr(record.name) for record in runners(self.builder.host))
        return f"scorefold_run_stage of plugin {others}" if others else f"the verb {self.planned.verb.target}"


def runners(host: Host, error: BaseException | None = None) -> list[PluginRecord]:
    """Plugins that implement ``scorefold_run_stage``; with an error, those whose code raised it."""
    return owners_of(host.manager, host.plugins, "scorefold_run_stage", error)


def call_verb(planned: PlannedStage, component: Any, inputs: Mapping[str, Any], context: StageContext) -> Outcome:
    """Call the stage's verb. Raises ``PluginError`` for a verb that does not keep its contract."""
    module, _, name = planned.verb.target.partition(":")
    outcome = getattr(import_module(module), name)(component, inputs, planned.options, context)
    check_outcome(outcome, f"the verb {planned.verb.target}")
    return outcome  # type: ignore[no-any-return]


def check_outcome(outcome: Any, who: str) -> None:
    """Raises ``PluginError`` for anything but an ``Outcome`` that can be written; ``who`` gave it."""
    if not isinstance(outcome, Outcome):
        raise PluginError(
            f"{who} returned {with_article(type(outcome).__name__)}; expected an Outcome of scorefold.stage"
        )
    result = outcome.result if isinstance(outcome.result, Mapping) else {}
    fields = (
        ("result", outcome.result, _named(outcome.result, object), "a mapping of names to JSON"),
        ("arrays", outcome.arrays, _named(outcome.arrays, Tensor), "a mapping of names to tensors"),
        ("texts", outcome.texts, _named(outcome.texts, str), "a mapping of the names of files to texts"),
        ("metrics", result.get("metrics"), _named(result.get("metrics", {}), object), "a mapping of names to numbers"),
        ("warnings", result.get("warnings"), isinstance(result.get("warnings", []), list | tuple), "a list of texts"),
    )
    for name, found, fits, expected in fields:
        if not fits:
            raise PluginError(f"{who} returned an Outcome with the {name} {found!r:.80}; expected {expected}")


def _named(value: Any, kind: type) -> bool:
    """True if a value is a mapping of names to objects of a type."""
    return isinstance(value, Mapping) and all(isinstance(n, str) and isinstance(v, kind) for n, v in value.items())


def pass_through(component: Any, inputs: Mapping[str, Any], options: Any, context: StageContext) -> Outcome:
    """The verb of a stage that loads a saved state: its component, unchanged."""
    return Outcome(component)


def models_of(memory: Memory, *objects: Any) -> list[Any]:
    """The score models and flows among objects and what they were plugged to, at any depth."""
    found: dict[int, Any] = {}
    waiting = list(objects)
    while waiting:
        item = waiting.pop()
        if isinstance(item, (list, tuple)):
            waiting += item
        elif id(item) not in found:
            found[id(item)] = item
            made = memory.of(item)
            waiting += [] if made is None else made.ports.values()
    return [item for item in found.values() if isinstance(item, (ScoreModel, Flow))]


_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}
_NO_MEMORY = ("can't allocate memory", "out of memory")


def stage_error(
    plugins: Sequence[PluginRecord],
    planned: PlannedStage,
    error: BaseException,
    log: Path,
    runners: Sequence[PluginRecord] = (),
) -> ScorefoldError:
    """The error to show for a stage; ``log`` is the file that holds the whole traceback, ``runners`` the plugins that
    implement ``scorefold_run_stage``."""
    if isinstance(error, OSError) and error.errno in _DISK:
        place = error.filename or "a file"
        return ArtefactError(
            f"stage {planned.name!r} can't read or write {place}: {error.strerror}",
            hint="check that the disk has room, and that the folder may be written; repeat the command to continue",
        )
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in _NO_MEMORY)
    ):
        return ScorefoldError(
            f"stage {planned.name!r} ({planned.registered.id}) needs more memory than is available",
            hint="use fewer points (limit), smaller batches (training.batch_size, runtime.batch_size) or a smaller "
            f"network; the whole traceback is in {log}",
        )
    return _plugin_error(plugins, planned, error, log, runners)


def _plugin_error(
    plugins: Sequence[PluginRecord],
    planned: PlannedStage,
    error: BaseException,
    log: Path,
    runners: Sequence[PluginRecord],
) -> PluginError:
    own = planned.registered.record
    record, frame, called = _blame(plugins, own, error)
    if frame is None and (wrapper := _broken_wrapper(runners, error)):
        record = wrapper
    where = (f" at {frame}" if frame else "") + (f", called at {called}" if called else "")
    # Whoever was nearest may have got something that nobody could use.
    whose = "" if record is own or record in runners else f" of plugin {own.name!r}"
    return PluginError(
        f"stage {planned.name!r} ({planned.registered.id}{whose}) failed in plugin {record.name!r} "
        f"({record.distribution} {record.version}){where}: {describe(error)}",
        hint=f"the whole traceback is in {log}",
    )


def _broken_wrapper(runners: Sequence[PluginRecord], error: BaseException) -> PluginRecord | None:
    """The plugin whose wrapper of a stage breaks the rules of wrappers, such as by a second yield: pluggy names its
    file in the error."""
    frames = [str(frame.f_globals.get("__name__", "")) for frame, _ in traceback.walk_tb(error.__traceback__)]
    if not frames or not frames[-1].startswith("pluggy"):
        return None
    return next((record for record in runners if record.file is not None and record.file in str(error)), None)


def _blame(
    plugins: Sequence[PluginRecord], own: PluginRecord, error: BaseException
) -> tuple[PluginRecord, str | None, str | None]:
    """The plugin whose code is nearest to the failure, with the line, and the line of ``own``, the component's plugin,
    that called it; ``own`` where no plugin's code is near."""
    owners = dict.fromkeys(own.packages, own)
    owners |= {record.package: record for record in plugins if record.state not in ("broken", "disabled")}
    found: tuple[PluginRecord, str | None] = (own, None)
    called = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package in owners:
            found = owners[package], f"{frame.f_code.co_filename}:{line} in {frame.f_code.co_name}"
            called = found[1] if found[0] is own else called
    return *found, None if found[0] is own else called
