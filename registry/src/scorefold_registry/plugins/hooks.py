"""The hooks of a plugin's module: which it implements, what is wrong with them, and what it answers when asked.

Every declaration is compared with its types, in plain Python: a mistyped one is its plugin's fault alone.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass
from functools import cache
from itertools import islice
from types import FunctionType, ModuleType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from scorefold import hookspecs
from scorefold.errors import PluginError
from scorefold.plugin import Capability, Claim, Component, Kind, Model, Verb, check_target
from scorefold_registry.plugins.names import did_you_mean, near_misses, with_article
from scorefold_registry.plugins.records import Command, PluginRecord

MOST = 10_000
"""Maximum of declarations per hook, to stop a generator that does not end."""

HOOKS = tuple(name for name in vars(hookspecs) if name.startswith("scorefold_"))
REGISTRATION = HOOKS[:8]
"""Hooks that are called once per plugin for its declarations; the others are called around runs."""
WRAPPABLE = ("scorefold_run_stage", "scorefold_executor")
"""The hooks that pluggy calls as a whole; all others are called plugin by plugin, where there is nothing to wrap."""

_COMMAND = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*\Z")

_Implementations = dict[str, list[FunctionType]]


class HookError(PluginError):
    """A hook that a plugin has got wrong; ``frame`` is the place of its function in the plugin's code."""

    def __init__(self, message: str, function: FunctionType, hint: str | None = None, place: str | None = None) -> None:
        super().__init__(message, hint=hint)
        code = function.__code__
        self.frame = place or f"{code.co_filename}:{code.co_firstlineno} in {code.co_name}"


def implementations(module: ModuleType | None) -> _Implementations:
    """The functions marked as hook implementations, by the name of the hook."""
    found: _Implementations = {}
    for name, value in vars(module).items():
        if isinstance(value, FunctionType) and isinstance(_options(value), dict):
            found.setdefault(_options(value).get("specname") or name, []).append(value)
    return found


def check_hooks(module: ModuleType | None) -> None:
    """Raises ``HookError`` for a hook that is unknown, implemented twice, wrongly declared or without its mark, and
    ``PluginError`` for an object without a hook."""
    for name, functions in implementations(module).items():
        if name not in HOOKS:
            # All names begin alike, so many are near; only the nearest helps.
            near = near_misses(name, HOOKS, count=1)
            what = f"did you mean {near[0]!r}?" if near else f"the hooks are {', '.join(HOOKS)}"
            raise HookError(f"there is no hook {name!r}; {what}", functions[0])
        if len(functions) > 1:
            both = " and ".join(function.__name__ for function in functions)
            raise HookError(f"it implements {name} twice, as {both}", functions[1])
        _check_declaration(name, functions[0])
    for name, value in vars(module).items():
        if name.startswith("scorefold_") and isinstance(value, FunctionType) and _options(value) is None:
            hint = "put @hookimpl of scorefold.plugin above it"
            raise HookError(f"{name} is not marked as a hook; {hint}", value)
        if name in HOOKS and not isinstance(value, FunctionType):
            raise PluginError(
                f"{name} is {with_article(type(value).__name__)}; expected a function", hint="write it as def"
            )
    if not (isinstance(module, ModuleType) or implementations(module)):
        hint = "name a module with functions such as scorefold_components, marked by @hookimpl"
        raise PluginError(
            f"it offers nothing: its entry point names {with_article(type(module).__name__)} without hooks", hint=hint
        )


def _options(function: FunctionType) -> Any:
    return getattr(function, "scorefold_impl", None)


def _check_declaration(name: str, function: FunctionType) -> None:
    code, spec = function.__code__, getattr(hookspecs, name).__code__
    known = spec.co_varnames[: spec.co_argcount]
    required = code.co_varnames[: code.co_argcount - len(function.__defaults__ or ())]
    for argument in required:
        if argument not in known:
            near = did_you_mean(argument, known) or f"its arguments are {', '.join(known) or 'none'}"
            raise HookError(f"{name} has no argument {argument!r}; {near}", function)
    options = _options(function)
    if (options.get("wrapper") or options.get("hookwrapper")) and name not in WRAPPABLE:
        raise HookError(f"{name} can't be wrapped; only {' and '.join(WRAPPABLE)} can", function)


def ask(record: PluginRecord) -> None:
    """Asks a plugin what it offers, but for its claims."""
    hooks = implementations(record.module)
    record.components = _offers(hooks, "scorefold_components", Component)
    record.kinds = _offers(hooks, "scorefold_kinds", Kind)
    record.capabilities = _offers(hooks, "scorefold_capabilities", Capability)
    record.verbs = _offers(hooks, "scorefold_verbs", Verb)
    record.models = _offers(hooks, "scorefold_models", Model)
    for function in hooks.get("scorefold_settings", ()):
        record.settings = function()
        try:
            check_target("what scorefold_settings returned", record.settings)
        except PluginError as error:
            raise HookError(error.message, function) from error
    for function in hooks.get("scorefold_commands", ()):
        function(register=_register_command(record))


def ask_claims(record: PluginRecord) -> list[Claim]:
    """Asks a plugin for its claims."""
    return _offers(implementations(record.module), "scorefold_claims", Claim)


def _register_command(record: PluginRecord) -> Callable[[str, str, str], None]:
    def register(name: str, target: str, summary: str) -> None:
        if not (isinstance(target, str) and all(target.partition(":"))):
            raise PluginError(f"the target of command {name!r} is {target!r}; expected 'package.module:function'")
        if not (isinstance(name, str) and _COMMAND.match(name)):
            raise PluginError(
                f"a command is called {name!r:.100}; expected lower-case letters and digits, words joined by '-'"
            )
        if not isinstance(summary, str):
            raise PluginError(f"the summary of command {name!r} is {summary!r:.100}; expected text")
        record.commands.append(Command(name, target, summary))

    return register


def _offers(hooks: _Implementations, hook: str, expected: type) -> list[Any]:
    """Declarations of a registration hook. Raises ``HookError`` for anything but declarations of the expected type."""
    if hook not in hooks:
        return []
    function = hooks[hook][0]
    offered = function()
    if isinstance(offered, (str, bytes, expected)) or not isinstance(offered, Iterable):
        raise HookError(f"{hook} returned {offered!r}; expected an iterable of {expected.__name__}", function)
    items = list(islice(offered, MOST + 1))
    if len(items) > MOST:
        raise HookError(
            f"{hook} offers more than {MOST:,} declarations, which may be a generator that never ends", function
        )
    for item in items:
        if not isinstance(item, expected):
            raise HookError(
                f"{hook} offers {item!r:.200}; expected a {expected.__name__} of scorefold.plugin", function
            )
        try:
            check_declaration(item)
        except PluginError as error:
            raise HookError(error.message, function, error.hint, place_of(function, item)) from error
    return items


def check_declaration(item: Any) -> None:
    """Raises ``PluginError`` for a field of another type than its class says, or two parts of one name, here or in a
    declaration inside it."""
    for name, hint in _types(type(item)).items():
        value = getattr(item, name)
        if not _fits(value, hint):
            raise PluginError(
                f"{_label(item)} has {name}={_short(value):.80}; expected {_words(hint)}", hint=_fix(name, hint, value)
            )
        parts = [inner for inner in (value if isinstance(value, tuple) else (value,)) if is_dataclass(inner)]
        for inner in parts:
            check_declaration(inner)
        names = [getattr(inner, "name", inner) for inner in parts]
        if twice := [each for each in names if names.count(each) > 1]:
            raise PluginError(f"{_label(item)} has two {name} with the name {twice[0]!r:.60}; expected different names")


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


@cache
def _parts(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    return get_origin(hint), get_args(hint)


def _fits(value: Any, hint: Any) -> bool:
    origin, inner = _parts(hint)
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
