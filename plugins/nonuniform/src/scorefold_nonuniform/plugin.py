"""Components of this plugin."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from scorefold.plugin import Claim, Component, Port, hookimpl
from scorefold_toolkit.claims import read_claims

__plugin_api__ = "1.0"


@hookimpl
def scorefold_components() -> Iterable[Component]:
    yield from _scores()
    yield from _sources()


def _scores() -> Iterable[Component]:
    for name, target, summary in (
        ("multiscale", "MultiScale", "A network a scale: fine bands are noise early, and are then dropped"),
        ("nonuniform", "NonUniform", "One network for bands that diffuse each at its own speed"),
    ):
        yield Component(
            kind="score",
            name=name,
            target=f".{name}:{target}Score",
            config=f".config:{target}Config",
            requires=(Port("data", kind="data"), *_PARTS[name]),
            provides=("Trainable",),
            summary=summary,
            figures=".bands.figures:banded_figures",
            examples=tuple({"config": {**config, **_BRIEF}, "inputs": {"data": _FIELD}} for config in _EXAMPLES[name]),
            cite="citation.bib",
        )


_FIELD = {"use": "data:gaussian-field", "config": {"size": 8, "points": 300}}
_BRIEF = {"network": {"use": "network:mlp", "config": {"width": 32, "blocks": 1}}, "training": {"steps": 50}}
_PARTS: Mapping[str, tuple[Port, ...]] = {
    "multiscale": (Port("parts", kind="score", optional=True, many=True),),
    "nonuniform": (),
}
_EXAMPLES: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    "multiscale": (
        {"boundary_kl": 0.01},
        {"construction": "published", "boundary": "normal", "weighting": "likelihood"},
        {"bands": "dct", "process": "cosine", "ends": [0.5, 0.75, 1.0]},
    ),
    "nonuniform": ({}, {"bands": "pca", "process": "vp", "ends": [0.5, 1.0, 1.0], "weighting": "sigma2"}),
}


def _sources() -> Iterable[Component]:
    yield Component(
        kind="data",
        name="gaussian-field",
        target=".gaussian_field:GaussianField",
        config=".config:GaussianFieldConfig",
        summary="Periodic Gaussian images whose distribution is known, and with it every band's score at any speed",
        examples=({"config": {"size": 8, "points": 200}},),
        cite="citation.bib",
    )


@hookimpl
def scorefold_claims() -> Iterable[Claim]:
    return read_claims(Path(__file__).parent)
