"""Scorefold: a plugin host for learning the geometry of data with score models and normalising flows.

Importing this package imports neither torch nor pydantic; its names load on first use. Users' functions, such as
``scorefold.estimate``, are entry points of the group ``scorefold.functions``, which the registry and the toolkit have.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from typing import Any

__version__ = "0.2.0"

_INTERFACES = ("ScoreModel", "Flow", "Geometry", "Estimator", "Allocator", "DataSource", "Network")
_RESULTS = dict.fromkeys(("Estimate", "Allocation"), "scorefold.results")
_LAZY = {**dict.fromkeys(_INTERFACES, "scorefold.interfaces"), "Dataset": "scorefold.data", **_RESULTS}

__all__ = ["__version__", *sorted(_LAZY)]


@cache
def _functions() -> dict[str, Any]:
    metadata = importlib.import_module("importlib.metadata")
    return {point.name: point for point in metadata.entry_points(group="scorefold.functions")}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    # A module of the package that is not imported yet is asked for here first.
    if name[0] != "_" and importlib.util.find_spec(f"scorefold.{name}") is None and name in _functions():
        return _functions()[name].load()
    raise AttributeError(f"module 'scorefold' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_functions()})
