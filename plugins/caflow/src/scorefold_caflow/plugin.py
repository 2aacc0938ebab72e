"""What this plugin offers: flows of images given images."""

from __future__ import annotations

from collections.abc import Iterable

from scorefold.plugin import Component, hookimpl

__plugin_api__ = "1.0"


@hookimpl
def scorefold_components() -> Iterable[Component]:
    yield from ()
