"""Components named inline in a configuration: the fields that hold them, with their places."""

from __future__ import annotations

from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from scorefold.config import InlineKind, Use
from scorefold_registry.components.messages import RawPath


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
    """Whether a field is one inline component, or none: a list is then no list of them."""
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
