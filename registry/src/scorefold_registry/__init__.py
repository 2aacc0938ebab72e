"""Scorefold's registry: plugins found and kept apart, run files, and the command ``scorefold``.

>>> from scorefold_registry import Host
>>> host = Host.discover()
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from scorefold import __version__

if TYPE_CHECKING:
    from scorefold_registry.experiments.compare import compare
    from scorefold_registry.experiments.sweep import sweep
    from scorefold_registry.host import Host
    from scorefold_registry.run.pipeline import run_file
    from scorefold_registry.run.stage_folder import load_stage

__all__ = ["Host", "__version__", "compare", "load_stage", "run_file", "sweep"]

_PLACES = {
    "Host": "scorefold_registry.host",
    "compare": "scorefold_registry.experiments.compare",
    "load_stage": "scorefold_registry.run.stage_folder",
    "run_file": "scorefold_registry.run.pipeline",
    "sweep": "scorefold_registry.experiments.sweep",
}


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'scorefold_registry' has no attribute {name!r}")
