"""Questions of a worker about objects of the host that are plugged into its own: what it may ask, and the answers.

What a worker sends is data. It names an object that was plugged in and a method of core's interfaces, and nothing else.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any
from weakref import WeakValueDictionary

from scorefold.errors import PluginError, ScorefoldError
from scorefold.interfaces import Estimator, Flow, ScoreModel
from scorefold.interfaces.model import EventModel, evaluations
from scorefold_registry.plugins.environments import objects
from scorefold_registry.plugins.environments.models import CORE_INTERFACES
from scorefold_registry.plugins.environments.wire import LARGEST, Reader, Writer

KINDS: dict[str, type] = {"score": ScoreModel, "flow": Flow, "estimator": Estimator}
"""The kinds of objects of the host that can be plugged into an object of a worker."""

DEEPEST = 4
"""Questions inside each other."""

MOST = 10**7
"""Events or steps of one question."""

_depth: ContextVar[int] = ContextVar("depth", default=0)
_NEVER = ("Trainable",)
_OF_BASE = {"base.log_prob", "base.sample", "base.centre"}
_ATTRIBUTES = {"event_shape", "condition_spec", "event_scale", "remarks", "divergence_mode", "process"}


def askable_kind(value: Any) -> str | None:
    """The kind of an object of the host that can be asked; None for any other value."""
    return next((kind for kind, interface in KINDS.items() if isinstance(value, interface)), None)


class Questions:
    """The objects of the host that a worker may ask, by name."""

    def __init__(self) -> None:
        self._offered: WeakValueDictionary[str, Any] = WeakValueDictionary()
        self._bound: dict[str, tuple[Any, Any]] = {}
        self._names = itertools.count()

    def offer(self, value: Any) -> dict[str, Any]:
        """An object as a message names it. It can be asked for as long as it is held here."""
        name = next((name for name, each in self._offered.items() if each is value), None)
        if name is None:
            name = f"h{next(self._names)}"
            self._offered[name] = value
        kind = askable_kind(value)
        assert kind is not None
        said = {"$": "asked", "name": name, "kind": kind, "provides": _capabilities(value)}
        said["overrides"] = [] if getattr(type(value), "bind", None) is ScoreModel.bind else ["bind"]
        return said | (_mode(value) if isinstance(value, EventModel) else {})

    def forget(self) -> None:
        """Lets go of the bound scores of a worker that has ended."""
        self._bound.clear()

    def answer(self, said: Mapping[str, Any], reader: Reader, writer: Writer) -> bytes:
        """The answer to a question as a line, or the error of the object."""
        token = _depth.set(_depth.get() + 1)
        try:
            done = self._answer(said, reader)
            states = [generator.get_state() for generator in reader.generators]
            return writer.line({"do": "answer"}, {"done": done, "generators": states})
        except Exception as error:
            if not isinstance(error, ScorefoldError):
                error = PluginError(f"{type(error).__name__}: {error}")
            facts = {"type": type(error).__name__, "message": error.message, "hint": error.hint, "code": error.code}
            return writer.line({"do": "answer", "error": facts}, {})
        finally:
            _depth.reset(token)

    def _answer(self, said: Mapping[str, Any], reader: Reader) -> Any:
        if _depth.get() > DEEPEST:
            raise PluginError(
                f"components in environments of their own ask each other by way of the main process, {DEEPEST} deep",
                hint="plug in components of one environment",
            )
        for name in said["gone"]:
            self._bound.pop(name, None)
        do, name = said["ask"], said["name"]
        found = self._bound[name][0] if name in self._bound else self._offered.get(name)
        if isinstance(found, EventModel):
            _check_size(found, [said[each] for each in ("given", "named") if each in said])
        if do == "rows" and name in self._bound:
            owner, bound = self._bound[name]
            with _in_mode(owner, said["mode"]):
                return _rows(bound, {**said, "method": "", "split": False}, reader)
        if found is None:
            raise PluginError(f"there is no plugged-in object {name!r:.40}")
        asked = said["names"] if do == "get" else [said["method"]]
        if wrong := [each for each in asked if each not in _known(found)]:
            raise PluginError(f"the interface of {found!r:.100} has no {wrong[0]!r:.60}")
        if do == "get":
            return objects.get(found, asked)
        if do == "call" and not isinstance(found, EventModel):
            return objects.call(found, said, reader)
        with _in_mode(found, said["mode"]):
            if do == "bind":
                self._bound[said["kept"]] = found, found.bind(**reader.value(said["named"]))
                return None
            if do == "verb":
                return {"answer": objects.verb(found, said, reader), "points": 0}  # who counts here has counted already
            return {"rows": _rows}[do](found, said, reader)


def _check_size(found: EventModel, given: Any) -> None:
    """Raises ``PluginError`` for a question about so many events that the answer fills the memory of the host."""
    size = max(1, math.prod(found.event_shape))
    most = min(MOST, LARGEST // (size * found._reference().element_size()))
    asked = _events(given, size)
    if asked > most:
        raise PluginError(
            f"a question to {found!r:.100} has {asked:,} events or steps; expected at most {most:,}",
            hint="ask for fewer at a time",
        )


def _events(given: Any, size: int) -> int:
    """The largest number among arguments as a message has them; ``size`` is the numbers of one event."""
    if isinstance(given, list):
        return max((_events(each, size) for each in given), default=0)
    if not isinstance(given, dict):
        return given if type(given) is int else 0
    if given["$"] == "mapping":
        return _events(list(given["items"].values()), size)
    if given["$"] == "tuple" and all(type(each) is int for each in given["items"]):
        return math.prod(given["items"]) // size  # a shape
    return given["shape"][0] if given["$"] == "tensor" and given["shape"] else 0


def _rows(found: Any, said: Mapping[str, Any], reader: Reader) -> Any:
    """The answer of a map of rows. The events of a derivative have been counted with the values."""
    with evaluations(()) if said["derivative"] else nullcontext():
        return objects.mapped_rows(found, said, reader)


def _capabilities(value: Any) -> list[str]:
    """The names of core's capabilities that an object has and the worker may use."""
    return [name for name, each in CORE_INTERFACES.items() if name not in _NEVER and isinstance(value, each)]


def _known(found: Any) -> set[str]:
    """The names of an object's interface and capabilities, as core has them."""
    kind = askable_kind(found)
    classes = [KINDS[str(kind)], EventModel, *(CORE_INTERFACES[name] for name in _capabilities(found))]
    names = {name for each in classes for name in (*vars(each), *vars(each).get("__annotations__", {}))}
    return {name for name in names if not name.startswith("_")} | _ATTRIBUTES | (_OF_BASE if kind == "flow" else set())


def _mode(found: Any) -> dict[str, Any]:
    return {"dtype": str(found._reference().dtype).removeprefix("torch."), "training": found.training}


@contextmanager
def _in_mode(found: Any, mode: Mapping[str, Any]) -> Iterator[None]:
    """A model in the mode of the worker's proxy, and afterwards in its own. Raises ``PluginError`` for another
    precision, to which the worker can't change an object of the host."""
    own = _mode(found)["dtype"]
    if mode["dtype"] != own:
        raise PluginError(
            f"{found!r:.100} is plugged in from the main process in {own}; it can't be changed to {mode['dtype']!s:.20}"
        )
    before = [(part, part.training) for part in found.modules()]
    found.train(bool(mode["training"]))
    try:
        yield
    finally:
        for part, training in before:
            part.training = training
