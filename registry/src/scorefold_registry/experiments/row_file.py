"""The run file of one row: a component put on a case, its ports filled, ready to run by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scorefold.config import Use
from scorefold.errors import ConfigError
from scorefold.plugin import Comparison, Port, Verb
from scorefold_registry.components.catalogue import Catalogue
from scorefold_registry.components.parts import check_config
from scorefold_registry.components.paths import free_name
from scorefold_registry.experiments.cases import Case
from scorefold_registry.plugins.loading import load_target
from scorefold_registry.plugins.records import Registered


class NotOnThisCaseError(ConfigError):
    """A component that can't be put on a case, which is no fault of either."""

    code = "not-on-this-case"


@dataclass(frozen=True)
class Choices:
    """Choices for all rows: ports by name, and fields by the qualified names of components."""

    plugged: Mapping[str, Any] = field(default_factory=dict)
    fields: Mapping[str, Sequence[tuple[tuple[str, ...], Any]]] = field(default_factory=dict)


def stages_of(
    catalogue: Catalogue, registered: Registered, comparison: Comparison, case: Case, choices: Choices
) -> dict[str, dict[str, Any]]:
    """The stages that put a component on a case, as a run file writes them; the last one gives the answer.

    Raises ``NotOnThisCaseError`` where a port can't be filled, the kind lacks a verb, or the data are of another sort.
    """
    return _Stages(catalogue, case, choices).compared(registered, comparison)


def run_text(name: str, seed: int, threads: int, stages: Mapping[str, Any]) -> str:
    """The text of a run file with these stages."""
    from scorefold_registry.runfile.yaml_reader import yaml_text

    return yaml_text(
        {"version": 1, "name": name, "seed": seed, "runtime": {"threads": threads}, "stages": dict(stages)}
    )


def used_in(stages: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """The components that are plugged in, data apart."""
    names = {name: stage.get("load") or stage["use"] for name, stage in stages.items() if name != "data"}
    made = [use for name, use in names.items() if ":" in use]
    return tuple(made[:-1])


def as_inline(value: Any) -> dict[str, Any] | None:
    """A component named inline as ``{use, config, inputs}``: a mapping, a ``Use`` or just a name."""
    if isinstance(value, Use):
        value = value.model_dump()
    if isinstance(value, str):
        value = {"use": value}
    if not isinstance(value, Mapping) or not isinstance(value.get("use"), str):
        return None
    return {"use": value["use"], "config": value.get("config") or {}, "inputs": value.get("inputs") or {}}


def own_config(catalogue: Catalogue, registered: Registered) -> Mapping[str, Any]:
    """Configuration of a compared component: its defaults or, if fields have none, its first declared example."""
    if check_config(catalogue, registered, {})[0] is not None:
        return {}
    return _example(registered).get("config") or {}


def _example(registered: Registered) -> Mapping[str, Any]:
    examples = registered.component.examples
    return examples[0] if examples else {}


def with_field(config: Mapping[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    """A copy of a configuration with the field at ``path`` set, and the mappings on the way to it made."""
    if len(path) == 1:
        return {**config, path[0]: value}
    inner = config.get(path[0])
    return {**config, path[0]: with_field(inner if isinstance(inner, Mapping) else {}, path[1:], value)}


def _has_distribution(catalogue: Catalogue, data: Mapping[str, Any]) -> bool:
    """True if the points of inline data follow a distribution that they know; a set made of others, where all of these
    do.
    """
    from scorefold.interfaces.capabilities import KnowsDistribution

    found = catalogue.resolve(data["use"])
    if found.record.environment is not None:
        return False  # the distribution stays in its environment
    target = load_target(found, found.component.target)
    if not (isinstance(target, type) and issubclass(target, KnowsDistribution)):
        return False
    plugged = [item for value in data["inputs"].values() for item in (value if isinstance(value, list) else [value])]
    return all(_has_distribution(catalogue, part) for part in map(as_inline, plugged) if part is not None)


@dataclass
class _Stages:
    catalogue: Catalogue
    case: Case
    choices: Choices
    made: dict[str, dict[str, Any]] = field(default_factory=dict)

    def compared(self, registered: Registered, comparison: Comparison) -> dict[str, dict[str, Any]]:
        kind = self.catalogue.kind(registered.component.kind)
        *before, last = comparison.verbs
        answering = kind.verb(last)
        if answering is None:
            raise NotOnThisCaseError(f"components of kind {kind.name} have no verb {last!r}, which is compared")
        # What a kind lacks of the verbs before it (an estimator's components are not fitted), it does without.
        verbs = [*filter(None, map(kind.verb, before)), answering]
        name = use = ""
        for verb in verbs:
            stage: dict[str, Any]
            if use:
                name, stage = free_name(verb.name, self.made), {"use": use, "do": verb.name, "inputs": self._verb(verb)}
            else:
                use = name = free_name(f"{kind.name}-{registered.component.name}", self.made)
                inputs = self._constructor(registered, self.choices.plugged, {}, chosen=False)
                inputs |= self._verb(verb, registered)
                config = self._config(registered, own_config(self.catalogue, registered))
                stage = {"use": self._name(registered), "do": verb.name, "inputs": inputs, "config": config}
            self.made[name] = stage
        self.made[name]["options"] = dict(self.case.options)
        if self.case.split is not None and "data" in self.made[name]["inputs"]:
            self.made[name]["split"] = self.case.split
        return {name: {key: value for key, value in stage.items() if value} for name, stage in self.made.items()}

    def _name(self, registered: Registered) -> str:
        return self.catalogue.pinned(registered).rpartition("@")[0]

    def _data(self) -> str:
        """The stage of the case's data."""
        if self.case.data is None:
            raise NotOnThisCaseError(f"the case {self.case.name!r} has no data", hint="choose one with: --data sphere")
        if "data" not in self.made:
            found = self.catalogue.resolve(self.case.data["use"])
            config = self._config(found, self.case.data["config"])
            self.made["data"] = {"use": self.case.data["use"], "config": config, "inputs": self.case.data["inputs"]}
        return "data"

    def _config(self, registered: Registered, config: Mapping[str, Any]) -> dict[str, Any]:
        changed = dict(config)
        for path, value in self.choices.fields.get(registered.qualified, ()):
            changed = with_field(changed, path, value)
        return changed

    def _constructor(
        self, registered: Registered, given: Mapping[str, Any], outer: Mapping[str, Any], chosen: bool
    ) -> dict[str, Any]:
        """The ports of a constructor: the case's data, what is given, defaults, what its first declared example says.

        ``outer`` is what the ports of the component around it are plugged to; ``chosen`` says that a person chose it.
        """
        inputs: dict[str, Any] = {}
        for port in registered.component.requires:
            if "data" in port.kinds and not chosen:
                self._check_distribution(registered, port)
            value = self._source(registered, port, given, outer)
            if value is not None:
                inputs[port.name] = self._plugged(value, port, {**outer, **inputs}, chosen or port.name in given)
            elif not port.optional and not (port.when and port.when not in registered.component.provides):
                raise NotOnThisCaseError(
                    f"nothing is plugged into port {port.name!r} of {registered.id}: it has no default, and its first "
                    "declared example plugs nothing in",
                    hint=f"--plug {port.name}=..., with a component of kind {' or '.join(port.kinds)}",
                )
        return inputs

    def _check_distribution(self, registered: Registered, port: Port) -> None:
        """Raises where a component that is made from the distribution of its data is put on data that know none.

        One that was chosen for this comparison, or whose configuration was, is left alone.
        """
        if not port.needs_density or self.case.data is None or registered.qualified in self.choices.fields:
            return
        if not _has_distribution(self.catalogue, self.case.data):
            raise NotOnThisCaseError(
                f"{registered.id} was made for data whose distribution is known, and {self.case.data['use']} knows none"
            )

    def _source(self, registered: Registered, port: Port, given: Mapping[str, Any], outer: Mapping[str, Any]) -> Any:
        example = _example(registered).get("inputs") or {}
        if port.installed:
            return given.get(port.name)
        if "data" in port.kinds:
            # Further data that a component can do without are its own affair.
            wanted = not port.optional or port.name == "data" or port.name in example
            return "data" if wanted and self.case.data is not None else None
        offers = (given.get(port.name), port.default, outer.get(port.name), example.get(port.name))
        return next((value for value in offers if value), None)

    def _plugged(self, value: Any, port: Port, outer: Mapping[str, Any], chosen: bool) -> Any:
        try:
            if isinstance(value, list):
                return [self._part(item, outer, chosen) for item in value]
            part = self._part(value, outer, chosen)
        except NotOnThisCaseError as error:
            hint = error.hint or f"plug in another: --plug {port.name}=USE"
            raise NotOnThisCaseError(error.message, hint=hint) from None
        return [part] if port.many else part

    def _part(self, value: Any, outer: Mapping[str, Any], chosen: bool) -> Any:
        """Component at a port, for this case: the name of its stage, or inline if its kind has no verb to make it."""
        if value == "data":
            return self._data()
        if isinstance(value, Mapping) and "load" in value:
            return self._stage("loaded", dict(value))
        value = outer.get(value, value) if isinstance(value, str) else value
        inline = as_inline(value)
        if inline is None or (isinstance(value, str) and value in self.made):
            return value
        found = self.catalogue.resolve(inline["use"])
        component = found.component
        if component.kind == "data":
            return self._data()
        config = self._config(found, inline["config"])
        # An example that sets fields of a part says what it wants it for.
        inputs = self._constructor(found, inline["inputs"], outer, chosen or bool(inline["config"]))
        verb = self.catalogue.kind(component.kind).verb()
        if verb is None or verb.gives != component.kind:
            return {"use": inline["use"], "config": config, "inputs": inputs}
        stage = {"use": inline["use"], "config": config, "inputs": {**inputs, **self._verb(verb, found)}}
        return self._stage(f"{component.kind}-{component.name}", stage)

    def _stage(self, name: str, stage: dict[str, Any]) -> str:
        """The name of a stage: its own, or of an equal one that is there already."""
        same = [known for known, made in self.made.items() if made == stage]
        if not same:
            same = [free_name(name, self.made)]
            self.made[same[0]] = stage
        return same[0]

    def _verb(self, verb: Verb, registered: Registered | None = None) -> dict[str, Any]:
        """The case's data for a verb that needs them, of a component that it makes or of one that is there already; and
        what a person plugged into ports of the verb."""
        provides = () if registered is None else registered.component.provides
        needed = [
            port
            for port in verb.takes
            if "data" in port.kinds and (port.when in provides if port.when else not port.optional)
        ]
        free = [port for port in verb.takes if "data" not in port.kinds and not port.passed_over]
        chosen = [port for port in free if port.name in self.choices.plugged]
        return {port.name: self._data() for port in needed} | {
            port.name: self._plugged(self.choices.plugged[port.name], port, {}, True) for port in chosen
        }
