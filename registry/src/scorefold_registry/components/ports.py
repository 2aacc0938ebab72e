"""Components plugged into a component: at its ports, and inline in its configuration, with their places.

``Inside`` has the names of components as an environment of plugins knows them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from scorefold.config import InlineKind, Use
from scorefold.errors import PluginError
from scorefold.plugin import Port, Verb
from scorefold_registry.components.catalogue import Catalogue
from scorefold_registry.components.messages import Problem, RawPath
from scorefold_registry.plugins.names import did_you_mean, parse_reference, sentences
from scorefold_registry.plugins.records import Registered


class PortOffer(NamedTuple):
    """A value for a port, as far as it is known before a run: its kind, its capabilities, and its name in messages."""

    kind: str
    provides: tuple[str, ...] = ()
    label: str = ""


Given = Mapping[str, "PortOffer | Sequence[PortOffer | None] | None"]
"""The offers for each port: one, several (for a ``many`` port), or None where nothing is known."""


def check_inputs(catalogue: Catalogue, registered: Registered, verb: Verb | None, given: Given) -> list[Problem]:
    """Faults of the components at the ports of a constructor and of a verb of its kind.

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
            if any(is_required(port, component.provides) for port in wanted):
                problems.append(_missing(catalogue, registered, wanted))
            continue
        for port in wanted:
            problems += _check_port(port, given[name])
    return list(dict.fromkeys(problems))


def _ports(registered: Registered, verb: Verb | None) -> dict[str, list[Port]]:
    ports: dict[str, list[Port]] = {}
    for port in (*registered.component.requires, *(verb.takes if verb is not None else ())):
        ports.setdefault(port.name, []).append(port)
    return ports


def is_required(port: Port, provides: Sequence[str]) -> bool:
    """True if a component with these capabilities needs something plugged into a port."""
    if port.when:
        return port.when in provides
    return not port.optional and port.default is None


def _missing(catalogue: Catalogue, registered: Registered, wanted: Sequence[Port]) -> Problem:
    port = next(port for port in wanted if is_required(port, registered.component.provides))
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
    if (port.kind, port.needs) == ("data", ()):  # most people have data of their own
        known = "for example {use: data:array, config: {path: mine.csv}}; in Python an array, a table or a path"
    message = f"nothing is plugged into port {port.name!r} of {registered.id}; it needs {_wanted(port)}{why}"
    return Problem((), message, known or None, "missing-port")


def _wanted(port: Port) -> str:
    kinds = " or ".join(port.kinds)
    needs = f" that provides {' and '.join(port.needs)}" if port.needs else ""
    return f"{'one or more components' if port.many else 'a component'} of kind {kinds}{needs}"


def _check_port(port: Port, plugged: PortOffer | Sequence[PortOffer | None] | None) -> list[Problem]:
    if plugged is None:
        return []
    if isinstance(plugged, PortOffer):
        return check_offer(plugged, port.kinds, port.needs, (port.name,), f"port {port.name!r}")
    if not port.many:
        message = f"port {port.name!r} takes one component of kind {' or '.join(port.kinds)}; {len(plugged)} are there"
        return [Problem((port.name,), message, None, "type")]
    problems: list[Problem] = []
    for index, item in enumerate(plugged):
        if item is not None:
            problems += check_offer(item, port.kinds, port.needs, (port.name, index), f"port {port.name!r}")
    return problems


def check_offer(
    plugged: PortOffer, kinds: Sequence[str], needs: Sequence[str], path: RawPath, place: str
) -> list[Problem]:
    """Problems of an offer whose kind or capabilities do not fit a place."""
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


class InlineField(NamedTuple):
    """A component named inline in a configuration: its place, its value (a ``Use`` or a built object), what fits."""

    path: RawPath
    value: Any
    kind: str
    needs: tuple[str, ...]


def inline_fields(config: BaseModel) -> Iterator[InlineField]:
    """The inline components of a config, in the order of its fields, inside nested models and lists too."""
    for name, info in type(config).model_fields.items():
        marks = [mark for mark in info.metadata if isinstance(mark, InlineKind)] or list(_marks(info.annotation))
        optional = type(None) in get_args(info.annotation)
        value = getattr(config, name)
        if value is None and optional:
            continue
        one = [((name,), value)] if _is_one(info) else _entries(value, (name,))
        for path, part in one:
            if isinstance(part, BaseModel) and not isinstance(part, Use):
                yield from (item._replace(path=(*path, *item.path)) for item in inline_fields(part))
            elif marks:
                yield InlineField(path, part, marks[0].kind, marks[0].needs)


def _is_one(info: FieldInfo) -> bool:
    """True if a field is one inline component, or none: a list is then no list of them."""
    if any(isinstance(mark, InlineKind) for mark in info.metadata):
        return True
    among = get_args(info.annotation) if get_origin(info.annotation) in (Union, UnionType) else ()
    inline = [part for part in among if get_origin(part) is Annotated and any(_marks(part))]
    return bool(inline) and len(inline) == sum(part is not type(None) for part in among)


def _entries(value: Any, path: RawPath) -> Iterator[tuple[RawPath, Any]]:
    if isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _entries(item, (*path, index))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _entries(item, (*path, key))
    else:
        yield path, value


def _marks(annotation: Any) -> Iterator[InlineKind]:
    """The inline kinds inside an annotation such as ``list[Inline("network")]``."""
    if get_origin(annotation) is Annotated:
        yield from (mark for mark in get_args(annotation)[1:] if isinstance(mark, InlineKind))
    for argument in get_args(annotation):
        if not isinstance(argument, (str, int, InlineKind)):
            yield from _marks(argument)


class Inside(Catalogue):
    """A catalogue in which a name means the component of an environment. The worker knows no other components.

    ``environment`` is the environment of the component whose config has the names.
    """

    def __init__(self, catalogue: Catalogue, environment: Any) -> None:
        vars(self).update(vars(catalogue))
        self._environment = environment

    def resolve(self, text: str, *, any_revision: bool = False) -> Registered:
        """The component of the environment that ``text`` names. Raises ``PluginError`` where it has none."""
        name = self._environment.spec.name
        if parse_reference(text).distribution is None:
            try:
                return super().resolve(f"{name}/{text}", any_revision=any_revision)
            except PluginError:
                pass  # the catalogue says more of a name that nobody has
        return self._checked(super().resolve(text, any_revision=any_revision))

    def pinned(self, item: Registered, *, whole: bool = False) -> str:
        """``kind:name@revision``. Raises ``PluginError`` for a component that is not in the environment."""
        return self._checked(item).component.versioned_id

    def _checked(self, item: Registered) -> Registered:
        if item.record.environment is not self._environment:
            name = self._environment.spec.name
            raise PluginError(
                f"{item.id} of {item.distribution} is named in a config of the environment {name!r}; it is not in it",
                hint=f"add {item.distribution} to the requirements of [environments.{name}]",
            )
        return item
