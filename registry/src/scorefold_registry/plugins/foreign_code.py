"""Code that is replaced while a run goes on: it is found by comparison with the start of the run, and put back.

Looked at are the functions, the classes and their methods of Scorefold and of the plugins, and those of torch, numpy
and Python that most results are computed with. What a package replaces of its own is its business.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from operator import attrgetter
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

OURS = frozenset({"scorefold", "scorefold_registry", "scorefold_toolkit"})
_LIBRARIES = (
    "builtins",
    "json",
    "math",
    "numpy",
    "torch",
    "torch.nn.functional",
    "torch.nn",
    "torch.nn.modules.module",
)
_WATCHED = {FunctionType, BuiltinFunctionType, staticmethod, classmethod, property}
_PARTS = tuple(map(attrgetter, ("__code__", "__defaults__", "__kwdefaults__")))


class ForeignCode:
    """Record of the code of ``plugins`` (top-level packages), of Scorefold and of libraries, as it is at this moment.

    >>> import scorefold.seeds
    >>> watch = ForeignCode([])
    >>> own, scorefold.seeds.derive_seed = scorefold.seeds.derive_seed, lambda *given: 0
    >>> watch.put_back()
    [('', 'derive_seed of scorefold.seeds')]
    >>> scorefold.seeds.derive_seed is own
    True
    """

    def __init__(self, plugins: Iterable[str]) -> None:
        self._plugins = frozenset(plugins)
        self._packages = self._plugins | OURS
        self._modules: dict[str, ModuleType] = {}
        self._holders: list[tuple[Any, str, frozenset[str], list[str], list[Any]]] = []
        self._functions: list[FunctionType] = []
        self._code: list[list[Any]] = [[] for _ in _PARTS]
        self._tables: list[tuple[str, dict[Any, Any], dict[Any, Any]]] = []
        self._look()

    def put_back(self) -> list[tuple[str, str]]:
        """Put back what was replaced, and name it: pairs of the package of what stood there, empty where that is not
        known, and words for messages. What was imported meanwhile is looked at from now on."""
        found = [*self._replaced_modules(), *self._replaced_names(), *self._replaced_code(), *self._filled_tables()]
        self._look()
        return found

    def _look(self) -> None:
        """Note the modules that are new."""
        for name in sys.modules.keys() - self._modules.keys():
            module = sys.modules[name]
            ours = name.partition(".")[0] in self._packages
            if not ((ours or name in _LIBRARIES) and isinstance(module, ModuleType)):
                continue
            self._modules[name] = module
            self._hold(module, name, ours)
            for value in list(vars(module).values()):
                # Classes of torch.nn are used from there, and stand elsewhere.
                if isinstance(value, type) and (value.__module__ == name or name in ("torch", "torch.nn")):
                    self._hold(value, f"{name}.{value.__name__}", ours)
            if name == "torch.nn.modules.module":  # hooks for all modules at once stand here
                tables = [(key, table) for key, table in vars(module).items() if isinstance(table, OrderedDict)]
                self._tables += [(f"{key} of {name}", table, dict(table)) for key, table in tables]

    def _hold(self, holder: Any, name: str, ours: bool) -> None:
        items = [(k, v) for k, v in vars(holder).items() if type(v) in _WATCHED or isinstance(v, type)]
        self._holders.append((holder, name, frozenset(vars(holder)), [k for k, _ in items], [v for _, v in items]))
        if ours:
            functions = [value for _, value in items if type(value) is FunctionType]
            self._functions += functions
            for known, part in zip(self._code, _PARTS, strict=True):
                known += map(part, functions)

    def _replaced_modules(self) -> Iterator[tuple[str, str]]:
        for name, module in self._modules.items():
            now = sys.modules.get(name)
            if now is not module:
                sys.modules[name] = module
                # Whoever needed it again has imported it anew.
                who = "" if now is None or name.startswith(_package(now)) else _package(now)
                yield who, f"the module {name}"

    def _replaced_names(self) -> Iterator[tuple[str, str]]:
        for holder, name, known, keys, values in self._holders:
            own = vars(holder)
            if len(own) != len(known):  # a new name hides an inherited one, or one of builtins
                for key in [key for key in own if key not in known]:
                    package = _package(own[key])
                    if package in self._plugins - {name.partition(".")[0]}:
                        delattr(holder, key)
                        yield package, f"{key} of {name}"
            now = list(map(own.get, keys))
            if now == values:
                continue
            for key, value, found in zip(keys, values, now, strict=True):
                if found is not value and (who := self._who(found, name)) is not None:
                    with suppress(AttributeError, TypeError):
                        setattr(holder, key, value)
                        yield who, f"{key} of {name}"

    def _who(self, value: Any, name: str) -> str | None:
        """The package that has put a value there; None where it may. Libraries replace parts of one another."""
        package, owner = _package(value), name.partition(".")[0]
        if package == owner or (owner not in self._packages and package not in self._plugins):
            return None
        return package if package in self._plugins else ""

    def _replaced_code(self) -> Iterator[tuple[str, str]]:
        now = [list(map(part, self._functions)) for part in _PARTS]
        if now == self._code:
            return
        for function, before, found in zip(
            self._functions, zip(*self._code, strict=True), zip(*now, strict=True), strict=True
        ):
            if before != found:
                function.__code__, function.__defaults__, function.__kwdefaults__ = before
                yield _package_of(found[0]), f"the code of {function.__qualname__} of {function.__module__}"

    def _filled_tables(self) -> Iterator[tuple[str, str]]:
        for what, table, before in self._tables:
            if added := [key for key in table if key not in before]:
                packages = {_package(table.pop(key)) for key in added} & self._plugins
                yield (packages.pop() if len(packages) == 1 else ""), what


def _package(value: Any) -> str:
    """The top-level package that an object is of, as far as it says so."""
    if isinstance(value, ModuleType):
        return value.__name__.partition(".")[0]
    if isinstance(value, partial):
        return _package(value.func)
    if isinstance(value, property):
        value = value.fget
    value = getattr(value, "__func__", value)
    named = getattr(value, "__module__", None) or type(value).__module__
    return named.partition(".")[0] if isinstance(named, str) else ""


def _package_of(code: CodeType) -> str:
    """The top-level package with a module of the file that code comes from."""
    for name, module in list(sys.modules.items()):
        if getattr(module, "__file__", None) == code.co_filename:
            return name.partition(".")[0]
    return ""
