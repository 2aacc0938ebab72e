"""The costs of a stage: CPU seconds, and the models whose evaluations are counted."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from scorefold.interfaces import Flow, ScoreModel

if TYPE_CHECKING:
    from scorefold_registry.components.building import Memory


def cpu_seconds() -> float:
    """CPU seconds of this process and of those it has waited for."""
    children = os.times()
    return time.process_time() + children.children_user + children.children_system


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
