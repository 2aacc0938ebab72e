"""Configurations and ports checked against what is installed, before torch is imported."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from scorefold.config import Config, InlineKind, Use
from scorefold.errors import PluginError, ScorefoldError
from scorefold.plugin import Port, Verb
from scorefold_registry.components.catalogue import Catalogue
from scorefold_registry.components.messages import Problem, RawPath, config_problems, dotted, show, within
from scorefold_registry.plugins.loading import describe, load_target
from scorefold_registry.plugins.names import did_you_mean, sentences
from scorefold_registry.plugins.records import Registered

__all__ = [
    "Plugged",
    "Problem",
    "check_config",
    "check_inputs",
    "check_use",
    "config_model",
    "config_problems",
    "inline_uses",
    "resolve_config",
    "with_installed",
]


class Plugged(NamedTuple):
    """What is plugged into a port, as far as it is known beforehand: kind, capabilities, and what to call it."""

    kind: str
    provides: tuple[str, ...] = ()
    label: str = ""


Given = Mapping[str, "Plugged | Sequence[Plugged | None] | None"]
"""What each port is plugged to: one thing, several (for a ``many`` port), or None where nothing is known of it."""


class InlineUse(NamedTuple):
    """A component named inline in a config: where it is, its value (a ``Use`` or a built object), what may be there."""

    path: RawPath
    value: Any
    kind: str
    needs: tuple[str, ...]


def config_model(registered: Registered) -> type[Config]:
    """The pydantic model of a component's config. Raises ``PluginError`` where its plugin can't deliver it."""
    model = load_target(registered, registered.component.config)
    if not (isinstance(model, type) and issubclass(model, Config)):
        raise PluginError(
            f"the config of {registered.id}, {registered.component.config}, is no scorefold.config.Config "
            f"({registered.record.label})"
        )
    return model


def check_config(
    catalogue: Catalogue, registered: Registered, raw: Mapping[str, Any] | Config | None
) -> tuple[Config | None, list[Problem]]:
    """A component's config from what a person wrote, and everything that is wrong with it.

    Components named inline are checked too, at any depth. The config is None where it is not valid itself; paths are
    from ``raw``. Imports config models only.
    """
    try:
        model = config_model(registered)
    except PluginError as error:
        return None, [_of_error(error, "plugin")]
    if isinstance(raw, Config):
        if not isinstance(raw, model):
            return None, [Problem((), f"the config is a {type(raw).__name__}; {registered.id} takes {model.__name__}")]
        config, raw = raw, {}
    else:
        raw = {} if raw is None else raw
        if not isinstance(raw, Mapping):
            return None, [
                Problem((), f"the config of {registered.id} is {show(raw)}; expected a mapping", None, "type")
            ]
        try:
            config = model.model_validate(raw)
        except ValidationError as error:
            return None, config_problems(model, error, raw)
        except ScorefoldError as error:
            return None, [_of_error(error, error.code)]
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            message = f"checking the config of {registered.id} failed: {describe(error)} ({registered.record.label})"
            return None, [Problem((), message, None, "plugin")]
    problems: list[Problem] = []
    outer = {port.name for port in registered.component.requires}
    for item in inline_uses(config):
        for problem in _check_inline(catalogue, item, outer):
            problems.append(replace(problem, path=within((*item.path, *problem.path), raw)))
    return config, problems


def check_use(
    catalogue: Catalogue, use: Use, *, place: InlineUse | None = None, outer: Sequence[str] = ()
) -> tuple[Registered | None, list[Problem]]:
    """A component named inline, and what is wrong with it: its name, kind, capabilities, config and ports.

    ``place`` is the field it stands in. ``outer`` are the ports of the component around it: an inline component takes a
    port of the same name from there, and a port plugged to a name means that port. Paths are from the mapping
    ``{use, config, inputs}``.
    """
    try:
        found = catalogue.resolve(use.use)
    except PluginError as error:
        return None, [Problem(("use",), error.message, error.hint, "unknown-component")]
    problems: list[Problem] = []
    if place is not None:
        plugged = Plugged(found.component.kind, found.component.provides, found.id)
        problems += _fits(plugged, (place.kind,), place.needs, ("use",), dotted(place.path))
    problems += [problem.under("config") for problem in check_config(catalogue, found, use.config)[1]]
    given: dict[str, Any] = {}
    for name, value in use.inputs.items():
        given[name], faults = _check_input(catalogue, value, outer)
        problems += [problem.under("inputs", name) for problem in faults]
    given.update(
        {port.name: None for port in found.component.requires if port.name in outer and port.name not in given}
    )
    problems += [problem.under("inputs") for problem in check_inputs(catalogue, found, None, given)]
    return found, problems


def check_inputs(catalogue: Catalogue, registered: Registered, verb: Verb | None, given: Given) -> list[Problem]:
    """What is wrong with what a component's constructor and a verb of its kind are plugged to.

    Unknown and missing ports, wrong kinds, missing capabilities, and a verb that the component can't do. Paths are from
    the mapping of inputs.
    """
    component = registered.component
    problems: list[Problem] = []
    for need in () if verb is None else verb.needs:
        if need not in component.provides:
            able = [item.id for item in catalogue.of_kind(component.kind) if need in item.component.provides]
            hint = f"those that can: {', '.join(able)}" if able else f"no {component.kind} that is installed can"
            message = f"{registered.id} can't {verb.name if verb else ''}: that needs {need}"
            problems.append(Problem((), message, hint, "capability"))
    ports = _ports(registered, verb)
    for name in given:
        if name not in ports:
            does = f" and its verb {verb.name}" if verb is not None and verb.takes else ""
            known = (
                f"{registered.id}{does} takes {', '.join(ports)}" if ports else f"{registered.id}{does} takes no input"
            )
            hint = sentences(did_you_mean(name, ports), known)
            problems.append(Problem((name,), f"unknown port {name!r}", hint, "unknown-port"))
    for name, wanted in ports.items():
        if name not in given:
            if any(_required(port, component.provides) for port in wanted):
                problems.append(_missing(catalogue, registered, wanted))
            continue
        for port in wanted:
            problems += _check_port(port, _as_plugged(given[name]))
    return list(dict.fromkeys(problems))


def with_installed(catalogue: Catalogue, registered: Registered, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Inputs with a list of installed components for each port that takes these where nothing else is plugged in.

    See ``Port.installed``. A component that can't be built from its default configuration is left out.
    """
    filled = {
        port.name: [
            {"use": catalogue.pinned(item).rpartition("@")[0]}
            for kind in port.kinds
            for item in catalogue.of_kind(kind)
            if not item.component.requires
            and item.state != "shadowed"
            and check_config(catalogue, item, {})[0] is not None
        ]
        for port in registered.component.requires
        if port.installed and inputs.get(port.name) is None
    }
    return {**inputs, **filled} if filled else inputs


def _ports(registered: Registered, verb: Verb | None) -> dict[str, list[Port]]:
    ports: dict[str, list[Port]] = {}
    for port in (*registered.component.requires, *(verb.takes if verb is not None else ())):
        ports.setdefault(port.name, []).append(port)
    return ports


def _required(port: Port, provides: Sequence[str]) -> bool:
    if port.when:
        return port.when in provides
    return not port.optional and port.default is None


def _missing(catalogue: Catalogue, registered: Registered, wanted: Sequence[Port]) -> Problem:
    port = next(port for port in wanted if _required(port, registered.component.provides))
    why = f" because it is {port.when}" if port.when else ""
    fitting = [
        item
        for kind in port.kinds
        if kind in catalogue.kinds
        for item in catalogue.of_kind(kind)
        if set(port.needs) <= set(item.component.provides)
    ]
    fitting.sort(key=lambda item: "Trainable" not in item.component.provides)  # most people have none that is trained
    known = f"for example {', '.join(item.id for item in fitting[:5])}" if fitting else ""
    message = f"nothing is plugged into port {port.name!r} of {registered.id}; it needs {_wanted(port)}{why}"
    return Problem((), message, known or None, "missing-port")


def _wanted(port: Port) -> str:
    kinds = " or ".join(port.kinds)
    needs = f" that provides {' and '.join(port.needs)}" if port.needs else ""
    return f"{'one or more components' if port.many else 'a component'} of kind {kinds}{needs}"


def _as_plugged(given: Any) -> Any:
    """A plain ``(kind, provides)`` pair as ``Plugged``."""
    if isinstance(given, tuple) and given and isinstance(given[0], str):
        return Plugged(*given)
    return (
        [_as_plugged(item) for item in given]
        if isinstance(given, (list, tuple)) and type(given) is not Plugged
        else given
    )


def _check_port(port: Port, plugged: Plugged | Sequence[Plugged | None] | None) -> list[Problem]:
    if plugged is None:
        return []
    if isinstance(plugged, Plugged):
        return _fits(plugged, port.kinds, port.needs, (port.name,), f"port {port.name!r}")
    if not port.many:
        message = f"port {port.name!r} takes one component of kind {' or '.join(port.kinds)}; {len(plugged)} are there"
        return [Problem((port.name,), message, None, "type")]
    problems: list[Problem] = []
    for index, item in enumerate(plugged):
        if item is not None:
            problems += _fits(item, port.kinds, port.needs, (port.name, index), f"port {port.name!r}")
    return problems


def _fits(plugged: Plugged, kinds: Sequence[str], needs: Sequence[str], path: RawPath, place: str) -> list[Problem]:
    what = plugged.label or f"something of kind {plugged.kind}"
    if plugged.kind not in kinds:
        given = f"{plugged.label}, of kind {plugged.kind}," if plugged.label else what
        message = f"{place} takes a component of kind {' or '.join(kinds)}; {given} is plugged into it"
        return [Problem(path, message, None, "kind")]
    missing = [need for need in needs if need not in plugged.provides]
    if not missing:
        return []
    provides = f"it provides {', '.join(plugged.provides)}" if plugged.provides else "it provides no capability"
    return [
        Problem(path, f"{place} needs {' and '.join(missing)}, which {what} does not provide", provides, "capability")
    ]


def _check_input(catalogue: Catalogue, value: Any, outer: Sequence[str]) -> tuple[Any, list[Problem]]:
    """What an inline component's port is plugged to: a component, a port of the component around it, or a list."""
    if isinstance(value, list):
        parts = [_check_input(catalogue, item, outer) for item in value]
        return [part[0] for part in parts], [item.under(place) for place, part in enumerate(parts) for item in part[1]]
    if isinstance(value, Mapping):
        try:
            value = Use.model_validate(dict(value))
        except ValidationError as error:
            return None, config_problems(Use, error, value)
    if isinstance(value, Use):
        found, problems = check_use(catalogue, value, outer=outer)
        if found is None:
            return None, problems
        return Plugged(found.component.kind, found.component.provides, found.id), problems
    if isinstance(value, str) and value not in outer:
        known = f"the component around it has the ports {', '.join(outer)}" if outer else ""
        hint = sentences(did_you_mean(value, outer), known, "or name a component inline: {use: kind:name}")
        return None, [Problem((), f"nothing here is called {value!r}", hint, "unknown-port")]
    if value is None or isinstance(value, (bool, int, float)):
        return None, [
            Problem((), f"{show(value)} can't be plugged into a port; expected {{use: kind:name}}", None, "type")
        ]
    return None, []


def _check_inline(catalogue: Catalogue, item: InlineUse, outer: set[str]) -> list[Problem]:
    if isinstance(item.value, Use):
        return check_use(catalogue, item.value, place=item, outer=sorted(outer))[1]
    if item.value is None or isinstance(item.value, (bool, int, float, bytes, list, tuple)):
        message = f"{dotted(item.path)} is {show(item.value)}; expected a component of kind {item.kind}"
        return [Problem((), message, f"for example {{use: {_example(catalogue, item)}}}", "type")]
    return []


def _example(catalogue: Catalogue, item: InlineUse) -> str:
    found = [entry.id for entry in catalogue.components if entry.component.kind == item.kind]
    return found[0] if found else f"{item.kind}:name"


def _of_error(error: ScorefoldError, code: str) -> Problem:
    return Problem((), error.message, error.hint, code)


def inline_uses(config: BaseModel) -> Iterator[InlineUse]:
    """The inline components of a config, in the order of its fields, inside nested models and lists too."""
    for name, field in type(config).model_fields.items():
        marks = [mark for mark in field.metadata if isinstance(mark, InlineKind)] or list(_marks(field.annotation))
        optional = type(None) in get_args(field.annotation)
        value = getattr(config, name)
        if value is None and optional:
            continue
        one = [((name,), value)] if _is_one(field) else _parts(value, (name,))
        for path, part in one:
            if isinstance(part, BaseModel) and not isinstance(part, Use):
                yield from (item._replace(path=(*path, *item.path)) for item in inline_uses(part))
            elif marks:
                yield InlineUse(path, part, marks[0].kind, marks[0].needs)


def _is_one(field: FieldInfo) -> bool:
    """Whether a field is one inline component, or none: a list is then no list of them."""
    if any(isinstance(mark, InlineKind) for mark in field.metadata):
        return True
    among = get_args(field.annotation) if get_origin(field.annotation) in (Union, UnionType) else ()
    inline = [part for part in among if get_origin(part) is Annotated and any(_marks(part))]
    return bool(inline) and len(inline) == sum(part is not type(None) for part in among)


def _parts(value: Any, path: RawPath) -> Iterator[tuple[RawPath, Any]]:
    if isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _parts(item, (*path, index))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _parts(item, (*path, key))
    else:
        yield path, value


def _marks(annotation: Any) -> Iterator[InlineKind]:
    """The inline kinds inside an annotation such as ``list[Inline("network")]``."""
    if get_origin(annotation) is Annotated:
        yield from (mark for mark in get_args(annotation)[1:] if isinstance(mark, InlineKind))
    for argument in get_args(annotation):
        if not isinstance(argument, (str, int, InlineKind)):
            yield from _marks(argument)


def resolve_config(
    catalogue: Catalogue,
    config: Config,
    built: Callable[[Any], Any] = lambda value: None,
    *,
    whole: bool = False,
) -> dict[str, Any]:
    """A config as JSON with every default written out and every inline component's revision pinned, at any depth.

    ``built`` says what stands for an object that was plugged in built already (from Python); ``whole`` is that of
    ``Catalogue.pinned``. Raises ``PluginError`` for an inline component that can't be resolved; call it on a config
    that has been checked.
    """
    resolved: dict[str, Any] = to_jsonable_python(config.model_dump(), fallback=lambda built: None)
    for item in inline_uses(config):
        is_use = isinstance(item.value, Use)
        _put(resolved, item.path, _resolve_use(catalogue, item.value, whole) if is_use else built(item.value))
    return resolved


def _resolve_use(catalogue: Catalogue, use: Use, whole: bool) -> dict[str, Any]:
    """An inline component as JSON, its config and its inputs resolved."""
    found = catalogue.resolve(use.use)
    config, problems = check_config(catalogue, found, use.config)
    if config is None or problems:
        raise PluginError(f"{use.use}: {problems[0].message}", hint=problems[0].hint)
    inputs = with_installed(catalogue, found, use.inputs)
    return {
        "use": catalogue.pinned(found, whole=whole),
        "config": resolve_config(catalogue, config, whole=whole),
        "inputs": {name: _resolve_input(catalogue, value, whole) for name, value in inputs.items()},
    }


def _resolve_input(catalogue: Catalogue, value: Any, whole: bool) -> Any:
    if isinstance(value, list):
        return [_resolve_input(catalogue, item, whole) for item in value]
    if isinstance(value, (Mapping, Use)):
        return _resolve_use(catalogue, value if isinstance(value, Use) else Use.model_validate(dict(value)), whole)
    return value


def _put(target: Any, path: RawPath, value: Any) -> None:
    for part in path[:-1]:
        target = target[part]
    target[path[-1]] = value
