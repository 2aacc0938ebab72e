"""The data sources that this plugin offers, as declarations: strings only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from scorefold.plugin import Component, Port

_SAMPLES = Path(__file__).parent / "samples"
_PAPER = "citation.bib"
_FLIPD = "cite/flipd.bib"


def sources() -> Iterable[Component]:
    yield _drawn(
        "non-uniform-sphere",
        "Drawn",
        "NonUniformSphereConfig",
        "A k-sphere whose angles are normal around 0: thin in all but a few directions",
        _PAPER,
        {"dimension": 3, "ambient": 6, "points": 100},
    )
    yield _drawn(
        "spaghetti",
        "DensityDrawn",
        "SpaghettiConfig",
        "A long curve of sines of many frequencies, with its exact score",
        _PAPER,
        {"ambient": 10, "points": 100, "nodes": 2001},
    )
    yield _drawn(
        "squares",
        "Drawn",
        "SquaresConfig",
        "Images of squares of fixed places and free brightness, which fill a plane",
        _PAPER,
        {"squares": 5, "size": 16, "points": 100},
    )
    yield _drawn(
        "blobs",
        "Drawn",
        "BlobsConfig",
        "Images of Gaussian blobs of fixed centres and free widths, which fill a curved set",
        _PAPER,
        {"blobs": 5, "size": 16, "points": 100},
        {"blobs": 5, "size": 16, "points": 100, "flatten": True, "tangents": True},
    )
    yield _drawn(
        "squiggly",
        "Drawn",
        "SquigglyConfig",
        "A Gaussian on a plane, bent by sines and turned several times",
        _FLIPD,
        {"dimension": 3, "ambient": 10, "points": 100},
    )
    yield _drawn(
        "lollipop",
        "Drawn",
        "LollipopConfig",
        "A disk, a stick and a dot: dimensions 2, 1 and 0 in one set",
        _FLIPD,
        {"points": 100},
    )
    yield Component(
        kind="data",
        name="point-cloud",
        target="scorefold_iddiff.data.cloud:PointCloud",
        config="scorefold_iddiff.data_config:PointCloudConfig",
        summary="A cloud of points in three coordinates from a JSON file, such as the paper's mammoth",
        examples=({"config": {"path": str(_SAMPLES / "cloud.json"), "ambient": 10}},),
        cite=_PAPER,
    )
    circle = {"use": "data:sphere", "config": {"dimension": 1, "ambient": 3, "points": 100}}
    yield _combined(
        "union",
        "UnionOf",
        "The points of several sources as one set, each with the dimension of its part",
        {"separation": 2.0, "weights": [1, 2]},
        [{"use": "data:torus", "config": {"form": "revolution", "points": 100}}, circle],
    )
    yield _combined(
        "product",
        "ProductOf",
        "Points of several sources side by side: their dimensions add up",
        {"ambient": 9},
        [circle, circle, {"use": "data:subspace", "config": {"dimension": 1, "ambient": 2, "points": 100}}],
    )


def _drawn(name: str, target: str, config: str, summary: str, cite: str, *examples: Mapping[str, Any]) -> Component:
    return Component(
        kind="data",
        name=name,
        target=f"scorefold_iddiff.data.drawn:{target}",
        config=f"scorefold_iddiff.data_config:{config}",
        summary=summary,
        examples=tuple({"config": example} for example in examples),
        cite=cite,
    )


def _combined(
    name: str, target: str, summary: str, config: Mapping[str, Any], parts: list[Mapping[str, Any]]
) -> Component:
    return Component(
        kind="data",
        name=name,
        target=f"scorefold_iddiff.data.combined:{target}",
        config=f"scorefold_iddiff.data_config:{name.capitalize()}Config",
        summary=summary,
        requires=(Port("parts", kind="data", many=True, whole=True),),
        examples=({"config": config, "inputs": {"parts": parts}},),
    )
