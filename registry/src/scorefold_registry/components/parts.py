"""Parts: components with their settings, wherever they are named. Each is read and checked once, without torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import to_jsonable_python

from scorefold.config import Config, Use
from scorefold.errors import PluginError, ScorefoldError
from scorefold.plugin import Port, Verb
from scorefold_registry.components.catalogue import Catalogue
from scorefold_registry.components.messages import Problem, RawPath, config_problems, cut_path, dotted, show
from scorefold_registry.components.paths import Anchor, anchored, under, with_value_at, written_at
from scorefold_registry.components.ports import InlineField, PortOffer, check_inputs, check_offer, inline_fields
from scorefold_registry.plugins.loading import describe, load_target
from scorefold_registry.plugins.names import did_you_mean, sentences, with_article
from scorefold_registry.plugins.records import RefusedConfigError, Registered

Plug = Any
"""A value for a port: a part, a name in the scope around it, a list of these, or an object that is built already."""


@dataclass(frozen=True)
class Part:
    """A component with its settings, checked.

    ``inline`` has the parts (or built objects) in fields of the configuration, by their places. ``inputs`` has what the
    ports are plugged to: the strings in it name stages in a run file, and ports of the component around it in a
    configuration. ``defaults`` has the parts of ports where nothing is plugged in.
    """

    registered: Registered
    config: Config
    inline: Mapping[RawPath, Any] = field(default_factory=dict)
    inputs: Mapping[str, Plug] = field(default_factory=dict)
    defaults: Mapping[str, Part] = field(default_factory=dict)

    @property
    def offer(self) -> PortOffer:
        component = self.registered.component
        return PortOffer(component.kind, tuple(component.provides), self.registered.id)

    def config_json(
        self, catalogue: Catalogue, built: Callable[[Any], Any] = lambda value: None, *, whole: bool = False
    ) -> dict[str, Any]:
        """The configuration as JSON: defaults written out, and revisions of inline components pinned, at any depth.

        ``built`` returns the JSON of an object that was built already. ``whole`` is an argument of
        ``Catalogue.pinned``.
        """
        found: dict[str, Any] = to_jsonable_python(self.config.model_dump(), fallback=lambda value: None)
        for path, value in self.inline.items():
            inner = value.as_json(catalogue, built=built, whole=whole) if isinstance(value, Part) else built(value)
            _put(found, path, inner)
        return found

    def as_json(
        self,
        catalogue: Catalogue,
        reference: Callable[[str], Any] = str,
        *,
        built: Callable[[Any], Any] = lambda value: None,
        whole: bool = False,
    ) -> dict[str, Any]:
        """The mapping ``{use, config, inputs}`` as JSON; ``reference`` returns what stands for a name in the inputs."""
        return {
            "use": catalogue.pinned(self.registered, whole=whole),
            "config": self.config_json(catalogue, built, whole=whole),
            "inputs": {
                name: plug_json(catalogue, plug, reference, built=built, whole=whole)
                for name, plug in self.inputs.items()
            },
        }


def plug_json(
    catalogue: Catalogue,
    plug: Plug,
    reference: Callable[[str], Any],
    *,
    built: Callable[[Any], Any] = lambda value: value,
    whole: bool = False,
) -> Any:
    """A plug as JSON; ``reference`` returns what stands for a name, ``built`` for an object."""
    if isinstance(plug, list):
        return [plug_json(catalogue, item, reference, built=built, whole=whole) for item in plug]
    if isinstance(plug, Part):
        return plug.as_json(catalogue, reference, built=built, whole=whole)
    return reference(plug) if isinstance(plug, str) else built(plug)


def parts_in(plug: Plug) -> Iterator[Part]:
    """The parts of a plug, at any depth of inputs, configurations and defaults; each before the parts inside it."""
    if isinstance(plug, list):
        for item in plug:
            yield from parts_in(item)
    elif isinstance(plug, Part):
        yield plug
        yield from parts_in([*plug.inputs.values(), *plug.inline.values(), *plug.defaults.values()])


def names_in(plug: Plug) -> Iterator[str]:
    """The names in a plug, at any depth of inputs."""
    if isinstance(plug, list):
        for item in plug:
            yield from names_in(item)
    elif isinstance(plug, Part):
        yield from names_in(list(plug.inputs.values()))
    elif isinstance(plug, str):
        yield plug


def with_values(plug: Plug, values: Callable[[str], Any]) -> Plug:
    """A plug with values in place of names, at any depth of inputs."""
    if isinstance(plug, list):
        return [with_values(item, values) for item in plug]
    if isinstance(plug, Part):
        return replace(plug, inputs={name: with_values(inner, values) for name, inner in plug.inputs.items()})
    return values(plug) if isinstance(plug, str) else plug


class ConfigRead(NamedTuple):
    """A configuration that was read. ``config`` is None where it is not valid itself; ``written`` has the paths as the
    anchor gives them; paths of problems start at the mapping that was read."""

    registered: Registered
    config: Config | None
    inline: Mapping[RawPath, Any]
    written: Any
    problems: list[Problem]

    def part(self, catalogue: Catalogue, inputs: Mapping[str, Plug]) -> Part | None:
        """The part with these inputs; None where something is wrong."""
        if self.config is None or self.problems:
            return None
        defaults = default_parts(catalogue, self.registered.component.requires, inputs)
        return Part(self.registered, self.config, self.inline, inputs, defaults)


class UseRead(NamedTuple):
    """A component named inline that was read. ``part`` is None where something is wrong; ``config`` and ``inputs`` are
    as they were written, with paths as the anchor gives them."""

    registered: Registered | None
    part: Part | None
    config: Any
    inputs: Any
    problems: list[Problem]


def config_model(registered: Registered) -> type[Config]:
    """The pydantic model of a component's config. Raises ``PluginError`` where its plugin can't deliver it."""
    if registered.record.environment is not None:
        return registered.record.environment.config_model(registered)  # type: ignore[no-any-return]
    model = load_target(registered, registered.component.config)
    if not (isinstance(model, type) and issubclass(model, Config)):
        raise PluginError(
            f"the config of {registered.id}, {registered.component.config}, is no scorefold.config.Config "
            f"({registered.record.label})"
        )
    return model


def options_model(verb: Verb) -> type[Config] | None:
    """The pydantic model of a verb's options; None for a verb without any."""
    if verb.options is None:
        return None
    module, _, name = verb.options.partition(":")
    model: type[Config] = getattr(import_module(module), name)
    return model


def check_config(
    catalogue: Catalogue, registered: Registered, raw: Mapping[str, Any] | Config | None
) -> tuple[Config | None, list[Problem]]:
    """A component's config from what a person wrote, and everything that is wrong with it; see ``read_config``."""
    read = read_config(catalogue, registered, raw)
    return read.config, read.problems


def read_config(
    catalogue: Catalogue,
    registered: Registered,
    raw: Mapping[str, Any] | Config | None,
    anchor: Anchor | None = None,
) -> ConfigRead:
    """Read a component's configuration, and the components that are named inline in it, at any depth.

    ``anchor`` replaces the paths in it. Imports config models only.
    """

    def refused(*problems: Problem) -> ConfigRead:
        return ConfigRead(registered, None, {}, raw, list(problems))

    given: Any = {} if raw is None or isinstance(raw, Config) else raw
    try:
        model = config_model(registered)
    except PluginError as error:
        return refused(_of_error(error, "plugin"))
    if isinstance(raw, Config):
        if not isinstance(raw, model):
            return refused(
                Problem((), f"the config is {with_article(type(raw).__name__)}; {registered.id} takes {model.__name__}")
            )
        config = raw
    else:
        if not isinstance(given, Mapping):
            return refused(
                Problem((), f"the config of {registered.id} is {show(raw)}; expected a mapping", None, "type")
            )
        validated = _validated(registered, model, given)
        if isinstance(validated, list):
            return refused(*validated)
        config = validated
    if registered.record.environment is not None:
        from scorefold_registry.components.ports import Inside

        catalogue = Inside(catalogue, registered.record.environment)
    problems: list[Problem] = []
    inline: dict[RawPath, Any] = {}
    written = given if anchor is None else anchored(config, given, anchor)
    outer = sorted(port.name for port in registered.component.requires)
    for item in inline_fields(config):
        here = written_at(given, item.path)
        # Paths of a default, or of a shorthand that became a component, stay: nobody wrote them as paths of this file.
        named = anchor is not None and isinstance(here, Mapping) and isinstance(here.get("use"), str)
        inner = under(anchor, *item.path) if anchor is not None and named else None
        found = _read_inline(catalogue, item, outer, inner)
        inline[item.path] = found.part if isinstance(item.value, Use) else item.value
        problems += [replace(problem, path=cut_path((*item.path, *problem.path), given)) for problem in found.problems]
        written = _with_written(written, item.path, found) if named else written
    if written is not given:
        validated = _validated(registered, model, written)
        if isinstance(validated, list):
            return refused(*validated)
        config = validated
    return ConfigRead(registered, config, inline, raw if written is given else written, problems)


def _validated(registered: Registered, model: type[Config], raw: Mapping[str, Any]) -> Config | list[Problem]:
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        return config_problems(model, error, raw)
    except RefusedConfigError as error:
        return [Problem(tuple(path), message, hint, code) for path, message, hint, code in error.problems]
    except ScorefoldError as error:
        return [_of_error(error, error.code)]
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        message = f"checking the config of {registered.id} failed: {describe(error)} ({registered.record.label})"
        return [Problem((), message, None, "plugin")]


def _with_written(written: Any, path: RawPath, found: UseRead) -> Any:
    """A configuration as it was written, with the paths of an inline component replaced."""
    here = written_at(written, path)
    own = {"config": found.config, "inputs": found.inputs}
    changed = {key: value for key, value in own.items() if isinstance(here.get(key), Mapping) and value != here[key]}
    return with_value_at(written, path, {**here, **changed}) if changed else written


def read_use(
    catalogue: Catalogue,
    use: Use,
    *,
    place: InlineField | None = None,
    outer: Sequence[str] = (),
    anchor: Anchor | None = None,
) -> UseRead:
    """Read a component named inline: its name, kind, capabilities, config and ports.

    ``place`` is the field it stands in. ``outer`` are the ports of the component around it: an inline component takes a
    port of its own name from there, and a port plugged to a name means that port. Paths of problems start at the
    mapping ``{use, config, inputs}``.
    """
    try:
        found = catalogue.resolve(use.use)
    except PluginError as error:
        problem = Problem(("use",), error.message, error.hint, "unknown-component")
        written = use.model_dump() if anchor is None else anchored_use(catalogue, use.model_dump(), anchor)
        return UseRead(None, None, written["config"], written["inputs"], [problem])
    problems: list[Problem] = []
    component = found.component
    if place is not None:
        offer = PortOffer(component.kind, component.provides, found.id)
        problems += check_offer(offer, (place.kind,), place.needs, ("use",), dotted(place.path))
    read = read_config(catalogue, found, use.config, None if anchor is None else under(anchor, "config"))
    problems += [problem.under("config") for problem in read.problems]
    offers: dict[str, Any] = {}
    plugs: dict[str, Plug] = {}
    inputs: dict[str, Any] = {}
    for name, value in use.inputs.items():
        inner = None if anchor is None else under(anchor, "inputs", name)
        one = _read_input(catalogue, value, outer, inner)
        plugs[name], offers[name], inputs[name] = one.plug, one.offer, one.written
        problems += [problem.under("inputs", name) for problem in one.problems]
    offers.update({port.name: None for port in component.requires if port.name in outer and port.name not in offers})
    problems += [problem.under("inputs") for problem in check_inputs(catalogue, found, None, offers)]
    part = None if problems else read.part(catalogue, with_installed(catalogue, found, plugs))
    return UseRead(found, part, read.written, inputs, problems)


class _InputRead(NamedTuple):
    plug: Plug
    offer: Any
    written: Any
    problems: list[Problem]


def _read_input(catalogue: Catalogue, value: Any, outer: Sequence[str], anchor: Anchor | None) -> _InputRead:
    """Read what an inline component's port is plugged to: a component, a port of the component around it, or a list."""
    if isinstance(value, list):
        parts = [
            _read_input(catalogue, item, outer, None if anchor is None else under(anchor, index))
            for index, item in enumerate(value)
        ]
        problems = [item.under(place) for place, part in enumerate(parts) for item in part.problems]
        plugs, offers = [part.plug for part in parts], [part.offer for part in parts]
        return _InputRead(plugs, offers, [part.written for part in parts], problems)
    use = Use(use=value) if isinstance(value, str) and ":" in value and value not in outer else value
    if isinstance(value, Mapping):
        try:
            use = Use.model_validate(dict(value))
        except ValidationError as error:
            return _InputRead(None, None, value, config_problems(Use, error, value))
    if isinstance(use, Use):
        read = read_use(catalogue, use, outer=outer, anchor=anchor)
        own = {"config": read.config, "inputs": read.inputs}
        kept = value if isinstance(value, Mapping) else use.model_dump()
        written = {**kept, **{key: item for key, item in own.items() if isinstance(kept.get(key), Mapping)}}
        if read.registered is None:
            return _InputRead(None, None, written, read.problems)
        component = read.registered.component
        return _InputRead(
            read.part, PortOffer(component.kind, component.provides, read.registered.id), written, read.problems
        )
    if isinstance(value, str) and value not in outer:
        known = f"the component around it has the ports {', '.join(outer)}" if outer else ""
        hint = sentences(did_you_mean(value, outer), known, "or name a component inline: {use: kind:name}")
        problem = Problem((), f"there is no port {value!r} here", hint, "unknown-port")
        return _InputRead(value, None, value, [problem])
    if value is None or isinstance(value, (bool, int, float)):
        message = f"{show(value)} can't be plugged into a port; expected {{use: kind:name}}"
        return _InputRead(value, None, value, [Problem((), message, None, "type")])
    return _InputRead(value, None, value, [])


def _read_inline(catalogue: Catalogue, item: InlineField, outer: Sequence[str], anchor: Anchor | None) -> UseRead:
    if isinstance(item.value, Use):
        return read_use(catalogue, item.value, place=item, outer=outer, anchor=anchor)
    problems = []
    if item.value is None or isinstance(item.value, (bool, int, float, bytes, list, tuple)):
        message = f"{dotted(item.path)} is {show(item.value)}; expected a component of kind {item.kind}"
        fitting = [entry.id for entry in catalogue.components if entry.component.kind == item.kind]
        example = fitting[0] if fitting else f"{item.kind}:name"
        problems = [Problem((), message, f"for example {{use: {example}}}", "type")]
    return UseRead(None, None, None, None, problems)


def with_installed(catalogue: Catalogue, registered: Registered, inputs: Mapping[str, Plug]) -> Mapping[str, Plug]:
    """Inputs with a list of installed components for each port that takes these where nothing else is plugged in.

    See ``Port.installed``. A component that can't be built from its default configuration is left out.
    """
    found = {
        port.name: [
            part
            for kind in port.kinds
            for item in catalogue.of_kind(kind)
            if not item.component.requires
            and item.record.environment is None
            and item.state != "shadowed"
            and (part := read_config(catalogue, item, {}).part(catalogue, {})) is not None
        ]
        for port in registered.component.requires
        if port.installed and inputs.get(port.name) is None
    }
    return {**inputs, **found} if found else inputs


def default_parts(catalogue: Catalogue, ports: Sequence[Port], inputs: Mapping[str, Plug]) -> dict[str, Part]:
    """The parts of ports that have a default, where nothing is plugged in. A default that is not valid is left out:
    whatever builds it says what is wrong."""
    outer = [port.name for port in ports]
    found = {}
    for port in ports:
        if port.default is not None and inputs.get(port.name) is None:
            part = read_use(catalogue, Use.model_validate(dict(port.default)), outer=outer).part
            if part is not None:
                found[port.name] = part
    return found


def anchored_use(catalogue: Catalogue, raw: Mapping[str, Any], anchor: Anchor) -> dict[str, Any]:
    """A component named inline, or a stage, as it was written, with the paths of its config and its inputs replaced.

    What is not valid is left as it is, for whoever checks it.
    """
    changed = dict(raw)
    if isinstance(raw.get("config"), Mapping):
        try:
            found = catalogue.resolve(raw["use"], any_revision=True)
            changed["config"] = read_config(catalogue, found, raw["config"], under(anchor, "config")).written
        except PluginError:
            pass
    if isinstance(raw.get("inputs"), Mapping):
        inner = under(anchor, "inputs")
        changed["inputs"] = {
            name: _anchored_input(catalogue, value, under(inner, name)) for name, value in raw["inputs"].items()
        }
    return changed


def _anchored_input(catalogue: Catalogue, value: Any, anchor: Anchor) -> Any:
    if isinstance(value, (list, tuple)):
        return [_anchored_input(catalogue, item, under(anchor, index)) for index, item in enumerate(value)]
    named = isinstance(value, Mapping) and isinstance(value.get("use"), str)
    return anchored_use(catalogue, value, anchor) if named else value


def _of_error(error: ScorefoldError, code: str) -> Problem:
    return Problem((), error.message, error.hint, code)


def _put(target: Any, path: RawPath, value: Any) -> None:
    for part in path[:-1]:
        target = target[part]
    target[path[-1]] = value
