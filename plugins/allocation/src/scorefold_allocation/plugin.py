"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterable

from scorefold.plugin import Kind, hookimpl

__plugin_api__ = "1.0"


@hookimpl
def scorefold_kinds() -> Iterable[Kind]:
    yield Kind(
        "learner",
        interface="scorefold_allocation.learner:Learner",
        summary="A meta-learner that tells how well an allocation of labels trains it",
    )
