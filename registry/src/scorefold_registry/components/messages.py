"""Errors of pydantic about a configuration, in plain English."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError

from scorefold.config import InlineKind, Use
from scorefold.errors import ConfigError
from scorefold_registry.plugins.names import did_you_mean, join_or, sentences, with_article

RawPath = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where (a path into the mapping that was checked), what, and how to fix it.

    ``code`` is a stable word for programs: unknown-field, missing-field, type, range, value, unknown-component, kind,
    capability, unknown-port, missing-port, plugin. The first two are faults of a key, not of its value.
    """

    path: RawPath
    message: str
    hint: str | None = None
    code: str = "config"

    def under(self, *prefix: str | int) -> Problem:
        """The same problem seen from a mapping further out."""
        return replace(self, path=(*prefix, *self.path))


def dotted(path: RawPath) -> str:
    """A path as a person writes it: ``training.steps``, ``layers[2].width``."""
    text = ""
    for part in path:
        # A key may hold anything; one with a line end would read as a line of its own.
        name = str(part) if str(part).isprintable() else repr(part)[1:-1]
        text += f"[{part}]" if isinstance(part, int) else f".{name}" if text else name
    return text


def quoted(value: Any) -> str:
    """A value as Python writes it, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def config_error(what: str, problems: Sequence[Problem]) -> ConfigError:
    """All problems as one ``ConfigError``; the first gives its code and, alone, its hint."""
    first = problems[0]
    if len(problems) == 1:
        error = ConfigError(f"{what}: {first.message}", hint=first.hint)
    else:
        lines = [f"{problem.message}" + (f" ({problem.hint})" if problem.hint else "") for problem in problems]
        error = ConfigError(f"{what}: {len(problems)} things are wrong\n  - " + "\n  - ".join(lines))
    error.code = first.code
    return error


def config_problems(model: type[BaseModel], error: ValidationError, raw: Any = None) -> list[Problem]:
    """The problems that pydantic found, one for each place, in the order of the fields.

    ``raw`` is what was validated; with it the paths leave out what pydantic adds (the member of a union) and end
    where ``raw`` ends.
    """
    by_place: dict[tuple[RawPath, type[BaseModel] | None], list[tuple[Mapping[str, Any], _Place]]] = {}
    for item in error.errors(include_url=False):
        if item["type"] == "too_short" and len(item["input"]) >= item["ctx"]["min_length"]:
            continue  # pydantic counts the entries that are right, and reports the others too
        place = _Place.of(model, item, raw)
        by_place.setdefault((place.path, place.default_of), []).append((item, place))
    problems: list[Problem] = []
    for (path, default_of), items in by_place.items():
        if len(items) > 1 and all(item["type"] in _EXPECTED for item, _ in items):
            found = [_alternatives(path, [item for item, _ in items], items[0][1])]
        else:
            found = [_problem(path, item, place, raw) for item, place in items]
        if default_of is not None:
            name = f"{default_of.__module__}.{default_of.__qualname__}"
            found = [
                Problem(
                    cut_path(path, raw),
                    f"{name} has a wrong default: {problem.message}",
                    f"correct the default of {dotted(path)} in {name}; until then, set {dotted(path)}",
                    "plugin",
                )
                for problem in found
            ]
        problems += found
    return list(dict.fromkeys(problems))


@dataclass(frozen=True)
class _Place:
    """The model and the field that a location of pydantic's points into.

    ``path`` is the location without what pydantic adds (the member of a union), and ends where the values end.
    ``default_of`` is the model whose default is wrong, where the location is not in what was validated.
    """

    owner: type[BaseModel] | None
    about: str | None
    path: RawPath
    default_of: type[BaseModel] | None

    @staticmethod
    def of(model: type[BaseModel], item: Mapping[str, Any], raw: Any) -> _Place:
        here: list[type[BaseModel]] = [model]
        owner: type[BaseModel] | None = model
        about: str | None = None
        default_of: type[BaseModel] | None = None
        loc = item["loc"]
        values = loc[:-1] if item["type"] == "missing" else loc
        path: list[str | int] = []
        value = raw
        for depth, part in enumerate(loc):
            holder = next((item for item in here if part in item.model_fields), None)
            field = None if holder is None else holder.model_fields[str(part)]
            tagged = [item for item in here if _has_tag(item, part)]
            owner = holder or (here[0] if here else owner)
            if has_part(value, part):
                path.append(part)
                value = value[part]
            elif field is not None and isinstance(value, Mapping) and depth < len(values):
                path.append(part)
                unknown = field.default_factory_takes_validated_data
                value = None if unknown else field.get_default(call_default_factory=True)
                default_of = default_of or holder
            if field is not None:
                about = field.description
                here = [
                    *_models_in(Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation)
                ]
            elif tagged:
                here = tagged
        if raw is None:
            path = list(values)
        elif default_of is not None and value != item["input"]:  # a validator of the plugin's wrote it, from raw
            path, default_of = list(cut_path(tuple(path), raw)), None
        return _Place(owner, about, tuple(path), default_of)


def _problem(path: RawPath, item: Mapping[str, Any], place: _Place, raw: Any) -> Problem:
    kind, given, context = item["type"], item["input"], item.get("ctx", {})
    name = dotted(path) or "the config"
    if kind == "extra_forbidden":
        field = str(item["loc"][-1])
        return Problem(path, f"unknown field {name!r}", unknown_field(field, place.owner), "unknown-field")
    if kind == "missing":
        where = f" in {dotted(path)}" if path else ""
        return Problem(path, f"the field {item['loc'][-1]!r} is missing{where}", place.about, "missing-field")
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return _tag_problem(path, name, item, raw)
    if kind in ("value_error", "assertion_error"):
        said = str(context.get("error", item["msg"]))
        return Problem(path, f"{name}: {said}" if path else said, place.about if path else None, "value")
    if kind in _EXPECTED:
        code = "range" if kind in _RANGES else "type"
        return Problem(path, f"{name} is {show(given)}; expected {_expected(item)}", place.about, code)
    return Problem(path, f"{name} is {show(given)}: {item['msg'][:1].lower()}{item['msg'][1:]}", place.about, "value")


def _alternatives(path: RawPath, items: Sequence[Mapping[str, Any]], place: _Place) -> Problem:
    """A value that fits no member of a union."""
    expected = ", or ".join(dict.fromkeys(_expected(item) for item in items))
    return Problem(path, f"{dotted(path)} is {show(items[0]['input'])}; expected {expected}", place.about, "type")


def _expected(item: Mapping[str, Any]) -> str:
    bounds = {
        name: int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e9 else value
        for name, value in item.get("ctx", {}).items()
    }
    return _EXPECTED[item["type"]].format(**bounds)


def _tag_problem(path: RawPath, name: str, item: Mapping[str, Any], raw: Any) -> Problem:
    context = item["ctx"]
    key = context["discriminator"].strip("'")
    if item["type"] == "union_tag_not_found":
        return Problem(path, f"{name} needs the field {key!r}, which selects the type", None, "missing-field")
    tags = [tag.strip(" '") for tag in context["expected_tags"].split(",")]
    hint = did_you_mean(context["tag"], tags) or None
    inside = cut_path((*path, key), raw)
    return Problem(inside, f"{dotted(inside)} is {context['tag']!r}; expected {join_or(tags)}", hint, "value")


def unknown_field(given: str, owner: type[BaseModel] | None) -> str | None:
    """Near misses of a field, and the fields there are with what each is."""
    if owner is None:
        return None
    if not owner.model_fields:
        return "it has no fields"
    near = did_you_mean(given, owner.model_fields)
    described = [
        f"\n    {name}: {field.description}" if field.description else f"\n    {name}"
        for name, field in owner.model_fields.items()
    ]
    return sentences(near, "the fields are" + "".join(described))


def show(value: Any) -> str:
    """A value with its type in plain words: ``'many' (text)``."""
    for types, word in _WORDS:
        if isinstance(value, types):
            return f"{quoted(value)} ({word})" if word else quoted(value)
    return "null" if value is None else with_article(type(value).__name__)


_WORDS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (str, "text"),
    (bool, ""),
    ((int, float), "a number"),
    (Mapping, "a mapping"),
    ((list, tuple), "a list"),
)

_RANGES = {
    "greater_than": "a number above {gt}",
    "greater_than_equal": "a number of at least {ge}",
    "less_than": "a number below {lt}",
    "less_than_equal": "a number of at most {le}",
    "multiple_of": "a multiple of {multiple_of}",
    "finite_number": "a finite number",
    "too_short": "at least {min_length} entries",
    "too_long": "at most {max_length} entries",
    "string_too_short": "at least {min_length} characters",
    "string_too_long": "at most {max_length} characters",
    "string_pattern_mismatch": "text that matches {pattern}",
}

_EXPECTED = {
    **_RANGES,
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping of fields",
    "model_attributes_type": "a mapping of fields",
    "path_type": "a path",
    "none_required": "null",
    "literal_error": "{expected}",
    "enum": "{expected}",
}


def cut_path(path: RawPath, raw: Any) -> RawPath:
    """The path cut where ``raw`` ends: at a default, or at a component written as a bare name."""
    if raw is None:
        return path
    for depth, part in enumerate(path):
        if not has_part(raw, part):
            return path[:depth]
        raw = raw[part]
    return path


def has_part(value: Any, part: str | int) -> bool:
    """True if ``value[part]`` is an entry of a mapping or a list."""
    if isinstance(value, (list, tuple)):
        return isinstance(part, int) and part < len(value)
    return isinstance(value, Mapping) and part in value


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that a value of this annotation may be, or hold as entries."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        return
    if get_origin(annotation) is Annotated and any(isinstance(mark, InlineKind) for mark in get_args(annotation)[1:]):
        yield Use
        return
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _has_tag(model: type[BaseModel], tag: str | int) -> bool:
    """True if pydantic writes ``tag`` for this member of a union: its class, or the value of its discriminator."""
    if model.__name__ == tag:
        return True
    return any(
        get_origin(field.annotation) is Literal and tag in get_args(field.annotation)
        for field in model.model_fields.values()
    )
