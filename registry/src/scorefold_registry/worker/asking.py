"""Objects of the host that are plugged into objects of a worker: each method of theirs is a question to the host."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NoReturn

import torch
from torch import nn

from scorefold.errors import PluginError
from scorefold_registry.plugins.environments.models import proxy_of
from scorefold_registry.plugins.environments.proxies import Proxy

Ask = Callable[[Mapping[str, Any], Mapping[str, Any]], Any]


class Asking:
    """The host, as the objects of a worker see it: what a proxy knows as its environment."""

    spec = SimpleNamespace(name="of the main process")

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._names = itertools.count()
        self._gone: list[str] = []

    def session(self) -> Asking:
        """The process that has the objects, which is always the same one."""
        return self

    def next_name(self, holder: Any) -> str:
        """A name for an object in the host, which goes when its holder has gone."""
        name = f"b{next(self._names)}"
        weakref.finalize(holder, self._gone.append, name).atexit = False
        return name

    def ask(self, plain: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
        """The host's answer; names of objects that nobody holds any more go along."""
        gone = self._gone[:]
        del self._gone[: len(gone)]
        return self._ask({**plain, "gone": gone}, values)

    def proxy(self, said: Mapping[str, Any]) -> Any:
        """A proxy of an object of the host, in its precision."""
        found = proxy_of(_HostObject(self, said["name"]), said["kind"], said["provides"], said["overrides"])
        if isinstance(found, nn.Module):
            found.to(dtype=getattr(torch, said["dtype"])).train(said["training"])
        return found

    def handle(self, value: Any) -> dict[str, Any] | None:
        """The name of an object of the host; None for another value."""
        if isinstance(value, Proxy) and isinstance(other := value._ask_remote(), _HostObject):
            return {"$": "object", "name": other.name}
        return None


class _HostObject:
    """One object of the host."""

    state = None

    def __init__(self, environment: Asking, name: str) -> None:
        self.environment, self.name = environment, name

    def call(self, method: str, *given: Any, **named: Any) -> Any:
        return self.ask("call", method, {}, given=list(given), named=named)

    def ask(self, do: str, method: str, plain: Mapping[str, Any], *, metrics: Any = None, **values: Any) -> Any:
        return self.environment.ask({"ask": do, "name": self.name, "method": method, **plain}, values)

    def get(self, names: Sequence[str]) -> dict[str, Any]:
        found: dict[str, Any] = self.environment.ask({"ask": "get", "name": self.name, "names": list(names)}, {})
        return found

    def put_state(self, state: Any) -> NoReturn:
        raise PluginError("a model of the main process keeps its weights: it was plugged in from there")
