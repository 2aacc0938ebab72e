"""Components of this plugin: flow matching, a method outside Scorefold's seven papers on the public hooks alone."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from scorefold.plugin import Claim, Component, Port, hookimpl
from scorefold_toolkit.claims import read_claims

__plugin_api__ = "1.0"


@hookimpl
def scorefold_components() -> Iterable[Component]:
    network = {"use": "network:mlp", "config": {"width": 32, "blocks": 1}}
    brief = {"network": network, "training": {"steps": 200}}
    yield Component(
        kind="score",
        name="flow-matching",
        target=".score:FlowMatching",
        config=".config:FlowMatchingConfig",
        requires=(Port("data", kind="data"),),
        provides=("Trainable",),
        summary="Rectified flow: a network gives the velocity of straight paths between noise and data",
        examples=(
            {"config": brief, "inputs": {"data": {"use": "data:sphere", "config": {"points": 200}}}},
            {
                "config": {**brief, "condition_dropout": 0.1, "noise_levels": "time"},
                "inputs": {"data": {"use": "data:digits", "config": {"limit": 100}}},
            },
        ),
        cite="citation.bib",
    )


@hookimpl
def scorefold_claims() -> Iterable[Claim]:
    return read_claims(Path(__file__).parent)
