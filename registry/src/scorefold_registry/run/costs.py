"""What a stage costs: CPU seconds, and the points at which score models and flows are evaluated."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from scorefold.interfaces import Flow, ScoreModel

if TYPE_CHECKING:
    from scorefold_registry.components.building import Memory

_METHODS: dict[type, tuple[str, ...]] = {ScoreModel: ("score", "noise", "denoise"), Flow: ("forward", "inverse")}
"""What evaluates a model. One of these may call another: only the outermost counts."""


def cpu_seconds() -> float:
    """CPU seconds of this process and of those it has waited for."""
    children = os.times()
    return time.process_time() + children.children_user + children.children_system


@dataclass
class Tally:
    """Evaluations so far: ``points`` is the number of batch rows, None where there is no model to count."""

    points: int | None = None
    depth: int = 0


@contextmanager
def evaluations(models: list[Any]) -> Iterator[Tally]:
    """Count the points at which score models and flows of these classes are evaluated in this process.

    A call on a batch of B rows counts B, whatever derivatives are carried along with it.
    """
    tally = Tally()
    patched: list[tuple[type, str, Any]] = []
    for kind in dict.fromkeys(type(model) for model in models):
        names = [name for interface, names in _METHODS.items() if issubclass(kind, interface) for name in names]
        for name in names:
            # The class and not the object, so that a model can still be pickled.
            patched.append((kind, name, kind.__dict__.get(name)))
            setattr(kind, name, _counted(getattr(kind, name), tally))
            tally.points = 0
    try:
        yield tally
    finally:
        for kind, name, own in patched:
            if own is None:
                delattr(kind, name)
            else:
                setattr(kind, name, own)


def _counted(method: Callable[..., Any], tally: Tally) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: Any, *arguments: Any, **named: Any) -> Any:
        if tally.depth == 0:
            assert tally.points is not None
            tally.points += _rows(*arguments, *named.values())
        tally.depth += 1
        try:
            return method(self, *arguments, **named)
        finally:
            tally.depth -= 1

    return call


def _rows(*arguments: Any) -> int:
    """The rows of a batch: those of the longest tensor, since a batch of 1 broadcasts."""
    return max((len(value) for value in arguments if isinstance(value, Tensor) and value.dim()), default=0)


def models_of(memory: Memory, *objects: Any) -> list[Any]:
    """The score models and flows among objects and what they were plugged to, at any depth."""
    found: dict[int, Any] = {}
    waiting = list(objects)
    while waiting:
        item = waiting.pop()
        if isinstance(item, (list, tuple)):
            waiting += item
        elif id(item) not in found:
            found[id(item)] = item
            made = memory.of(item)
            waiting += [] if made is None else made.ports.values()
    return [item for item in found.values() if isinstance(item, (ScoreModel, Flow))]
