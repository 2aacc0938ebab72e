"""One stage: what it is built from, what it does, and its folder on disk."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from scorefold.artefacts import save_arrays, write_json, write_text
from scorefold.config import Config, Use
from scorefold.errors import ArtefactError, PluginError
from scorefold.plugin import Port
from scorefold.seeds import derive_generator
from scorefold.stage import Executor, Fitted, Outcome, StageContext
from scorefold_registry.components.building import Placement, draw_seed
from scorefold_registry.components.catalogue import CORE
from scorefold_registry.components.configs import check_config, inline_uses, resolve_config, with_installed
from scorefold_registry.components.manifest import REFERENCE_FILE, has_state, uses_in
from scorefold_registry.components.paths import paths_in
from scorefold_registry.components.saving import load, port_objects, relative
from scorefold_registry.components.stage_files import RESULT_FILE, STAGE_FILE, read_result, read_stage, stages_near
from scorefold_registry.components.values import load_value, save_value
from scorefold_registry.plugins.loading import describe, own_frame
from scorefold_registry.plugins.records import PluginRecord, Registered
from scorefold_registry.run.figures import draw
from scorefold_registry.run.keys import files_digest, libraries, stage_key
from scorefold_registry.runfile.plan import Plan, PlannedStage, inline_use
from scorefold_registry.runfile.reader import VERSION

if TYPE_CHECKING:
    from scorefold_registry.components.catalogue import Catalogue
    from scorefold_registry.host import Host

ARRAYS_FILE = "arrays.safetensors"

Lookup = Callable[[str], Any]
"""The value of an earlier stage, or its key, by the stage's name."""


@dataclass(frozen=True)
class LoadedStage:
    """A stage read from its folder. ``component`` is what verbs act on; ``value`` what later stages receive."""

    name: str
    component: Any
    value: Any
    facts: Mapping[str, Any]
    result: Mapping[str, Any]


def load_stage(
    host: Host, folder: Path | str, device: str | None = None, executor: Executor | None = None
) -> LoadedStage:
    """A stage of a run folder, rebuilt: the component by the host, the value from its files.

    Raises ``ArtefactError`` for a folder that isn't a finished stage.
    """
    folder = Path(folder)
    if not (folder / STAGE_FILE).is_file():
        raise ArtefactError(f"{folder} is not a finished stage", hint=stages_near(folder))
    facts = read_stage(folder)
    component = load(host.builder, folder, device, executor) if has_state(folder) else None
    value = load_value(folder, component)
    return LoadedStage(facts["name"], component, value, facts, read_result(folder))


def load_stage_value(host: Host, folder: Path, device: str, executor: Executor | None = None) -> Any:
    """The value of a stage of a run folder. What made it is loaded only where it is the value."""
    value = load_value(folder, _COMPONENT)
    return load(host.builder, folder, device, executor) if value is _COMPONENT else value


_COMPONENT = object()


def resolve_inputs(catalogue: Catalogue, inputs: Mapping[str, Any], reference: Callable[[str], Any]) -> dict[str, Any]:
    """Inputs as JSON: inline components pinned with their configuration, stages as ``reference`` says them."""

    def resolved(value: Any) -> Any:
        if isinstance(value, list):
            return [resolved(item) for item in value]
        inline = inline_use(value)
        if inline is None:
            return reference(value)
        found = catalogue.resolve(inline["use"])
        config = resolve_config(catalogue, _checked(catalogue, inline))
        given = with_installed(catalogue, found, inline.get("inputs") or {})
        nested = resolve_inputs(catalogue, given, reference)
        return {"use": catalogue.pinned(found), "config": config, "inputs": nested}

    return {name: resolved(value) for name, value in inputs.items()}


def _checked(catalogue: Catalogue, inline: Mapping[str, Any]) -> Config:
    """The configuration of a component named inline, which the plan has checked."""
    config, _ = check_config(catalogue, catalogue.resolve(inline["use"]), inline.get("config"))
    assert config is not None
    return config


def resolved_stage(
    catalogue: Catalogue, planned: PlannedStage, reference: Callable[[str], Any] = str
) -> dict[str, Any]:
    """A stage with every default written out and every revision pinned, as ``resolved.yaml`` holds it."""
    spec = planned.spec
    if planned.artefact is not None:
        return {"load": str(planned.artefact.folder)}
    facts: dict[str, Any] = {
        "use": planned.source or catalogue.pinned(planned.registered),
        "do": planned.verb.name,
        "inputs": resolve_inputs(catalogue, spec.inputs, reference),
    }
    if planned.config is not None:
        facts["config"] = resolve_config(catalogue, planned.config)
    if planned.options is not None:
        facts["options"] = planned.options.model_dump(mode="json")
    if spec.split is not None:
        facts["split"] = spec.split
    return facts


def note_steps(resolved: dict[str, Any], metrics: Mapping[str, Any]) -> bool:
    """Write the steps that a training took into its resolved stage in place of its minutes, so that a run of the file
    repeats it to the bit; whether there was something to write."""
    training = resolved.get("config", {}).get("training")
    if not isinstance(training, dict) or training.get("minutes") is None or "steps" not in metrics:
        return False
    training.update(steps=int(metrics["steps"]), minutes=None)
    return True


def resolved_run(catalogue: Catalogue, plan: Plan) -> dict[str, Any]:
    """A run file with every default written out and every revision pinned."""
    run = plan.run
    return {
        "version": VERSION,
        "name": run.name,
        "seed": run.seed,
        "runtime": run.runtime.model_dump(),
        "plugins": {name: config.model_dump(mode="json") for name, config in plan.plugins.items()},
        "stages": {stage.name: resolved_stage(catalogue, stage) for stage in plan.stages},
    }


def key_of(
    host: Host, planned: PlannedStage, keys: Lookup, fingerprints: list[str | None], surroundings: Mapping[str, Any]
) -> str:
    """The key of a stage; ``keys`` gives those of earlier stages, ``surroundings`` what else determines the result."""
    if planned.artefact is not None:
        parts: Sequence[Registered] = planned.artefact.components
        facts = {"stage": planned.name, "artefact": planned.artefact.digest, **_code_of(parts)}
        return stage_key(facts, [part.component.target for part in parts])
    resolved = resolved_stage(host.catalogue, planned, lambda name: {"key": keys(name)})
    if planned.source is not None:
        resolved["use"] = {"key": keys(planned.source)}
    resolved = _without_folders(resolved, planned.paths)
    parts = [planned.registered, *(host.catalogue.resolve(use) for use in uses_in(resolved))]
    targets = [planned.verb.target, *(part.component.target for part in parts)]
    facts = {
        "component": planned.registered.component.versioned_id,
        **_code_of(parts, host.catalogue.verb_owner(planned.registered.component.kind, planned.verb.name)),
        "stage": resolved,
        "data": fingerprints,
        **surroundings,
    }
    return stage_key(facts, targets)


def _without_folders(value: Any, paths: Container[str]) -> Any:
    """A resolved stage with names of files in place of their paths: wherever they are, it is the same stage."""
    if isinstance(value, Mapping):
        return {key: _without_folders(item, paths) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_folders(item, paths) for item in value]
    return Path(value).name if isinstance(value, str) and value in paths else value


def _code_of(parts: Sequence[Registered], verb_owner: PluginRecord | None = None) -> dict[str, Any]:
    """The distributions of components and of the plugin that added the verb, and the libraries that they build on."""
    distributions = {part.distribution: part.version for part in parts}
    if verb_owner is not None:
        distributions[verb_owner.distribution] = verb_owner.version
    return {
        "distributions": distributions,
        "libraries": [libraries(name) for name in sorted({CORE, *distributions})],
    }


def fingerprints(source: Any, config: Config) -> list[str | None]:
    """The digest of the files that a data source reads; that of the paths in its config where it gives none."""
    own = source.fingerprint()
    return [own] if own is not None else [own, *_path_digests(config)]


@dataclass
class Workshop:
    """Builds and runs the stages of one run in this process."""

    host: Host
    seed: int
    device: str
    dtype: Any
    executor: Executor | None = None

    def source(self, planned: PlannedStage, values: Lookup) -> Any:
        """The data source of a data stage; built first, because its files are part of the stage's key."""
        return self._create(planned, self._ports(planned, values))

    def inline_fingerprints(self, planned: PlannedStage, values: Lookup) -> list[str | None]:
        """Digests of the files that parts named inline read, in the inputs or in the configuration.

        A data source says itself what it reads; of other parts it is the paths in their configuration.
        """
        parts = [_fill(value, values) for value in planned.spec.inputs.values() if _has_inline(value)]
        found: list[str | None] = []
        if planned.config is not None:
            parts += _named_in(planned.config)
            if planned.registered.component.kind != "data":
                found += _path_digests(planned.config)
        if planned.options is not None:
            found += _path_digests(planned.options)
        for part, config in _parts_in(parts, self.host.catalogue):
            if self.host.catalogue.resolve(part["use"]).component.kind == "data":
                found += fingerprints(self._built(part, planned.name), config)
            else:
                found += _path_digests(config)
        return found

    def component(self, planned: PlannedStage, values: Lookup, earlier: Lookup) -> Any:
        """The component that the stage's verb acts on: created, or loaded, afresh from the stage it uses."""
        if planned.artefact is not None:
            return load(self.host.builder, planned.artefact.folder, self.device, self.executor)
        if planned.source is None:
            return self._create(planned, self._ports(planned, values))
        # A fresh copy, so that no verb can change what another stage receives.
        return earlier(planned.source)

    def _create(self, planned: PlannedStage, ports: Mapping[str, Any]) -> Any:
        return self._make(planned.registered.qualified, planned.config, ports, planned.name, "create")

    def _make(self, use: str, config: Any, ports: Mapping[str, Any], *purpose: str | int) -> Any:
        """A component built here, by the seed of a purpose."""
        seed = draw_seed(derive_generator(self.seed, *purpose))
        place = Placement(seed, self.device, self.dtype, self.executor)
        return self.host.builder.build(self.host.catalogue.resolve(use), config, ports, place)

    def _ports(self, planned: PlannedStage, values: Lookup) -> dict[str, Any]:
        ports = {port.name: port for port in planned.registered.component.requires}
        return {
            name: _filled(value, ports[name], values) for name, value in planned.spec.inputs.items() if name in ports
        }

    def inputs(self, planned: PlannedStage, component: Any, values: Lookup) -> dict[str, Any]:
        """What the verb receives: stages' values, and inline components built."""
        made = self.host.builder.memory.of(component) if planned.source is None else None
        found: dict[str, Any] = {}
        for port in planned.verb.takes:
            value = planned.spec.inputs.get(port.name, port.default)
            if value is None:
                continue
            if made is not None and port.name in made.ports:
                found[port.name] = made.ports[port.name]
                continue
            filled = _filled(value, port, values)
            where = (planned.name, "input", port.name)
            if port.many:
                found[port.name] = [self._built(item, *where, index) for index, item in enumerate(filled)]
            else:
                found[port.name] = self._built(filled, *where)
        return found

    def _built(self, value: Any, *where: str | int) -> Any:
        """An input as an object; one named inline is built with a seed of its own, as every stage is."""
        if not isinstance(value, Mapping):
            return value
        return self._make(value["use"], value.get("config"), value.get("inputs") or {}, *where)


def _filled(value: Any, port: Port, values: Lookup) -> Any:
    """What a port receives: see ``_fill``; a list for a port that takes several."""
    filled = _fill(value, values)
    return [filled] if port.many and not isinstance(filled, list) else filled


def _has_inline(value: Any) -> bool:
    """Whether an input names a component inline, so that it is more than the names of stages."""
    return any(map(_has_inline, value)) if isinstance(value, list) else inline_use(value) is not None


def _fill(value: Any, values: Lookup) -> Any:
    """An input with stages replaced by their values; inline components stay mappings, for the host to build."""
    if isinstance(value, list):
        return [_fill(item, values) for item in value]
    inline = inline_use(value)
    if inline is None:
        return values(value)
    nested = {name: _fill(inner, values) for name, inner in (inline.get("inputs") or {}).items()}
    return {"use": inline["use"], "config": inline.get("config") or {}, "inputs": nested}


def _parts_in(filled: Any, catalogue: Catalogue) -> Iterator[tuple[dict[str, Any], Config]]:
    """The inline components among filled inputs with their configurations, at any depth of either."""
    if isinstance(filled, list):
        for item in filled:
            yield from _parts_in(item, catalogue)
    elif isinstance(filled, dict):
        config = _checked(catalogue, filled)
        yield filled, config
        yield from _parts_in([*filled["inputs"].values(), *_named_in(config)], catalogue)


def _named_in(config: Config) -> list[dict[str, Any]]:
    """The components named inline in a configuration."""
    return [item.value.model_dump() for item in inline_uses(config) if isinstance(item.value, Use)]


def _path_digests(config: Config) -> Iterator[str | None]:
    """What stands on disk at the paths in a configuration (fields of the type ``Path``), inline components apart."""
    return (files_digest(path) for _, path in paths_in(config))


def perform(planned: PlannedStage, component: Any, inputs: Mapping[str, Any], context: StageContext) -> Outcome:
    """Call the stage's verb. Raises ``PluginError`` for a verb that does not keep its contract."""
    module, _, name = planned.verb.target.partition(":")
    outcome = getattr(import_module(module), name)(component, inputs, planned.options, context)
    check_outcome(outcome, f"the verb {planned.verb.target}")
    return outcome  # type: ignore[no-any-return]


def check_outcome(outcome: Any, who: str) -> None:
    """Raises ``PluginError`` for anything but an ``Outcome`` that can be written; ``who`` gave it."""
    if not isinstance(outcome, Outcome):
        raise PluginError(f"{who} returned a {type(outcome).__name__}; expected an Outcome of scorefold.stage")
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
    """Whether a value is a mapping of names to objects of a type."""
    return isinstance(value, Mapping) and all(isinstance(n, str) and isinstance(v, kind) for n, v in value.items())


def hand_on(component: Any, inputs: Mapping[str, Any], options: Any, context: StageContext) -> Outcome:
    """What is done with a component that was loaded: nothing."""
    return Outcome(component)


def write_stage(host: Host, planned: PlannedStage, component: Any, outcome: Outcome, folder: Path, facts: Any) -> None:
    """The folder of a finished stage: manifest and state, value, result, arrays, figures, and what made it."""
    created = component is not None and planned.source is None
    origin = {}
    if planned.artefact is not None:
        origin = {"loaded": str(planned.artefact.folder), "digest": planned.artefact.digest}
        reference = {"state": relative(planned.artefact.folder, folder), "digest": planned.artefact.digest}
        write_json(folder / REFERENCE_FILE, reference)
    elif created or outcome.value is component:
        host.save(component, folder)
    save_value(outcome.value, component, folder)
    remarks = {"warnings": remarked} if (remarked := _remarks(host, component, outcome)) else {}
    write_json(folder / RESULT_FILE, {"metrics": {}, **origin, **outcome.result, **remarks})
    if outcome.arrays:
        save_arrays(folder / ARRAYS_FILE, outcome.arrays)
    for name, text in outcome.texts.items():
        if Path(name).name != name or (folder / name).exists():
            raise ArtefactError(
                f"stage {planned.name!r} gave the text {name!r}; expected the name of a file of its own"
            )
        write_text(folder / name, text)
    failure = _draw(host, planned, outcome, folder)
    again = outcome.shown is None
    write_json(folder / STAGE_FILE, {**facts, "figure_failure": failure, "figures_of_value": again})


def draw_again(host: Host, planned: PlannedStage, folder: Path) -> str | None:
    """Draw the figures of a reused stage whose figures could not be drawn; what went wrong now, None where nothing.

    Figures of what is not kept, such as the course of a training, need the stage to be computed anew.
    """
    facts = read_stage(folder)
    failure: str = facts["figure_failure"]
    if not facts.get("figures_of_value"):
        return f"{failure}; with --fresh the stage is computed again, and they are drawn"
    found = _draw(host, planned, Outcome(load_stage(host, folder).value), folder)
    write_json(folder / STAGE_FILE, {**facts, "figure_failure": found})
    return found


def _remarks(host: Host, component: Any, outcome: Outcome) -> list[str]:
    """The warnings of a result, with the remarks of the component and of all that is plugged into it."""
    parts = [component, *port_objects(host.builder, component)]
    said = [text for part in parts for text in getattr(part, "remarks", ())]
    return list(dict.fromkeys([*outcome.result.get("warnings", ()), *said]))


def _draw(host: Host, planned: PlannedStage, outcome: Outcome, folder: Path) -> str | None:
    """Draw a stage's figures; what went wrong: a figure that fails must not cost the result."""
    component, verb = planned.registered.component, planned.verb
    target, shown = verb.figures, outcome.drawn
    if component.figures is not None and verb == host.catalogue.kind(component.kind).verb():
        target, shown = component.figures, shown if isinstance(shown, Fitted) else outcome.value
    if target is None:
        return None
    try:
        draw(target, shown, folder)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        frame = own_frame(error, {target.partition(".")[0]})
        return f"the figures of stage {planned.name!r} ({target}) failed: {describe(error)} at {frame}"
    return None
