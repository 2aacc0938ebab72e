"""Scorefold: a plugin host for learning the geometry of data with score models and normalising flows.

Importing this package imports neither torch nor pydantic; the names below load on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.2.0"

_INTERFACES = ("ScoreModel", "Flow", "Geometry", "Estimator", "Allocator", "DataSource", "Network")
_RESULTS = dict.fromkeys(("Estimate", "Allocation"), "scorefold.results")
_LAZY = {**dict.fromkeys(_INTERFACES, "scorefold.interfaces"), "Dataset": "scorefold.data", **_RESULTS}

__all__ = ["__version__", *sorted(_LAZY)]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    moved = "; it is scorefold_toolkit.training.fit" if name == "fit" else ""
    raise AttributeError(f"module 'scorefold' has no attribute {name!r}{moved}")


def __dir__() -> list[str]:
    return __all__
