"""What this plugin offers."""

from __future__ import annotations

from collections.abc import Iterable

from scorefold.plugin import Component, hookimpl

__plugin_api__ = "1.0"


@hookimpl
def scorefold_components() -> Iterable[Component]:
    yield from _sources()


def _sources() -> Iterable[Component]:
    yield Component(
        kind="data",
        name="gaussian-field",
        target="scorefold_nonuniform.fields:GaussianField",
        config="scorefold_nonuniform.data_config:GaussianFieldConfig",
        summary="Periodic Gaussian images whose law is known, and with it every band's score at any speed",
        examples=({"config": {"size": 8, "points": 200}},),
        cite="citation.bib",
    )
