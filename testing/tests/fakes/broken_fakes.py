"""Fakes that are broken in just one way each: every clause of every check has one that must fail it.

This module holds their table; the modules ``broken_...`` fill it.
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

from good_declarations import ABLE, BATCHED, CURVED, FILE, NOISY, SCORED, TRAINED, declare
from good_fakes import (
    Fed,
    Filed,
    GaussianScore,
    MeanGap,
    Neighbours,
    Noisy,
    Pixels,
    Points,
    Searching,
    SinhGeometry,
    SmallFlow,
    Sums,
    Tens,
    Toy,
    Whole,
)

from scorefold.plugin import Component

BREAKS: dict[str, str] = {}
"""The check that each component breaks."""
PLUGINS: dict[str, str] = {}
"""The module that declares a component, where that is what is broken."""
COMPONENTS: list[Component] = []

_DECLARED: dict[type, tuple[str, dict[str, Any]]] = {
    Points: ("data", {}),
    Pixels: ("data", {}),
    Filed: ("data", dict(FILE)),
    GaussianScore: ("score", dict(TRAINED)),
    SmallFlow: ("flow", dict(TRAINED)),
    SinhGeometry: ("geometry", {"provides": CURVED}),
    Neighbours: ("estimator", dict(BATCHED)),
    Fed: ("estimator", dict(SCORED)),
    Tens: ("allocator", {"summary": "a baseline"}),
    Searching: ("allocator", {}),
    Sums: ("network", {}),
    MeanGap: ("metric", {}),
    Toy: ("toy", {"provides": ABLE}),
    Noisy: ("toy", {"provides": NOISY}),
    Whole: ("toy", {"provides": ABLE}),
}
_COUNT: Counter[str] = Counter()


def breaks(check: str, base: type, /, declared: dict[str, Any] | None = None, plugin: str = "", **methods: Any) -> None:
    """Registers a component that is ``base`` but for some methods or some of its declaration."""
    kind, more = _DECLARED[base]
    _COUNT[check] += 1
    number = "" if _COUNT[check] == 1 else f"-{_COUNT[check]}"
    name = "Breaks" + "".join(word.capitalize() for word in f"{check}{number}".split("-"))
    module = sys._getframe(1).f_globals
    methods = {"__doc__": "A fake.", **methods}
    module[name] = type(name, (base,), {"__module__": module["__name__"], **methods})
    target = {"target": f"{module['__name__']}:{name}", **more, **(declared or {})}
    component = declare(kind, f"breaks-{check}{number}", **target)
    COMPONENTS.append(component)
    BREAKS[component.id] = check
    if plugin:
        PLUGINS[component.id] = plugin


calls = iter(range(1, 10**9))
"""Numbers that never come twice, for fakes that are not to repeat themselves."""


def changed(base: type, method: str, change: Any) -> Any:
    """A method whose answer is changed by ``change(answer, *arguments)``."""

    def call(self: Any, *arguments: Any, **options: Any) -> Any:
        return change(getattr(base, method)(self, *arguments, **options), *arguments)

    return call


def in_a_fresh_process() -> bool:
    """Whether this is the process that the kit starts to load saved states."""
    return "pytest" not in sys.modules
