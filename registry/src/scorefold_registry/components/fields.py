"""Fields of a config model, in plain English."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator
from pydantic_core import to_jsonable_python

from scorefold.config import InlineKind
from scorefold_registry.plugins.names import join_or


def describe_fields(model: type[BaseModel], prefix: str = "") -> list[dict[str, Any]]:
    """Every field of a config, nested models' fields after the field: name, type, default and description of each.

    Of a field that may be one of several models, each with its own tag, ``process[ve].sigma_min`` is a field of the
    model with the tag ``ve``.
    """
    fields = []
    for name, field in model.model_fields.items():
        marks = [mark for mark in field.metadata if isinstance(mark, InlineKind)]
        bounds = [mark for mark in field.metadata if not isinstance(mark, (InlineKind, BeforeValidator))]
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        fields.append(
            {
                "name": prefix + name,
                "type": f"a component of kind {marks[0].kind}" if marks else type_words(field.annotation, bounds),
                "required": field.is_required(),
                "default": to_jsonable_python(default),
                "description": field.description or "",
            }
        )
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            fields += describe_fields(field.annotation, f"{prefix}{name}.")
        elif isinstance(field.discriminator, str):
            key = field.discriminator
            for member in get_args(field.annotation):
                inside = describe_fields(member, f"{prefix}{name}[{member.model_fields[key].default}].")
                fields += [item for item in inside if not item["name"].endswith(f".{key}")]
    return fields


def type_words(annotation: Any, bounds: Sequence[Any] = ()) -> str:
    """A type as a person would say it: ``a whole number, at least 1``; ``a number or null``."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        text = type_words(arguments[0], arguments[1:])
    elif origin is Literal:
        text = join_or([str(value) for value in arguments])
    elif origin in (Union, UnionType):
        text = " or ".join(dict.fromkeys(type_words(argument) for argument in arguments))
    elif origin in (list, tuple, set, frozenset):
        text = f"a list, each {type_words(arguments[0])}" if arguments else "a list"
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        text = "a mapping"
    else:
        text = _TYPE_WORDS.get(origin or annotation, getattr(annotation, "__name__", str(annotation)))
    limits = [words.format(getattr(bound, name)) for bound in bounds for name, words in _LIMITS if hasattr(bound, name)]
    return ", ".join([text, *limits])


_TYPE_WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    type(None): "null",
    dict: "a mapping",
    Path: "a path",
    Any: "anything",
}

_LIMITS = (
    ("gt", "above {}"),
    ("ge", "at least {}"),
    ("lt", "below {}"),
    ("le", "at most {}"),
    ("min_length", "at least {} entries"),
    ("max_length", "at most {} entries"),
)
