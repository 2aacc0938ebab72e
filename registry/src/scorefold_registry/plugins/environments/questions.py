"""Objects of the host that are plugged into objects of a worker: what the worker may ask, and the answers.

What a worker sends is data. It names an object that was plugged in and a method of core's interfaces, and nothing else.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from operator import index
from typing import Any
from weakref import WeakValueDictionary

from torch import Tensor

from scorefold.errors import PluginError, ScorefoldError
from scorefold.interfaces import Estimator, Flow, ScoreModel
from scorefold.interfaces.model import EventModel, evaluations
from scorefold_registry.plugins.environments import objects
from scorefold_registry.plugins.environments.models import CORE_INTERFACES, IsolatedScore
from scorefold_registry.plugins.environments.wire import LARGEST, Reader, Writer

KINDS: dict[str, type] = {"score": ScoreModel, "flow": Flow, "estimator": Estimator}
"""The kinds of objects of the host that can be plugged into an object of a worker."""

DEEPEST = 4
"""Questions inside each other."""

MOST = 10**7
"""Events or steps of one question."""

_depth: ContextVar[int] = ContextVar("depth", default=0)
_NEVER = ("Trainable",)
_OF_KIND = {"flow": {"base.log_prob", "base.sample", "base.centre"}}


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
        own = getattr(type(value), "bind", ScoreModel.bind) is not ScoreModel.bind
        said = {"$": "asked", "name": name, "kind": _kind(value), "provides": _capabilities(value)}
        mode = objects.mode_of(value) if isinstance(value, EventModel) else None
        return {**said, "overrides": ["bind"] if own else [], "mode": mode}

    def forget(self) -> None:
        """Lets go of the bound scores of a worker that has ended."""
        self._bound.clear()

    def answer(self, said: Mapping[str, Any], reader: Reader, writer: Writer) -> bytes:
        """The answer to a question as a line, or the error of the object."""
        token = _depth.set(_depth.get() + 1)
        try:
            done = self._answer(str(said["ask"]), **reader.value(said["values"]))
            states = [generator.get_state() for generator in reader.generators]
            return writer.line({"do": "answer"}, {"done": done, "generators": states})
        except Exception as error:
            if not isinstance(error, ScorefoldError):
                error = PluginError(f"{type(error).__name__}: {error}")
            facts = {"type": type(error).__name__, "message": error.message, "hint": error.hint, "code": error.code}
            return writer.line({"do": "answer", "error": facts}, {})
        finally:
            _depth.reset(token)

    def _answer(self, do: str, *, name: str, gone: list[str], mode: Any = None, keep: Any = None, **values: Any) -> Any:
        if _depth.get() > DEEPEST:
            raise PluginError(
                f"components in environments of their own ask each other by way of the main process, {DEEPEST} deep",
                hint="plug in components of one environment",
            )
        for each in gone:
            self._bound.pop(each, None)
        found, bound = self._bound.get(name) or (self._offered.get(name), None)
        if found is None:
            raise PluginError(f"there is no plugged-in object {name!r:.40}")
        asked = values["names"] if do == "get" else [] if bound else [values["method"]]
        if wrong := [each for each in asked if each not in _known(found)]:
            raise PluginError(f"the interface of {found!r:.100} has no {wrong[0]!r:.60}")
        if do == "get":
            return objects.get(found, **values)
        if isinstance(found, EventModel):
            _check_size(found, values)
        with _in_mode(found, mode) if isinstance(found, EventModel) else nullcontext():
            if do == "rows":
                if bound:
                    found, values = bound, {**values, "method": "", "split": False}
                # The events of a derivative have been counted with the values.
                with evaluations(()) if values["derivative"] else nullcontext():
                    return objects.mapped_rows(found, **values)
            if do == "call" and not bound:
                answer = objects.call(found, **values)
                if keep is not None:
                    self._bound[keep] = found, answer
                return {"answer": None if keep else answer, "points": 0}  # who counts here has counted already
        raise PluginError(f"a worker asked for {do!r:.40}, which is no question")


def _kind(value: Any) -> str:
    return next(kind for kind, interface in KINDS.items() if isinstance(value, interface))


def _check_size(found: EventModel, values: Mapping[str, Any]) -> None:
    """Raises ``PluginError`` for a question about so many events that the answer fills the memory of the host."""
    size = max(1, math.prod(found.event_shape))
    most = min(MOST, LARGEST // (size * found._reference().element_size()))
    arguments = [*values.get("given", ()), *values.get("named", {}).values()]
    asked = max((_events(each, size) for each in arguments), default=0)
    if asked > most:
        raise PluginError(
            f"a question to {found!r:.100} has {asked:,} events or steps; expected at most {most:,}",
            hint="ask for fewer at a time",
        )


def _events(given: Any, size: int) -> int:
    """The largest number among arguments; ``size`` is the numbers of one event."""
    if (whole := _whole(given)) is not None:
        return whole
    if isinstance(given, list | tuple):
        numbers = [number for each in given if (number := _whole(each)) is not None]
        if len(numbers) == len(given):
            return math.prod(numbers) // size  # a shape
    if isinstance(given, list | tuple | Mapping):
        parts = given.values() if isinstance(given, Mapping) else given
        return max((_events(each, size) for each in parts), default=0)
    return len(given) if isinstance(given, Tensor) and given.dim() else 0


def _whole(given: Any) -> int | None:
    """A whole number, also one in a tensor or an array; None for another value."""
    try:
        return index(given)
    except (TypeError, RuntimeError):
        return None


def _capabilities(value: Any) -> list[str]:
    """The names of core's capabilities that an object has and the worker may use."""
    return [name for name, each in CORE_INTERFACES.items() if name not in _NEVER and isinstance(value, each)]


def _known(found: Any) -> set[str]:
    """The names of an object's interface and capabilities, as core has them."""
    kind = _kind(found)
    classes = [KINDS[kind], EventModel, *(CORE_INTERFACES[name] for name in _capabilities(found))]
    names = {name for each in classes for name in (*vars(each), *vars(each).get("__annotations__", {}))}
    return {name for name in names if not name.startswith("_")} | {*IsolatedScore._names} | _OF_KIND.get(kind, set())


@contextmanager
def _in_mode(found: Any, mode: Any) -> Iterator[None]:
    """A model in the mode of the worker's proxy, and afterwards in its own. Raises ``PluginError`` for another
    precision, to which the worker can't change an object of the host."""
    (own, _), (dtype, training) = objects.mode_of(found), mode
    if dtype != own:
        raise PluginError(
            f"{found!r:.100} is plugged in from the main process in {own}; it can't be changed to {dtype!s:.20}"
        )
    before = [(part, part.training) for part in found.modules()]
    found.train(bool(training))
    try:
        yield
    finally:
        for part, was in before:
            part.training = was
