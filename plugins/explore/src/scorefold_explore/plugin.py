"""Plugin with the command ``scorefold explore``."""

from __future__ import annotations

from collections.abc import Callable

from scorefold.plugin import hookimpl

__plugin_api__ = "1.0"


@hookimpl
def scorefold_commands(register: Callable[..., None]) -> None:
    register(
        "explore",
        "scorefold_explore.command:run",
        "open a run, an audit or a file of data in the browser, and click on what was learned",
    )
