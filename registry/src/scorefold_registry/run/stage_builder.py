"""Parts of the stages of a run: their components, the inputs of their verbs, and the digests of their files.

Before the first long stage every later one is built, and nothing is computed: a file that is missing, a size that does
not divide or data of another shape is found in seconds, and not after a training of two days.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from scorefold.artefacts import load_state
from scorefold.config import Config
from scorefold.errors import ArtefactError, PluginError, ScorefoldError, ShapeError
from scorefold.seeds import derive_generator
from scorefold.stage import Executor
from scorefold_registry.components.building import Builder, Placement, draw_seed
from scorefold_registry.components.manifest import check_manifest, referenced_folder
from scorefold_registry.components.parts import Part, Plug, anchored_use, names_in, parts_in, with_values
from scorefold_registry.components.paths import paths_in
from scorefold_registry.components.saving import current_state, load_object
from scorefold_registry.plugins.names import with_article
from scorefold_registry.plugins.process_guard import guarded
from scorefold_registry.run.keys import files_digest
from scorefold_registry.runfile.plan import Plan, PlannedStage

if TYPE_CHECKING:
    from scorefold_registry.host import Host


Lookup = Callable[[str], Any]
"""The value of an earlier stage by the stage's name."""


def fingerprints(source: Any, config: Config) -> list[str | None]:
    """The digest of the files that a data source reads. Without one: None, then the digests of paths in its config."""
    own = source.fingerprint()
    return [own] if own is not None else [own, *_path_digests(config)]


def _path_digests(config: Config) -> Iterator[str | None]:
    """The digests of what stands on disk at the paths in a configuration, inline components apart."""
    return (files_digest(path) for _, path in paths_in(config))


@dataclass
class StageBuilder:
    """Builds the stages of one run in this process."""

    host: Host
    seed: int
    device: str
    dtype: Any
    executor: Executor | None = None

    def source(self, planned: PlannedStage, values: Lookup) -> Any:
        """The data source of a data stage; built first, because its files are part of the stage's key."""
        assert planned.part is not None
        many = {port.name: port.many for port in planned.registered.component.requires}
        ports = {name: _filled(plug, many[name], values) for name, plug in planned.part.inputs.items()}
        return self._make(planned.part, ports, planned.name, "create")

    def inline_fingerprints(self, planned: PlannedStage, values: Lookup) -> list[str | None]:
        """Digests of the files that parts named inline read, in the inputs or in the configuration.

        A data source says itself what it reads; of other parts it is the paths in their configuration.
        """
        plugs: list[Plug] = [with_values(plug, values) for plug in planned.inputs.values() if any(parts_in(plug))]
        plugs += planned.defaults.values()
        found: list[str | None] = []
        if planned.part is not None:
            plugs += [*planned.part.inline.values(), *planned.part.defaults.values()]
            if planned.registered.component.kind != "data":
                found += _path_digests(planned.part.config)
        if planned.options is not None:
            found += _path_digests(planned.options)
        for part in parts_in(plugs):
            if part.registered.component.kind == "data" and not any(names_in(part)):
                found += fingerprints(self._make(part, part.inputs, planned.name), part.config)
            else:
                found += _path_digests(part.config)
        return found

    def component(self, planned: PlannedStage, values: Lookup, earlier: Lookup) -> Any:
        """The component that the stage's verb acts on: created, or loaded, afresh from the stage it uses."""
        if planned.artefact is not None:
            if planned.artefact.name is not None:
                check_states(self.host.builder, planned.artefact.folder)  # somebody else's, as what is pulled is
            return load_object(self.host.builder, planned.artefact.folder, self.device, self.executor)
        # Of a stage that is used a fresh copy, so that no verb can change what another stage receives.
        return self.source(planned, values) if planned.source is None else earlier(planned.source)

    def inputs(self, planned: PlannedStage, component: Any, values: Lookup) -> dict[str, Any]:
        """Inputs of the verb: values of stages, and built inline components."""
        made = self.host.builder.memory.of(component) if planned.source is None else None
        found: dict[str, Any] = {}
        for port in planned.verb.takes:
            plug = planned.inputs.get(port.name)
            if plug is None and port.default is None:
                continue
            if made is not None and port.name in made.ports:
                found[port.name] = made.ports[port.name]
                continue
            where = (planned.name, "input", port.name)
            if plug is None:
                default = planned.defaults.get(port.name) or self.host.builder.part(dict(port.default or {}))
                given: Any = [default] if port.many else default
            else:
                given = _filled(plug, port.many, values)
            if port.many:
                found[port.name] = [self._built(item, *where, index) for index, item in enumerate(given)]
            else:
                found[port.name] = self._built(given, *where)
        return found

    def _built(self, plug: Plug, *where: str | int) -> Any:
        """An input as an object; one named inline is built with a seed of its own, as every stage is."""
        return self._make(plug, plug.inputs, *where) if isinstance(plug, Part) else plug

    def _make(self, part: Part, ports: Mapping[str, Any], *purpose: str | int) -> Any:
        """A component built here, by the seed of a purpose."""
        seed = draw_seed(derive_generator(self.seed, *purpose))
        return self.host.builder.make(part, ports, Placement(seed, self.device, self.dtype, self.executor))


def _filled(plug: Plug, many: bool, values: Lookup) -> Any:
    """A plug with the values of stages; a list for a port that takes several."""
    found = with_values(plug, values)
    return [found] if many and not isinstance(found, list) else found


_READ_EVENTS = ("evaluate", "outliers", "assess", "interpolate")
"""Verbs of scores, flows and geometries that read events of the shape that these are for."""


class _UnknownError(Exception):
    """The value of an input is unknown before its stage is done."""


def rehearse(
    builder: StageBuilder, plan: Plan, done: Callable[[str], Any], stages: Sequence[PlannedStage]
) -> list[ScorefoldError]:
    """Errors of stages that have not begun, each with its place in the file.

    ``done`` gives the value of a stage before them, a copy of its own, or raises ``KeyError``. Components are built as
    they will be, on the CPU. An error counts where nothing that is still to be computed is plugged in: what a component
    makes of a model that is not trained yet says nothing. Other faults of a plugin's code are left for the stage
    itself.
    """
    on_cpu, built, problems = replace(builder, device="cpu"), dict[str, Any](), list[ScorefoldError]()
    to_come = {planned.name for planned in stages if planned.registered.component.kind != "data"}

    def value(name: str) -> Any:
        if name not in built:
            try:
                built[name] = done(name)
            except KeyError:
                raise _UnknownError(name) from None
        return built[name]

    with guarded(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for planned in stages:
            try:
                _build(on_cpu, planned, value, built)
            except ScorefoldError as error:
                ours = not isinstance(error, PluginError) or isinstance(error.__cause__, ScorefoldError)
                if ours and not to_come.intersection(names_in(list(planned.inputs.values()))):
                    problems.append(error.at(planned.file or plan.run.path, planned.line, planned.column))
                continue
            except Exception:
                continue
            try:
                _check_shapes(planned, value)
            except ShapeError as error:
                problems.append(error.at(planned.file or plan.run.path, planned.line, planned.column))
            except Exception:
                continue
    return problems


def _build(builder: StageBuilder, planned: PlannedStage, value: Callable[[str], Any], built: dict[str, Any]) -> None:
    """Build a stage's component, and note it as what the stage hands on where that is so."""
    if planned.source is not None:
        return
    if planned.registered.component.kind == "data" and planned.artefact is None:
        component = builder.source(planned, value)
    else:
        component = builder.component(planned, value, value)
    if isinstance(component, nn.Module):
        component.eval()  # as training would leave it
    if planned.verb.gives == planned.registered.component.kind:
        built[planned.name] = component


def _check_shapes(planned: PlannedStage, value: Callable[[str], Any]) -> None:
    """Raises ``ShapeError`` where a verb would read events of another shape than its model is for."""
    component, name = planned.registered.component, planned.inputs.get("data")
    if (
        planned.source is None
        or component.kind not in ("score", "flow", "geometry")
        or planned.verb.name not in _READ_EVENTS
    ):
        return
    model, data = value(planned.source), value(name) if isinstance(name, str) else None
    wanted, shape = getattr(model, "event_shape", None), getattr(data, "event_shape", None)
    if wanted is not None and shape is not None and tuple(shape) != tuple(wanted):
        raise ShapeError(
            f"stage {planned.name!r} would {planned.verb.name} data of shape {tuple(shape)} with "
            f"{with_article(component.kind)} for events of shape {tuple(wanted)}",
            hint="use data of the shape that it is made for",
        )


_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.\w+)*:[A-Za-z_]\w*")


def check_states(builder: Builder, folder: Path) -> None:
    """Check the state in a folder and the copies inside it, before anything is built.

    Raises ``ArtefactError`` for what is damaged, not installed or of a later revision, for a port whose state stands
    outside, and for a setting that names a file or a function of the machine that it is loaded on.
    """
    for state, use, config in _states(builder, folder):
        found = [*_files(builder, use, config), *_functions(config)]
        if found:
            raise ArtefactError(
                f"{state} names {found[0]!r:.200}, which is no part of it: a model that is shared reads no file and "
                "calls no function outside its folder",
                hint="share a model that was trained from data, which leaves only their shape and scale in it",
            )


def _states(builder: Builder, folder: Path) -> Iterator[tuple[Path, str, Mapping[str, Any]]]:
    """Each state of a folder: where it stands, its component, and its configuration as that has it today."""
    tensors, raw = load_state(folder)
    manifest = check_manifest(raw, folder)
    registered, config, _ = current_state(builder, folder, manifest, tensors)
    yield folder, registered.qualified, config
    for name, entry in manifest.ports.items():
        for item in entry if isinstance(entry, list) else [entry]:
            if item.state is None:
                continue
            if not item.copied:
                raise ArtefactError(
                    f"port {name!r} of {folder} refers to a state outside it, {item.state}",
                    hint="push it again: scorefold push keeps copies inside",
                )
            yield from _states(builder, referenced_folder(folder, item, f"port {name!r} of {folder}"))


def _files(builder: Builder, use: str, config: Mapping[str, Any]) -> list[str]:
    """The paths in a configuration and in the components named in it."""
    found: list[str] = []

    def note(_: Any, path: Path) -> str:
        found.append(str(path))
        return str(path)

    anchored_use(builder.catalogue, {"use": use, "config": config}, note)
    return found


def _functions(value: Any) -> Iterator[str]:
    """Values of the form ``module:function`` in a configuration; components are named under ``use``."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key != "use":
                yield from _functions(item)
    elif isinstance(value, list):
        for item in value:
            yield from _functions(item)
    elif isinstance(value, str) and _FUNCTION.fullmatch(value):
        yield value
