"""Cases of a comparison: data sets by name, problems by their options, or a file of named cases."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from scorefold.config import Config, Use
from scorefold.errors import ConfigError, PluginError
from scorefold.plugin import Comparison, Verb
from scorefold_registry.components.catalogue import Catalogue
from scorefold_registry.components.messages import config_error, config_problems
from scorefold_registry.components.parts import anchored_use, read_use
from scorefold_registry.components.paths import absolute, file_name
from scorefold_registry.plugins.names import did_you_mean, sentences, with_article
from scorefold_registry.run.data_summary import loader_of
from scorefold_registry.runfile.reader import KEY_CODES, yaml_type
from scorefold_registry.runfile.yaml_reader import Positioned, parse, parse_value, read_text

_COMPONENT = re.compile(r"(?P<name>[^\[\]]+?)(\[(?P<number>\d+)\])?\Z")


class CaseModel(Config):
    """A case in a file of cases."""

    use: str | None = Field(None, description="The data, a component of kind data; none for a problem without data")
    config: dict[str, Any] = Field(default_factory=dict, description="The configuration of the data")
    inputs: dict[str, Any] = Field(default_factory=dict, description="Components for the ports of the data")
    options: dict[str, Any] = Field(default_factory=dict, description="Options of the verb that is compared")
    split: Literal["train", "validation", "test"] | None = Field(None, description="The split; null for the verb's own")
    truth: float | None = Field(None, description="The true answer, if the data do not have it")


@dataclass(frozen=True)
class Case:
    """Case on which components are compared. ``data`` is an inline component, or None for a problem without data."""

    name: str
    data: Mapping[str, Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    split: str | None = None
    truth: float | None = None


def find_cases(catalogue: Catalogue, what: str, comparison: Comparison, on: Sequence[str]) -> list[Case]:
    """The cases that ``on`` names, or those that a kind or capability is compared on where it names none.

    A case is the name of a data component (its first declared example, or the second as ``name[1]``), one of ours by
    name, ``option=value`` for a problem without data, or a YAML file of cases. Raises ``ConfigError`` with near misses
    for what is none of these, and where there is nothing to compare on. Raises ``PluginError`` for a declared case that
    can't be read.
    """
    texts = [text.strip() for given in on for text in given.split(",") if text.strip()]
    if on and not texts:
        raise ConfigError("--data needs the name of a case", hint="leave it out to use the included cases")
    if not texts:
        cases = _default_cases(catalogue, what, comparison)
    else:
        cases = [case for text in texts for case in _named(catalogue, what, comparison, text)]
    seen: dict[str, str] = {}
    for case in cases:
        if file_name(case.name) in seen:
            raise ConfigError(f"two cases are called {case.name!r}", hint="give each its own name in a file of cases")
        seen[file_name(case.name)] = case.name
    return cases


def _default_cases(catalogue: Catalogue, what: str, comparison: Comparison) -> list[Case]:
    own = _declared(catalogue, what, comparison).values()
    ours = own or [_standard()["cases"][name] for name in _standard()["default"].get(what, ())]
    found = [case for case in ours if _is_installed(catalogue, case)]
    if not found:
        raise ConfigError(
            f"there is no case to compare {what} on", hint="name some: --data sphere,swiss-roll, or --data cases.yaml"
        )
    return found


def _declared(catalogue: Catalogue, what: str, comparison: Comparison) -> dict[str, Case]:
    """The cases that a comparison declares, by name. Raises ``PluginError`` for a case that is none."""
    cases: dict[str, Case] = {}
    for name, raw in comparison.cases.items():
        try:
            cases[name] = _case(name, CaseModel.model_validate(raw))
        except ValidationError as error:
            owners = [item.name for item in catalogue.plugins for kind in item.kinds if kind.comparison is comparison]
            where = f"the case {name!r} of the kind {what}{f' of plugin {owners[0]!r}' if owners else ''}"
            hint = (
                f"a case has {', '.join(CaseModel.model_fields)}; such as cases={{{name!r}: {{'use': 'data:sphere'}}}}"
            )
            raise PluginError(config_error(where, config_problems(CaseModel, error, raw)).message, hint=hint) from None
    return cases


def _is_installed(catalogue: Catalogue, case: Case) -> bool:
    if case.data is None:
        return True
    try:
        catalogue.resolve(case.data["use"])
    except PluginError:
        return False
    return True


@cache
def _standard() -> dict[str, Any]:
    """Our own cases by name, and which kind is compared on which."""
    source = parse(files("scorefold_registry.experiments").joinpath("cases.yaml").read_text("utf-8"), "our own cases")
    cases = {name: _case(name, CaseModel.model_validate(raw)) for name, raw in source.data["cases"].items()}
    return {"cases": cases, "default": source.data["default"]}


def _case(name: str, model: CaseModel) -> Case:
    data = None if model.use is None else {"use": model.use, "config": model.config, "inputs": model.inputs}
    return Case(name, data, model.options, model.split, model.truth)


def _named(catalogue: Catalogue, what: str, comparison: Comparison, text: str) -> Iterable[Case]:
    if text.endswith((".yaml", ".yml")):
        return _of_file(catalogue, Path(text))
    name, equals, value = text.partition("=")
    if equals:
        return [Case(text, options={name.strip(): parse_value(value)})]
    ours = {**_standard()["cases"], **_declared(catalogue, what, comparison)}
    return [ours[text] if text in ours else _of_component(catalogue, text, list(ours))]


_TABLES = (".npy", ".npz", ".csv", ".tsv", ".parquet")


def _of_component(catalogue: Catalogue, text: str, ours: Sequence[str]) -> Case:
    """A data component's declared example as a case."""
    if Path(text).suffix.lower() in _TABLES or Path(text).is_dir():
        use, field = loader_of(Path(text))
        hint = f"scorefold recommend {text} compares estimators on it; or write a file of cases, mine.yaml, with "
        case = f"mine: {{use: {use}, config: {{{field}: {text}}}}}"
        raise ConfigError(f"{text} is a file or folder, and no case", hint=f"{hint}'{case}', and --data mine.yaml")
    match = _COMPONENT.match(text)
    name = match["name"] if match else text
    try:
        found = catalogue.resolve(name if ":" in name else f"data:{name}")
    except PluginError as error:
        near = did_you_mean(name, [*ours, *(item.component.name for item in catalogue.of_kind("data"))])
        hint = sentences(near, f"the included cases are {', '.join(ours)}; a file of cases ends with .yaml")
        raise ConfigError(f"there is no case {text!r}: {error.message}", hint=hint) from None
    if found.component.kind != "data":
        raise ConfigError(
            f"the case {text!r} is {with_article(found.component.kind)}; expected data", hint="such as data:sphere"
        )
    examples = found.component.examples
    number = int(match["number"] or 0) if match else 0
    if number >= len(examples):
        count = f"{len(examples)} example{'' if len(examples) == 1 else 's'}"
        raise ConfigError(f"{found.id} declares {count}; {text!r} counts from 0")
    example = examples[number]
    data = {"use": name if ":" in name else found.id, "config": example.get("config") or {}}
    return Case(text.removeprefix("data:"), {**data, "inputs": example.get("inputs") or {}})


def _of_file(catalogue: Catalogue, path: Path) -> list[Case]:
    """The cases of a YAML file. Raises ``ConfigError`` with the place of the first thing that is wrong."""
    source = parse(read_text(path), str(path))
    if source.problems:
        raise source.problems[0]
    if not isinstance(source.data, dict) or not source.data:
        hint = "for example 'small: {use: data:sphere, config: {points: 500}}'"
        raise source.error(f"a file of cases maps names to cases; this is {yaml_type(source.data)}", (), hint=hint)
    return [_read(catalogue, source, name, raw) for name, raw in source.data.items()]


def _read(catalogue: Catalogue, source: Positioned, name: str, raw: Any) -> Case:
    if not isinstance(raw, dict):
        hint = f"for example '{name}: {{use: data:sphere}}'"
        raise source.error(f"the case {name!r} is {yaml_type(raw)}; expected a mapping", (name,), hint=hint)
    try:
        model = CaseModel.model_validate(raw)
    except ValidationError as error:
        problem = config_problems(CaseModel, error, raw)[0]
        is_key = problem.code in KEY_CODES
        raise source.error(problem.message, (name, *problem.path), key=is_key, hint=problem.hint) from None
    if model.use is None and (model.config or model.inputs):
        raise source.error(f"the case {name!r} has a configuration and no 'use'", (name,), hint="add 'use: data:...'")
    if model.use is not None:
        try:
            found = catalogue.resolve(model.use)
        except PluginError as error:
            raise source.error(error.message, (name, "use"), hint=error.hint) from None
        if found.component.kind != "data":
            message = f"the case {name!r} is {with_article(found.component.kind)}; expected data"
            raise source.error(message, (name, "use"))
        use = Use(use=model.use, config=model.config, inputs=model.inputs)
        for problem in read_use(catalogue, use).problems:
            is_key = problem.code in KEY_CODES
            raise source.error(problem.message, (name, *problem.path), key=is_key, hint=problem.hint)
        # Paths start at the file, like paths of run files.
        given = anchored_use(
            catalogue, use.model_dump(), lambda _, written: absolute(written, Path(source.file).parent)
        )
        model = model.model_copy(update={"config": given["config"], "inputs": given["inputs"]})
    return _case(name, model)


def check_cases(cases: Sequence[Case], verb: Verb, model: type[Config] | None) -> None:
    """Raises ``ConfigError`` for a case without the data that a verb needs, or with options that it does not have.

    ``model`` is the class of the verb's options, where it takes options.
    """
    needs_data = any("data" in port.kinds and not port.optional and not port.when for port in verb.takes)
    for case in cases:
        if needs_data and case.data is None:
            raise ConfigError(
                f"the case {case.name!r} has no data, which {verb.name} needs", hint="for example --data sphere"
            )
        if model is None:
            if case.options:
                raise ConfigError(f"the case {case.name!r} has options, and the verb {verb.name!r} takes none")
            continue
        try:
            model.model_validate(case.options)
        except ValidationError as error:
            problems = config_problems(model, error, case.options)
            raise config_error(f"the case {case.name!r} as options of {verb.name}", problems) from None
