"""Parts of the stages of a run file: components, their configs and inputs, each read once."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from scorefold.config import Use
from scorefold.errors import ConfigError, PluginError
from scorefold.plugin import Verb
from scorefold_registry.components.catalogue import Catalogue
from scorefold_registry.components.messages import Problem, RawPath
from scorefold_registry.components.parts import ConfigRead, Plug, read_config, read_use, with_installed
from scorefold_registry.components.paths import Anchor, absolute, with_value_at
from scorefold_registry.components.ports import PortOffer, check_inputs
from scorefold_registry.plugins.records import Registered
from scorefold_registry.runfile.reader import KEY_CODES, RunFile, StageSpec, near, yaml_type
from scorefold_registry.runfile.yaml_reader import DataPath, Place, Positioned, parse, yaml_text


def base_folder(run: RunFile, place: DataPath) -> Path:
    """The folder that a relative path at a place starts at.

    It is the folder of the file that the path is written in, the run file or its base. For a path in an option such as
    ``--set`` it is the working folder.
    """
    written = run.source.place(place)
    if written.option is not None:
        return Path.cwd()
    return run.folder if written.file is None else Path(written.file).parent


def from_file(run: RunFile, base: DataPath, found: set[str]) -> Anchor:
    """Makes the paths of a mapping absolute, which stands at ``base`` in the run file; ``found`` gets each.

    A path that leads to nothing from its file, and to something from the working folder, becomes a problem of the file.
    """

    def anchor(place: RawPath, path: Path) -> str:
        where = (*base, *place)
        folder = base_folder(run, where)
        full = absolute(path, folder)
        here = absolute(path, Path.cwd())
        if full != here and _leads_somewhere(here) and not _leads_somewhere(full):
            problem: ConfigError = run.source.error(
                f"{path} starts at the folder of the run file, and there is no {full}",
                where,
                hint=f"it is in the working folder: write {os.path.relpath(here, folder)}",
            )
            problem.code = "path"
            run.problems.append(problem)
        found.add(full)
        note_base(run, where, full)
        return full

    return anchor


def note_base(run: RunFile, place: DataPath, full: str) -> None:
    """Notes how a path that starts at the file's base is written from the file itself."""
    written = run.source.place(place)
    if written.option is None and written.file is not None and Path(written.file).parent != run.folder:
        run.of_base[place] = os.path.relpath(full, run.folder)


def put_together(run: RunFile) -> None:
    """Writes the paths of the base into the text of a file that extends one in another folder, from the file itself."""
    if not run.of_base:
        return
    comment, _, text = run.text.partition("\n")
    data = parse(text, str(run.path)).data
    for place, path in run.of_base.items():
        data = with_value_at(data, place, path)
    run.text = f"{comment}\n{yaml_text(data)}"


def _leads_somewhere(path: str) -> bool:
    """True if there is such a file or folder, or one that a pattern names."""
    return os.path.exists(path) or any(_matches(path))


def _matches(path: str) -> Iterator[Path]:
    with suppress(OSError, ValueError, NotImplementedError):
        yield from Path(path).parent.glob(Path(path).name.partition("{")[0] + "*" * ("{" in path))


RENAMED: dict[str, str] = {}
"""Old names to new ones: a component as ``score:old`` to ``score:new``, a setting as ``score:new.old`` to ``new``. A
setting has the component's present name, and dots where it is nested: ``score:new.training.old`` to ``new``."""

_BEFORE = re.compile(r"([&!]\S*[ \t]+)*['\"]?")
"""Text that can precede a name at the start of a value or key: an anchor, a tag and a quotation mark."""

_COMPONENT = re.compile(r"(?P<before>([\w-]+/)?)(?P<name>[\w-]+:[\w-]+)(?P<after>(@\d+)?)\Z")


class Change(NamedTuple):
    """A name to be replaced: its place, what stands there and what is to."""

    place: Place
    old: str
    new: str


def renamed(text: str, table: Mapping[str, str]) -> tuple[str, list[Change]]:
    """The text of a run file with new names in place of old ones, and each change in the order of the file.

    Only the names change, so comments and layout stay. A name that is written with escapes or over two lines is left
    alone, and so is a setting beside one of the new name, or one that an alias also gives to another component. Broken
    YAML has no change.
    """
    source = parse(text, "")
    found = [(key, Change(source.place(path, key=key), old, new)) for path, key, old, new in old_names(source, table)]
    repeated, counts = Counter(source.keys.values()), Counter(change for key, change in found if key)
    changes = [change for key, change in found if not key or counts[change] == repeated[change.place]]
    # From the end, so that places before stay; a name that an alias repeats has one place.
    places = sorted(set(changes), key=_position, reverse=True)
    lines = re.split(r"(\r\n|\r|\n)", text)  # lines at even positions, what ends them at odd ones
    done = []
    for change in places:
        row, start = _position(change)
        line = lines[2 * row - 2]
        before = _BEFORE.match(line, start - 1)
        start = before.end() if before is not None else start - 1
        if line.startswith(change.old, start):
            lines[2 * row - 2] = line[:start] + change.new + line[start + len(change.old) :]
            done.append(change)
    return "".join(lines), done[::-1]


def old_names(source: Positioned, table: Mapping[str, str]) -> list[tuple[DataPath, bool, str, str]]:
    """The path of each old name in a run file that was read, whether it is a key, the old and the new text."""
    stages = source.data.get("stages") if isinstance(source.data, dict) else None
    return list(_changes(stages, ("stages",), table))


def _new_name(text: str, table: Mapping[str, str]) -> str | None:
    """The new name of a component, with its distribution and revision as given; None for one that has no other."""
    match = _COMPONENT.match(text)
    new = None if match is None else table.get(match["name"])
    return None if match is None or new is None else f"{match['before']}{new}{match['after']}"


def _position(change: Change) -> tuple[int, int]:
    """Line and column of a change, from 1."""
    return change.place.line or 1, change.place.column or 1


def _changes(value: Any, path: DataPath, table: Mapping[str, str]) -> Iterator[tuple[DataPath, bool, str, str]]:
    if isinstance(value, str):
        if (new := _new_name(value, table)) is not None:
            yield path, False, value, new
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _changes(item, (*path, index), table)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _changes(item, (*path, key), table)
        match = _COMPONENT.match(use) if isinstance(use := value.get("use"), str) else None
        if match is not None:
            component = table.get(match["name"], match["name"])
            yield from _settings(value.get("config"), (*path, "config"), f"{component}.", table)


def _settings(
    config: Any, path: DataPath, before: str, table: Mapping[str, str]
) -> Iterator[tuple[DataPath, bool, str, str]]:
    for key, item in config.items() if isinstance(config, dict) else ():
        if (new := table.get(f"{before}{key}")) is not None and new not in config:
            yield (*path, key), True, key, new
        yield from _settings(item, (*path, key), f"{before}{new or key}.", table)


def inline_use(value: Any) -> dict[str, Any] | None:
    """An input as an inline component mapping, where it is one: ``{use: ...}`` or a bare ``kind:name``."""
    if isinstance(value, str) and ":" in value:
        return {"use": value}
    return value if isinstance(value, dict) else None


class _Value(NamedTuple):
    """Component at an input, and its offer; None if unknown because of an error reported elsewhere."""

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
            self.error(f"'use' is {yaml_type(text)}; expected kind:name", path)
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
        self.error(f"an input is {yaml_type(value)}; expected a stage", path, hint=hint)
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
                self.error(f"{key!r} is {yaml_type(value)}; expected a mapping", (*path, key))
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


OPTION, PORT = "trainings", "repeats"


def write_out(catalogue: Catalogue, run: RunFile) -> None:
    """Add the stages of the option to a run file. With ``trainings: 3``, a ``dimension`` that takes ``score`` gets
    ``score-2`` and ``score-3``, whose seeds follow from their names, an estimate from each, and these as its
    ``repeats``. A stage that can't be repeated is a problem of the run file."""
    written = dict(run.stages)
    for name, spec in written.items():
        count = spec.options.get(OPTION, 1)
        if type(count) is not int or not 3 <= count <= 50 or _verb(catalogue, spec) != "estimate":
            continue  # 1, or refused where options are checked
        models = [each for each in _named(spec.inputs) if each in written and _verb(catalogue, written[each]) == "fit"]
        if spec.uses_stage or not models:
            hint = f"train the model in a stage of its own ('do: fit') and name it in the inputs of {spec.name}"
            _refuse(run, spec, f"{OPTION} is {count}, and no stage that trains a model is among the inputs", hint)
            continue
        options = {key: value for key, value in spec.options.items() if key != OPTION}
        for number in range(2, count + 1):
            again = {model: f"{model}-{number}" for model in models}
            copies = {new: replace(written[model], name=new, repeats=model) for model, new in again.items()}
            own = f"{name}-{number}"
            copies[own] = replace(spec, name=own, repeats=name, inputs=_renamed(spec.inputs, again), options=options)
            if taken := sorted(copies.keys() & written.keys()):
                message = f"{OPTION} is {count}, which makes a stage {taken[0]!r}, and there is one already"
                _refuse(run, spec, message, f"give stage {taken[0]!r} another name")
                break
            run.stages.update(copies)
        inputs = {**spec.inputs, PORT: [f"{name}-{number}" for number in range(2, count + 1)]}
        run.stages[name] = replace(spec, inputs=inputs, options=options)


def _verb(catalogue: Catalogue, spec: StageSpec) -> str | None:
    """The verb of a stage that creates a component; None for others, and for one that isn't known."""
    if spec.load is not None or spec.uses_stage:
        return None
    try:
        component = catalogue.resolve(spec.use).component
    except PluginError:
        return None
    verb = catalogue.kinds[component.kind].verb(spec.do)
    return None if verb is None else verb.name


def _named(inputs: Mapping[str, Any]) -> list[str]:
    """The stages named by inputs themselves, without those inside inline components."""
    return [value for value in inputs.values() if isinstance(value, str)]


def _renamed(inputs: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {port: names.get(value, value) if isinstance(value, str) else value for port, value in inputs.items()}


def _refuse(run: RunFile, spec: StageSpec, message: str, hint: str) -> None:
    run.problems.append(run.source.error(message, (*spec.path, "options", OPTION), hint=hint))
