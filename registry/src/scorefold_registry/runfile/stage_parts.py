"""What stands in the stages of a run file: components, their configs and inputs, each read once into parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

from pydantic import ValidationError

from scorefold.config import Use
from scorefold.errors import PluginError
from scorefold.plugin import Verb
from scorefold_registry.components.catalogue import Catalogue
from scorefold_registry.components.messages import Problem
from scorefold_registry.components.parts import ConfigRead, Plug, read_config, read_use, with_installed
from scorefold_registry.components.ports import PortOffer, check_inputs
from scorefold_registry.plugins.records import Registered
from scorefold_registry.runfile.paths import from_file
from scorefold_registry.runfile.reader import KEY_CODES, RunFile, StageSpec, kind_of, near
from scorefold_registry.runfile.renamed import RENAMED, old_names
from scorefold_registry.runfile.yaml_reader import DataPath


def inline_use(value: Any) -> dict[str, Any] | None:
    """An input as an inline component mapping, where it is one: ``{use: ...}`` or a bare ``kind:name``."""
    if isinstance(value, str) and ":" in value:
        return {"use": value}
    return value if isinstance(value, dict) else None


class _Value(NamedTuple):
    """What an input is plugged to, and its offer; None for what is not known because of an error reported elsewhere."""

    plug: Plug
    offer: Any = None


@dataclass
class PartReader:
    """Reads the parts of stages. What is wrong becomes a problem of the run file.

    ``offers`` has what each earlier stage offers to ports, None where it failed; ``paths`` collects all files that the
    stage in hand names.
    """

    catalogue: Catalogue
    run: RunFile
    offers: dict[str, PortOffer | None] = field(default_factory=dict)
    paths: set[str] = field(default_factory=set)

    def error(
        self, message: str, path: DataPath, *, key: bool = False, hint: str | None = None, code: str = "config"
    ) -> None:
        """Adds a problem at a place of the run file; for a name that was renamed its hint says so."""
        if code in ("unknown-component", "unknown-field") and (now := self._renamed.get(path)) is not None:
            hint = f"it is now {now}; scorefold validate --fix {self.run.source.place(path).file or self.run.path}"
        error = self.run.source.error(message, path, key=key, hint=hint)
        error.code = code
        self.run.problems.append(error)

    def resolve(self, text: Any, path: DataPath) -> Registered | None:
        """The component of a name; None where that is reported as a problem."""
        if not isinstance(text, str):
            self.error(f"'use' is {kind_of(text)}; expected kind:name", path)
            return None
        try:
            return self.catalogue.resolve(text)
        except PluginError as error:
            self.error(error.message, path, hint=error.hint, code="unknown-component")
            return None

    @cached_property
    def _renamed(self) -> dict[DataPath, str]:
        """The new names of the old ones that stand in the run file, by their paths."""
        return {path: new for path, _, _, new in old_names(self.run.source, RENAMED)}

    def config(self, registered: Registered, raw: Mapping[str, Any], path: DataPath) -> ConfigRead:
        """A component's configuration, checked at any depth, with paths that are absolute."""
        read = read_config(self.catalogue, registered, raw, from_file(self.run, (*path, "config"), self.paths))
        for problem in read.problems:
            self.add_problem(problem, (*path, "config"))
        if read.config is None:
            # A config that fails is checked no further, but what stands inside it may be wrong too.
            failed = {problem.path for problem in read.problems}
            for inside, use in _uses(raw, ()):
                if not any(inside == known[: len(inside)] for known in failed):
                    outer = [port.name for port in registered.component.requires]
                    for problem in read_use(self.catalogue, use, outer=outer).problems:
                        self.add_problem(problem.under(*inside), (*path, "config"))
        return read

    def add_problem(self, problem: Problem, base: DataPath) -> None:
        """Adds a problem whose place starts at ``base``."""
        is_key = problem.code in KEY_CODES
        self.error(problem.message, (*base, *problem.path), key=is_key, hint=problem.hint, code=problem.code)

    def check_nested(self, spec: StageSpec) -> None:
        """Problems inside the inputs of a stage whose own component is not known."""
        self._values(spec.inputs, (*spec.path, "inputs"))

    def inputs(
        self, inputs: Mapping[str, Any], path: DataPath, registered: Registered, verb: Verb | None
    ) -> dict[str, Plug]:
        """Inputs, checked against the ports of a constructor and a verb."""
        given = self._values(inputs, (*path, "inputs"))
        offers = {name: value.offer for name, value in given.items()}
        for problem in check_inputs(self.catalogue, registered, verb, offers):
            if problem.code == "capability" and not problem.path:
                where = (*path, "do") if (*path, "do") in self.run.source.values else (*path, "use")
                self.error(problem.message, where, hint=problem.hint, code=problem.code)
            elif problem.code == "missing-port":
                where = (*path, "inputs") if inputs else path
                hint = self._stage_hint(problem, registered, verb)
                self.error(problem.message, where, key=True, hint=hint, code=problem.code)
            else:
                self.add_problem(
                    replace(problem, hint=problem.hint or self._stage_hint(problem, registered, verb)),
                    (*path, "inputs"),
                )
        return {name: value.plug for name, value in given.items()}

    def _stage_hint(self, problem: Problem, registered: Registered, verb: Verb | None) -> str | None:
        """The stages that would fit a port, in place of the catalogue's hint."""
        ports = [*registered.component.requires, *(verb.takes if verb is not None else ())]
        wanted = [port for port in ports if repr(port.name) in problem.message]
        if not wanted:
            return problem.hint
        port = wanted[0]
        fitting = [
            name
            for name, offer in self.offers.items()
            if offer is not None and offer.kind in port.kinds and set(port.needs) <= set(offer.provides)
        ]
        if problem.code == "missing-port" and fitting:
            return f"add 'inputs: {{{port.name}: {fitting[0]}}}'"
        if fitting:
            return f"stages that fit: {', '.join(fitting)}"
        return problem.hint or f"no stage fits; add one {' or '.join(f'that gives a {kind}' for kind in port.kinds)}"

    def _values(self, inputs: Mapping[str, Any], path: DataPath) -> dict[str, _Value]:
        found: dict[str, _Value] = {}
        for name, value in inputs.items():
            here = (*path, name)
            if isinstance(value, list):
                items = [self._value(item, (*here, index)) for index, item in enumerate(value)]
                found[name] = _Value([item.plug for item in items], [item.offer for item in items])
            else:
                found[name] = self._value(value, here)
        return found

    def _value(self, value: Any, path: DataPath) -> _Value:
        inline = inline_use(value)
        if inline is not None:
            return self._inline(inline, path)
        if isinstance(value, str):
            return _Value(value, self.offers.get(value))
        hint = "name an earlier stage, or a component inline: {use: kind:name}"
        self.error(f"an input is {kind_of(value)}; expected a stage", path, hint=hint)
        return _Value(None)

    def _inline(self, raw: Mapping[str, Any], path: DataPath) -> _Value:
        for key in raw:
            if key not in Use.model_fields:
                what, hint = f"{key!r} is not a field of an inline component", near(key, tuple(Use.model_fields))
                self.error(what, (*path, key), key=True, hint=hint)
        if "use" not in raw:
            self.error("an inline component has no 'use'", path, hint="for example {use: data:digits}")
            return _Value(None)
        parts: dict[str, Mapping[str, Any]] = {}
        for key in ("config", "inputs"):
            value = {} if raw.get(key) is None else raw[key]
            if not isinstance(value, dict):
                self.error(f"{key!r} is {kind_of(value)}; expected a mapping", (*path, key))
                value = {}
            parts[key] = value
        use_path = (*path, "use") if (*path, "use") in self.run.source.values else path
        registered = self.resolve(raw["use"], use_path)
        if registered is None:
            self._values(parts["inputs"], (*path, "inputs"))
            return _Value(None)
        config = self.config(registered, parts["config"], path)
        inputs = with_installed(self.catalogue, registered, self.inputs(parts["inputs"], path, registered, None))
        offer = PortOffer(registered.component.kind, tuple(registered.component.provides), registered.id)
        return _Value(config.part(self.catalogue, inputs), offer)


def _uses(raw: Any, path: DataPath) -> Iterator[tuple[DataPath, Use]]:
    """The outermost inline components in a raw configuration that are of the right form."""
    if isinstance(raw, list):
        for index, item in enumerate(raw):
            yield from _uses(item, (*path, index))
    elif isinstance(raw, dict):
        try:
            yield path, Use.model_validate(raw)
        except ValidationError:
            for key, value in raw.items():
                yield from _uses(value, (*path, key))
