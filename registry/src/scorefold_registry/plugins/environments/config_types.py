"""Config models as data, so that the host has a model of its own for a component that it never imports.

A worker describes the model; the host builds one with the same fields, types, bounds, defaults and descriptions. What
only code can say, a validator, stays in the environment: such a model is marked, and its values are checked there.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ForwardRef, Literal, Union, get_args, get_origin

from pydantic import BaseModel, Field, create_model, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

import scorefold.config as shared
from scorefold.config import Config, Inline, InlineKind
from scorefold.errors import PluginError

_PLAIN: dict[str, Any] = {
    **{"int": int, "float": float, "str": str, "bool": bool, "null": type(None), "path": Path, "any": Any},
    "...": Ellipsis,
}
_MANY: dict[str, Any] = {kind.__name__: kind for kind in (list, tuple, set, frozenset, dict)}
_BOUNDS = ("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length", "pattern", "strict")

Check = Callable[[Any], Any]
"""Checks values in the environment: returns them resolved, or raises what is wrong with them."""


def describe_model(model: type[Config]) -> dict[str, Any]:
    """A config model as JSON: ``models`` by name, the ``name`` of the outermost, and whether its code has to check.

    >>> class Sketch(Config):
    ...     neighbours: int = Field(20, ge=1, description="Neighbours")
    >>> describe_model(Sketch)["models"]["Sketch"]["fields"]["neighbours"]["bounds"]
    {'ge': 1}
    """
    describing = _Describing()
    name = describing.model(model)
    return {"name": name, "models": describing.models, "checked": describing.checked}


class _Describing:
    def __init__(self) -> None:
        self.models: dict[str, Any] = {}
        self.checked = False

    def model(self, model: type[BaseModel]) -> str:
        name = model.__name__
        if name in self.models:
            return name
        self.models[name] = {}
        decorators = model.__pydantic_decorators__
        if decorators.field_validators or decorators.model_validators or decorators.validators:
            self.checked = True
        found = {field: self.field(info) for field, info in model.model_fields.items()}
        self.models[name] = {"fields": found, "about": model.__doc__ or "", "ours": issubclass(model, Config)}
        return name

    def field(self, info: FieldInfo) -> dict[str, Any]:
        said: dict[str, Any] = {"type": self.type(info.annotation, info.metadata), "about": info.description or ""}
        said["bounds"] = _bounds_of(info.metadata)
        if isinstance(info.discriminator, str):
            said["tag"] = info.discriminator
        if not info.is_required():
            default = info.get_default(call_default_factory=True)
            said["default"] = to_jsonable_python(default, fallback=lambda value: None)
        return said

    def type(self, annotation: Any, metadata: Any = ()) -> dict[str, Any]:
        marks = [mark for mark in _flat(metadata) if not isinstance(mark, str)]
        if inline := [mark for mark in marks if isinstance(mark, InlineKind)]:
            return {"inline": inline[0].kind, "needs": list(inline[0].needs)}
        if not all(any(hasattr(mark, name) for name in _BOUNDS) for mark in marks):
            self.checked = True  # a validator, or a mark of the plugin's own
        origin: Any = get_origin(annotation) or annotation
        inner = get_args(annotation)
        if origin is Annotated:
            return {**self.type(inner[0], inner[1:]), "bounds": _bounds_of(inner[1:])}
        if origin is Literal:
            return {"literal": list(inner)}
        if origin in (Union, types.UnionType):
            return {"union": [self.type(item) for item in inner]}
        if origin in _MANY.values():
            return {"many": origin.__name__, "of": [self.type(item) for item in inner]}
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            is_shared = getattr(shared, annotation.__name__, None) is annotation
            return {"shared": annotation.__name__} if is_shared else {"model": self.model(annotation)}
        word = next((word for word, plain in _PLAIN.items() if annotation is plain), None)
        self.checked |= word is None
        return {"is": word or "any"}


def _bounds_of(metadata: Any) -> dict[str, Any]:
    found = {name: getattr(mark, name) for mark in _flat(metadata) for name in _BOUNDS if hasattr(mark, name)}
    return {name: value for name, value in found.items() if isinstance(value, int | float | str)}


def _flat(metadata: Any) -> list[Any]:
    """The marks of an annotation, with those inside a ``Field``."""
    return [inner for mark in metadata for inner in (mark.metadata if isinstance(mark, FieldInfo) else [mark])]


def build_model(said: Mapping[str, Any], check: Check) -> type[Config]:
    """The model that was described. ``check`` has the environment check values where only its code can.

    Raises ``PluginError`` for what no ``describe_model`` gives.
    """
    try:
        building = _Building(said, check)
        building.model(said["name"])
        for model in building.built.values():
            model.model_rebuild(_types_namespace=building.built)
        return building.built[said["name"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PluginError(f"its config is not described as it has to be: {type(error).__name__}: {error}") from error


class _Building:
    def __init__(self, said: Mapping[str, Any], check: Check) -> None:
        self.said, self.check, self.built = said, check, dict[str, type[Any]]()
        self._begun: set[str] = set()

    def model(self, name: str) -> Any:
        """The model of a name; a reference to it inside itself."""
        if name in self._begun and name not in self.built:
            if not name.isidentifier():  # a reference is evaluated
                raise ValueError(f"{name!r:.60} can't be the name of a model that holds itself")
            return ForwardRef(name)
        if name not in self.built:
            self._begun.add(name)
            described = self.said["models"][name]
            fields: dict[str, Any] = {field: self.field(facts) for field, facts in described["fields"].items()}
            checks: dict[str, Any] = {}
            if name == self.said["name"] and self.said["checked"]:
                check = self.check
                checks = {"in_environment": model_validator(mode="before")(lambda value: check(value))}
            base = Config if described["ours"] else BaseModel
            model = create_model(name, __base__=base, __doc__=described["about"], __validators__=checks, **fields)
            self.built[name] = model
        return self.built[name]

    def field(self, said: Mapping[str, Any]) -> tuple[Any, Any]:
        options: dict[str, Any] = {"description": said["about"] or None, **_bounds_in(said)}
        if "tag" in said:
            options["discriminator"] = said["tag"]
        kind = self.type(said["type"])
        if "default" not in said:
            return kind, Field(**options)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind, Field(default_factory=partial(kind.model_validate, said["default"]), **options)
        return kind, Field(said["default"], **options)

    def type(self, said: Mapping[str, Any]) -> Any:
        if said.get("bounds"):
            return Annotated[self.type({**said, "bounds": None}), Field(**_bounds_in(said))]
        if "inline" in said:
            return Inline(said["inline"], tuple(said["needs"]))
        if "literal" in said:
            return Literal[tuple(said["literal"])]
        if "union" in said:
            return Union[tuple(self.type(item) for item in said["union"])]  # noqa: UP007 - made while it runs
        if "many" in said:
            parts = tuple(self.type(item) for item in said["of"])
            return _MANY[said["many"]][parts] if parts else _MANY[said["many"]]
        if "shared" in said:
            return getattr(shared, said["shared"])
        return self.model(said["model"]) if "model" in said else _PLAIN[said["is"]]


def _bounds_in(said: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in said["bounds"].items() if name in _BOUNDS}
