"""Declarations of plugins held against their types, in plain Python: a mistyped one is its plugin's fault alone."""

from __future__ import annotations

import inspect
from dataclasses import fields, is_dataclass
from types import FunctionType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from scorefold.errors import PluginError

MOST = 10_000
"""How many declarations one hook may offer: more is a generator that does not end."""


def check_declaration(item: Any) -> None:
    """Raises ``PluginError`` for a field of another type than its class says, here or in a declaration inside it."""
    for name, hint in _types(type(item)).items():
        value = getattr(item, name)
        if not _fits(value, hint):
            raise PluginError(
                f"{_label(item)} has {name}={value!r:.80}; expected {_words(hint)}", hint=_fix(name, hint, value)
            )
        for inner in value if isinstance(value, tuple) else (value,):
            if is_dataclass(inner):
                check_declaration(inner)


def place_of(function: FunctionType, item: Any) -> str:
    """The place of a declaration in the code of the hook that offers it: the line that has its name, or the hook's."""
    code = function.__code__
    line = code.co_firstlineno
    name = getattr(item, "name", None)
    try:
        source, first = inspect.getsourcelines(function)
    except (OSError, TypeError):
        source, first = [], line
    found = [number for number, text in enumerate(source, first) if f'"{name}"' in text or f"'{name}'" in text]
    return f"{code.co_filename}:{found[0] if found else line} in {code.co_name}"


def _types(kind: type) -> dict[str, Any]:
    if kind not in _TYPES:
        hints = get_type_hints(kind)
        _TYPES[kind] = {field.name: hints[field.name] for field in fields(kind)}
    return _TYPES[kind]


_TYPES: dict[type, dict[str, Any]] = {}


def _label(item: Any) -> str:
    name, kind = getattr(item, "name", None), getattr(item, "kind", None)
    what = f"{type(item).__name__} {name!r:.60}" if name is not None else type(item).__name__
    return f"{what} of kind {kind!r:.60}" if type(item).__name__ == "Component" else what


def _fits(value: Any, hint: Any) -> bool:
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, UnionType):
        return any(_fits(value, each) for each in inner)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if inner[-1] is Ellipsis:
            return all(_fits(each, inner[0]) for each in value)
        return len(value) == len(inner) and all(map(_fits, value, inner))
    if origin is not None:  # a mapping
        return isinstance(value, origin) and all(_fits(k, inner[0]) and _fits(v, inner[1]) for k, v in value.items())
    if hint in (int, float):
        return isinstance(value, (int, hint)) and not isinstance(value, bool)
    return isinstance(value, hint)


def _words(hint: Any) -> str:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(map(_words, inner))
    if origin is tuple:
        return (
            f"a tuple of {_words(inner[0])}" if inner[-1] is Ellipsis else f"a tuple ({', '.join(map(_words, inner))})"
        )
    if origin is not None:
        return f"a mapping of {_words(inner[0])} to {_words(inner[1])}"
    names = {
        str: "text",
        int: "a whole number",
        float: "a number",
        bool: "True or False",
        type(None): "None",
        Any: "any",
    }
    return names.get(hint) or str(getattr(hint, "__name__", hint))


def _fix(name: str, hint: Any, value: Any) -> str | None:
    """The line that helps: most often a comma is missing, or a list stands where a tuple is expected."""
    tuples = [each for each in (hint, *get_args(hint)) if get_origin(each) is tuple and get_args(each)[-1] is Ellipsis]
    if tuples and _fits((value,), tuples[0]):
        return f"a comma is missing: {name}=({_short(value)},)"
    if tuples and isinstance(value, list | set | frozenset) and _fits(tuple(value), tuples[0]):
        return f"write a tuple: {name}=({', '.join(map(_short, value))}{',' if len(value) == 1 else ''})"
    return None


def _short(value: Any) -> str:
    name = getattr(value, "name", None)
    return f"{type(value).__name__}({name!r}, ...)" if is_dataclass(value) and name is not None else repr(value)
