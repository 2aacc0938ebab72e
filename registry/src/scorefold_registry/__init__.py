"""Scorefold's registry: plugins found and kept apart, run files, and the command ``scorefold``.

>>> from scorefold_registry import Host
>>> host = Host.discover()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scorefold_registry.host import Host

__version__ = "0.1.0"

__all__ = ["Host", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "Host":
        from scorefold_registry.host import Host

        return Host
    raise AttributeError(f"module 'scorefold_registry' has no attribute {name!r}")
