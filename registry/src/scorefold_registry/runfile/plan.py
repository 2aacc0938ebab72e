"""From a run file to stages in order: components resolved, configs validated, wiring checked, without torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from scorefold.config import Config
from scorefold.errors import ArtefactError, DataError, PluginError
from scorefold.plugin import Verb
from scorefold_registry.components.catalogue import Catalogue
from scorefold_registry.components.messages import config_problems
from scorefold_registry.components.parts import (
    ConfigRead,
    Part,
    Plug,
    default_parts,
    options_model,
    parts_in,
    plug_json,
    with_installed,
)
from scorefold_registry.components.paths import anchored
from scorefold_registry.components.ports import PortOffer
from scorefold_registry.plugins.names import with_article
from scorefold_registry.plugins.records import Registered, environments_of
from scorefold_registry.runfile.loaded_stages import PREFIX, Artefact, find_loaded
from scorefold_registry.runfile.plugin_settings import check_environments, plan_settings
from scorefold_registry.runfile.reader import VERSION, RunFile, RunFileError, StageSpec, near
from scorefold_registry.runfile.stage_parts import (
    PartReader,
    base_folder,
    from_file,
    inline_use,
    note_base,
    put_together,
    write_out,
)
from scorefold_registry.runfile.yaml_reader import DataPath


@dataclass(frozen=True)
class PlannedStage:
    """A stage that is ready to run.

    ``source`` is the earlier stage it uses and ``artefact`` the state it loads; without either it creates the component
    of ``part``. ``inputs`` has what the ports of the component and of the verb are plugged to; names in it are stages.
    ``defaults`` has the parts of the verb's ports where nothing is plugged in.
    Its place is in ``file``, or in the run file where that is None. ``paths`` are all that its settings name, absolute
    as they stand there.
    """

    name: str
    registered: Registered
    verb: Verb
    part: Part | None
    inputs: Mapping[str, Plug]
    defaults: Mapping[str, Part]
    options: Config | None
    split: str | None
    source: str | None
    after: tuple[str, ...]
    offer: PortOffer
    line: int | None
    column: int | None
    file: str | None = None
    artefact: Artefact | None = None
    paths: frozenset[str] = frozenset()

    @property
    def config(self) -> Config | None:
        """The configuration of the component that the stage creates."""
        return None if self.part is None else self.part.config

    @property
    def unused(self) -> list[str]:
        """Warnings of inputs that neither the component nor its verb reads, such as after a swap of the component."""
        taken = {port.name for port in self.registered.component.requires}
        return [
            f"stage {self.name!r}: {self.registered.id} does not use its input {port.name!r}; remove it, and stages "
            "that only it needs"
            for port in self.verb.takes
            if port.passed_over and port.name in self.inputs and port.name not in taken and self.source is None
        ]

    def parts(self) -> list[Part]:
        """All parts of the stage, defaults of ports among them."""
        own = [] if self.part is None else [*self.part.inline.values(), *self.part.defaults.values()]
        return list(parts_in([*self.inputs.values(), *own, *self.defaults.values()]))

    def as_json(self, catalogue: Catalogue, reference: Callable[[str], Any] = str) -> dict[str, Any]:
        """The stage with every default written out and every revision pinned, as ``resolved.yaml`` holds it.

        ``reference`` returns what stands for the name of a stage.
        """
        if self.artefact is not None:
            return {"load": self.artefact.place}
        facts: dict[str, Any] = {
            "use": catalogue.pinned(self.registered) if self.source is None else reference(self.source),
            "do": self.verb.name,
            "inputs": {name: plug_json(catalogue, plug, reference) for name, plug in self.inputs.items()},
        }
        if self.part is not None:
            facts["config"] = self.part.config_json(catalogue)
        if self.options is not None:
            facts["options"] = self.options.model_dump(mode="json")
        if self.split is not None:
            facts["split"] = self.split
        return facts


@dataclass(frozen=True)
class Plan:
    """A run file with its stages in the order they run, and the settings of the plugins that it names."""

    run: RunFile
    stages: tuple[PlannedStage, ...]
    plugins: Mapping[str, Config] = field(default_factory=dict)

    @property
    def warnings(self) -> list[str]:
        """The inputs that are valid, and change nothing."""
        return [text for stage in self.stages for text in stage.unused]

    @property
    def environments(self) -> list[Any]:
        """The environments of plugins' own that the stages use."""
        found = [part.registered.record for stage in self.stages for part in stage.parts()]
        for stage in self.stages:
            found.append(stage.registered.record)
            found += [part.record for part in stage.artefact.components] if stage.artefact is not None else []
        return environments_of(found)

    def as_json(self, catalogue: Catalogue) -> dict[str, Any]:
        """The run file with every default written out and every revision pinned."""
        demands = self.run.source.data.get("environments")
        return {
            **({"environments": demands} if demands else {}),
            "version": VERSION,
            "name": self.run.name,
            "seed": self.run.seed,
            "runtime": self.run.runtime.model_dump(),
            "plugins": {name: config.model_dump(mode="json") for name, config in self.plugins.items()},
            "stages": {stage.name: stage.as_json(catalogue) for stage in self.stages},
        }


def references(inputs: Mapping[str, Any], path: DataPath) -> Iterator[tuple[str, DataPath]]:
    """The stage names among inputs, at any depth of inline components, each with its path."""
    for name, value in inputs.items():
        items = [((*path, name), value)]
        if isinstance(value, list):
            items = [((*path, name, index), item) for index, item in enumerate(value)]
        for here, item in items:
            inline = inline_use(item)
            if inline is not None:
                nested = inline.get("inputs")
                if isinstance(nested, dict):
                    yield from references(nested, (*here, "inputs"))
            elif isinstance(item, str):
                yield item, here


def make_plan(catalogue: Catalogue, run: RunFile) -> Plan:
    """The stages in order of dependency, ties in the order of the file. torch is not imported.

    Raises ``RunFileError`` with every problem of the file, sorted by line.
    """
    write_out(catalogue, run)
    stages = _Planner(catalogue, run, PartReader(catalogue, run)).plan()
    plugins = plan_settings(catalogue, run) if run.plugins else {}
    put_together(run)
    check_environments(catalogue, run)
    if run.problems:
        # A value that could not be read is null, which the checks after it complain of too.
        unread = {(problem.line, problem.column) for problem in run.source.problems}
        run.problems[len(run.source.problems) :] = [
            problem
            for problem in run.problems[len(run.source.problems) :]
            if (problem.line, problem.column) not in unread
        ]
        last = 10**9
        raise RunFileError(sorted(run.problems, key=lambda problem: (problem.line or last, problem.column or 0)))
    return Plan(run, tuple(stages), plugins)


def condition_columns(path: object, named: object) -> tuple[str, ...]:
    """The condition columns that the settings of a table name; none of other data, whose arrays have any name."""
    of_table = Path(str(path)).suffix.lower() in (".csv", ".tsv", ".parquet")
    return tuple(named) if of_table and isinstance(named, (list, tuple)) else ()


def other_conditions(trained: Sequence[str], given: Sequence[str]) -> DataError:
    """The error that condition columns have other names or another order than in training."""
    wanted = f"condition: [{', '.join(trained)}]"
    return DataError(
        f"the condition of these data is [{', '.join(given)}]; the model was trained on [{', '.join(trained)}]",
        hint=wanted if sorted(trained) == sorted(given) else f"{wanted}, with the columns of the file called so",
    )


def dependencies(run: RunFile, spec: StageSpec) -> list[tuple[str, DataPath]]:
    """The stages that a stage names, with the place of each."""
    named = [(spec.use, (*spec.path, "use"))] if spec.uses_stage else []
    return [*named, *references(spec.inputs, (*spec.path, "inputs"))]


@dataclass
class _Planner:
    catalogue: Catalogue
    run: RunFile
    reader: PartReader
    planned: dict[str, PlannedStage] = field(default_factory=dict)

    def plan(self) -> list[PlannedStage]:
        for name in self._order():
            stage = self._stage(self.run.stages[name])
            self.reader.offers[name] = stage.offer if stage is not None else None
            if stage is not None:
                self.planned[name] = stage
        return list(self.planned.values())

    def _order(self) -> list[str]:
        stages = self.run.stages
        written = self.run.source.data.get("stages") or {}
        waits: dict[str, set[str]] = {}
        for name, spec in stages.items():
            waits[name] = set()
            for target, path in dependencies(self.run, spec):
                if target in stages:
                    waits[name].add(target)
                elif target not in written:
                    self._unknown_stage(spec, target, path)
        ordered: dict[str, None] = {}
        while (ready := next((n for n in stages if n not in ordered and waits[n] <= ordered.keys()), None)) is not None:
            ordered[ready] = None
        stuck = [name for name in stages if name not in ordered]
        self._report_cycles(stuck, waits)
        return [*ordered, *stuck]

    def _unknown_stage(self, spec: StageSpec, target: str, path: DataPath) -> None:
        names = [name for name in self.run.stages if name != spec.name]
        hint = near(target, names)
        if path[-1] == "use":
            hint = f"a component is written kind:name; stages are {', '.join(names) or 'none'}"
            matches = [f"{c.component.kind}:{c.component.name}" for c in self.catalogue.components]
            exact = [match for match in matches if match.endswith(f":{target}")]
            hint = f"did you mean {' or '.join(exact)}?" if exact else hint
        self.reader.error(f"there is no stage {target!r}", path, hint=hint, code="unknown-stage")

    def _report_cycles(self, stuck: list[str], waits: Mapping[str, set[str]]) -> None:
        """One error for each cycle, at the reference that closes it."""
        left = list(stuck)
        while left:
            trail = [left[0]]
            while (
                following := next((n for n in self.run.stages if n in waits[trail[-1]] and n in left), None)
            ) is not None:
                if following in trail:
                    cycle = trail[trail.index(following) :]
                    spec = self.run.stages[cycle[0]]
                    target = cycle[1] if len(cycle) > 1 else cycle[0]
                    path = next(path for name, path in dependencies(self.run, spec) if name == target)
                    message = f"the stages wait for each other: {' -> '.join([*cycle, cycle[0]])}"
                    self.reader.error(message, path, hint="a stage can only use stages that don't use it", code="cycle")
                    left = [name for name in left if name not in cycle]
                    break
                trail.append(following)
            else:
                left.remove(trail[-1])

    def _stage(self, spec: StageSpec) -> PlannedStage | None:
        if spec.load is not None:
            return self._loaded(spec, spec.load)
        self.reader.paths = set()
        source = spec.use if spec.uses_stage else None
        registered = self._source_component(spec) if source else self.reader.resolve(spec.use, (*spec.path, "use"))
        if registered is None:
            self.reader.check_nested(spec)
            return None
        component = registered.component
        verb = self._verb(spec, registered)
        config: ConfigRead | None = None
        if source is None:
            config = self.reader.config(registered, spec.config, spec.path)
        elif spec.config:
            hint = "the configuration belongs to the stage that creates the component; a verb's settings are 'options'"
            self.reader.error(
                f"stage {spec.name!r} uses stage {source!r} and takes no 'config'",
                (*spec.path, "config"),
                key=True,
                hint=hint,
            )
        if verb is None:
            self.reader.check_nested(spec)
            return None
        options = self._options(spec, verb)
        self._check_split(spec, verb)
        # The constructor's ports were plugged by the stage that is used.
        ports_of = registered if source is None else Registered(replace(component, requires=()), registered.record)
        inputs = with_installed(self.catalogue, ports_of, self.reader.inputs(spec.inputs, spec.path, ports_of, verb))
        self._check_conditions(spec, inputs)
        own = {port.name for port in component.requires}
        place = self.run.source.place((*spec.path, "use"))
        return PlannedStage(
            name=spec.name,
            registered=registered,
            verb=verb,
            part=config and config.part(self.catalogue, {k: plug for k, plug in inputs.items() if k in own}),
            inputs=inputs,
            defaults=default_parts(self.catalogue, verb.takes, inputs),
            options=options,
            split=spec.split,
            source=source,
            after=tuple(dict.fromkeys(name for name, _ in dependencies(self.run, spec))),
            offer=self._offer(spec, registered, verb),
            line=place.line,
            column=place.column,
            file=place.file,
            paths=frozenset(self.reader.paths),
        )

    def _loaded(self, spec: StageSpec, folder: str) -> PlannedStage | None:
        """A stage that hands on a saved state, of which only manifests are read here."""
        path = (*spec.path, "load")
        start = base_folder(self.run, path)
        if not folder.startswith(PREFIX):
            note_base(self.run, path, os.path.realpath(start / folder))
        try:
            artefact = find_loaded(self.catalogue, folder, start)
        except ArtefactError as error:
            self.reader.error(error.message, path, hint=error.hint, code=error.code)
            return None
        dtype = self.run.runtime.dtype
        if artefact.dtype not in (None, dtype):
            hint = f"write 'runtime: {{dtype: {artefact.dtype}}}'"
            self.reader.error(f"this state is in {artefact.dtype}, and the run computes in {dtype}", path, hint=hint)
            return None
        registered = artefact.components[0]
        verb = Verb("load", (), registered.component.kind, "scorefold_registry.run.stage_work:pass_through")
        at = self.run.source.place(path)
        offer = self._offer(spec, registered, verb)
        return PlannedStage(
            name=spec.name,
            registered=registered,
            verb=verb,
            part=None,
            inputs={},
            defaults={},
            options=None,
            split=None,
            source=None,
            after=(),
            offer=offer,
            line=at.line,
            column=at.column,
            file=at.file,
            artefact=artefact,
        )

    def _source_component(self, spec: StageSpec) -> Registered | None:
        """The component behind an earlier stage that is used; None (already reported, or reported here) without one."""
        earlier = self.planned.get(spec.use)
        if earlier is None:
            return None
        made = earlier.registered.component
        if earlier.source is not None and earlier.offer.kind == "data" != made.kind and spec.do not in (None, "load"):
            # Samples and the like are data like the data of a file.
            target = "scorefold.interfaces.data:TensorSource"
            own = replace(made, kind="data", name=spec.use, target=target, provides=(), requires=(), figures=None)
            return replace(earlier.registered, component=own)
        if earlier.source is not None and earlier.offer.kind != made.kind:
            hint = f"use stage {earlier.source!r} instead"
            self.reader.error(
                f"stage {spec.use!r} gives {earlier.offer.kind}, which no verb uses",
                (*spec.path, "use"),
                hint=hint,
            )
            return None
        return earlier.registered

    def _offer(self, spec: StageSpec, registered: Registered, verb: Verb) -> PortOffer:
        component = registered.component
        provides = component.provides if verb.gives == component.kind else ()
        return PortOffer(verb.gives, tuple(provides), f"stage {spec.name!r}")

    def _verb(self, spec: StageSpec, registered: Registered) -> Verb | None:
        component = registered.component
        kind = self.catalogue.kinds[component.kind]
        if not kind.default:
            hint = "name it inside the config or the inputs of the component that uses it"
            self.reader.error(f"{with_article(kind.name)} is no stage of its own", (*spec.path, "use"), hint=hint)
            return None
        try:
            return self.catalogue.verb(component, spec.do)
        except PluginError as error:
            self.reader.error(error.message, (*spec.path, "use" if spec.do is None else "do"), hint=error.hint)
            return None

    def _options(self, spec: StageSpec, verb: Verb) -> Config | None:
        if (model := options_model(verb)) is None:
            if spec.options:
                message = f"the verb {verb.name!r} takes no options"
                hint = "settings of the component go under 'config'" if not spec.uses_stage else None
                self.reader.error(message, (*spec.path, "options"), key=True, hint=hint)
            return None
        try:
            anchor = from_file(self.run, (*spec.path, "options"), self.reader.paths)
            return model.model_validate(anchored(model.model_validate(spec.options), spec.options, anchor))
        except ValidationError as error:
            for problem in config_problems(model, error, spec.options):
                self.reader.add_problem(problem, (*spec.path, "options"))
            return None

    def _check_conditions(self, spec: StageSpec, inputs: Mapping[str, Plug]) -> None:
        """Reports data with other condition columns than in the training of the model."""
        model = self.planned.get(spec.use)
        while model is not None and model.source is not None and "data" not in model.inputs:
            model = self.planned.get(model.source)
        if model is None or model.part is None or "Trainable" not in model.registered.component.provides:
            return
        if getattr(model.part.config, "unconditional", False):
            return
        trained, given = (self._conditions(plug.get("data")) for plug in (model.inputs, inputs))
        if trained and given and trained != given:
            error = other_conditions(trained, given)
            self.reader.error(error.message, (*spec.path, "inputs", "data"), hint=error.hint)

    def _conditions(self, plug: Plug | None) -> tuple[str, ...]:
        """The condition columns of a table that a stage or an inline component reads; none of other data."""
        stage = self.planned.get(plug) if isinstance(plug, str) else None
        part = plug if isinstance(plug, Part) else None if stage is None else stage.part
        config = None if part is None else part.config
        return condition_columns(getattr(config, "path", None), getattr(config, "condition", None))

    def _check_split(self, spec: StageSpec, verb: Verb) -> None:
        if spec.split is None:
            return
        if verb.name == "fit":
            hint = "choose the points of each split in the data stage's config"
            self.reader.error("fit reads the train and validation splits", (*spec.path, "split"), key=True, hint=hint)
        elif not any("data" in port.kinds for port in verb.takes):
            self.reader.error(
                f"the verb {verb.name!r} reads no data, so it takes no split", (*spec.path, "split"), key=True
            )
