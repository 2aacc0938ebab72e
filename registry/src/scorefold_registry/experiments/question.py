"""Request of a comparison: components and the choices for all rows, checked before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scorefold.config import Use
from scorefold.errors import ConfigError
from scorefold.plugin import Comparison
from scorefold_registry.components.catalogue import Catalogue
from scorefold_registry.components.messages import config_error
from scorefold_registry.components.parts import check_config, options_model
from scorefold_registry.experiments.cases import Case, check_cases
from scorefold_registry.experiments.row_file import Choices, as_inline, own_config, with_field
from scorefold_registry.plugins.names import did_you_mean, sentences
from scorefold_registry.plugins.records import Registered
from scorefold_registry.runfile.reader import near


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
    last = comparison.verbs[-1]
    for owner, item in {item.component.kind: item for item in components}.items():
        kind = catalogue.kind(owner)
        verb = catalogue.verb(item.component, last) if last in kind.verb_names else kind.verb(last)
        if verb is not None:
            check_cases(cases, verb, options_model(verb))
    choices = Choices(_plugged(catalogue, components, plugged), _fields(catalogue, fields))
    _check_fields(catalogue, components, cases, choices)
    return choices


def _plugged(catalogue: Catalogue, components: Sequence[Registered], given: Mapping[str, Any]) -> dict[str, Any]:
    """Choices for ports, checked against the ports of the components."""
    ports = {port.name: port for item in components for port in item.component.requires if "data" not in port.kinds}
    for name, value in given.items():
        if name not in ports:
            known = f"their ports are {', '.join(ports)}" if ports else "none of them has a port beside data"
            raise ConfigError(
                f"no component here has a port {name!r}", hint=sentences(did_you_mean(name, ports), known)
            )
        inline = as_inline(value)
        if inline is None:
            raise ConfigError(f"port {name!r} is given {value!r}", hint=f"such as {name}={{use: kind:name}}")
        found = catalogue.resolve(inline["use"])
        if found.component.kind not in ports[name].kinds:
            wanted = " or ".join(ports[name].kinds)
            raise ConfigError(f"port {name!r} takes a {wanted}; {found.id} is a {found.component.kind}")
        if isinstance(value, Mapping):
            _check_inline(name, value, found)
        config, problems = check_config(catalogue, found, inline["config"])
        if config is None or problems:
            raise config_error(f"the config of {found.id}", problems)
    return dict(given)


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
