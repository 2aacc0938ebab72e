"""What the plugin offers: some components that work and some that break their word."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from scorefold.plugin import Component, Port, hookimpl

__plugin_api__ = "1.0"


def fake(kind: str, name: str, target: str, config: str = "Empty", **more: Any) -> Component:
    return Component(
        kind=kind, name=name, target=f"fake_one.impl:{target}", config=f"fake_one.config:{config}", summary="", **more
    )


DATA = Port("data", kind="data")


@hookimpl
def scorefold_components() -> Iterable[Component]:
    yield fake("data", "points", "Points", "PointsConfig")
    yield fake("network", "linear", "LinearBuilder", "LinearConfig")
    yield fake("score", "learnt", "Learnt", "LearntConfig", requires=(DATA,), provides=("Trainable",))
    yield fake("score", "whole", "Whole", requires=(Port("data", kind="data", whole=True),))
    yield fake("flow", "wrapping", "Wrapping", requires=(Port("score", kind="score"), DATA))
    yield fake("estimator", "plain", "Plain", requires=(Port("score", kind="score"),))
    yield fake("estimator", "trained", "Plain", requires=(Port("score", kind="score", needs=("Trainable",)),))
    yield fake("estimator", "several", "Several", requires=(Port("scores", kind="score", many=True),))
    yield fake(
        "estimator",
        "by-default",
        "WithDefault",
        requires=(
            Port("score", kind="score", default={"use": "score:learnt"}),
            DATA,
            Port("extra", kind="data", optional=True),
        ),
    )
    yield fake("estimator", "placed", "Placed")
    yield fake("estimator", "holding", "Holding", "HoldingConfig", requires=(DATA,))
    yield fake("estimator", "no-estimator", "NoEstimator")
    yield fake("estimator", "boaster", "Boaster", provides=("Encodes",))
    yield fake("score", "modest", "Learnt", "LearntConfig", requires=(DATA,))
    yield fake("estimator", "failing", "Failing")
    yield fake("estimator", "refusing", "Refusing")
    yield fake("estimator", "absent", "Absent")
    yield Component(
        kind="estimator", name="unimportable", target="fake_one.heavy:Thing", config="fake_one.config:Empty", summary=""
    )
