"""Components of this plugin: estimators, a network, data, and the results that anyone can measure again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from scorefold.plugin import Claim, Component, Port, hookimpl
from scorefold_toolkit.claims import read_claims

__plugin_api__ = "1.0"

_SPHERE = {"use": "data:sphere", "config": {"dimension": 2, "ambient": 10, "points": 200}}
_HIGH = {"use": "data:sphere", "config": {"dimension": 2, "ambient": 64, "points": 200}}
_EXACT = {"use": "score:analytic", "inputs": {"data": _SPHERE}}
_EXACT_HIGH = {"use": "score:analytic", "inputs": {"data": _HIGH}}
_FLOW = {
    "use": "flow:affine-coupling",
    "config": {"layers": 2, "hidden": [16], "training": {"steps": 20, "warmup": 1}},
    "inputs": {"data": _SPHERE},
}
_SAMPLES = Path(__file__).parent / "samples"
_PAPER = "citation.bib"
_FLIPD = "cite/flipd.bib"


@hookimpl
def scorefold_components() -> Iterable[Component]:
    yield Component(
        kind="estimator",
        name="iddiff",
        revision=1,
        target=".normal_bundle.estimator:NormalBundle",
        config=".config:NormalBundleConfig",
        requires=(Port("score", kind="score"),),
        summary="Intrinsic dimension from the spectrum of score vectors around a point",
        examples=(
            {"config": {"points": 8}, "inputs": {"score": _EXACT}},
            {"config": {"points": 8, "rule": "reference", "aggregate": "mode"}, "inputs": {"score": _EXACT}},
        ),
        ranges={"dimension": (1, 20)},
        figures=".normal_bundle.figures:normal_bundle_figures",
        cite="citation.bib",
    )
    yield from _pointwise()
    yield Component(
        kind="network",
        name="manifold-mlp",
        target=".manifold_mlp:ManifoldMLP",
        config=".config:ManifoldMLPConfig",
        summary="A multi-layer perceptron for scores of data on manifolds, which corrects the best linear guess",
        examples=({"config": {"width": 32, "blocks": 1}},),
        cite="cite/manifold_mlp.bib",
    )
    yield Component(
        kind="network",
        name="plain-mlp",
        target=".plain_mlp:PlainMLP",
        config=".config:PlainMLPConfig",
        summary="The perceptron of the paper's Euclidean experiments: linear layers, the time as one more input",
        examples=({"config": {"width": 32, "layers": 3}},),
    )
    yield from _sources()


def _pointwise() -> Iterable[Component]:
    yield Component(
        kind="estimator",
        name="flipd",
        target=".estimators.flipd:FLIPD",
        config=".estimators.config:FLIPDConfig",
        requires=(Port("score", kind="score"),),
        summary="Intrinsic dimension from how the density changes with the noise, by derivatives of the score",
        examples=({"config": {"points": 8}, "inputs": {"score": _EXACT}},),
        ranges={"dimension": (1, 20)},
        figures=".pointwise.answers:flipd_figures",
        cite="cite/flipd.bib",
    )
    yield Component(
        kind="estimator",
        name="denoising-loss",
        target=".estimators.denoising_loss:DenoisingLoss",
        config=".estimators.config:DenoisingLossDimensionConfig",
        requires=(Port("score", kind="score"),),
        summary="Intrinsic dimension as the loss of guessing added noise: forward passes only",
        examples=({"config": {"draws": 64, "shown": 8}, "inputs": {"score": _EXACT}},),
        ranges={"dimension": (1, 20)},
        figures=".pointwise.answers:denoising_loss_figures",
        cite="cite/denoising_loss.bib",
    )
    yield Component(
        kind="estimator",
        name="cascade",
        target=".estimators.cascade:Cascade",
        config=".estimators.config:CascadeConfig",
        requires=(Port("score", kind="score"),),
        summary="Intrinsic dimension in stages: denoising loss, range finder, and whole spectra where margins are thin",
        examples=(
            {"config": {"points": 8}, "inputs": {"score": _EXACT}},
            {"config": {"points": 8, "bases": "both"}, "inputs": {"score": _EXACT_HIGH}},
        ),
        ranges={"dimension": (1, 20)},
        figures=".pointwise.answers:cascade_figures",
        cite="cite/cascade.bib",
    )
    yield Component(
        kind="estimator",
        name="spectral-lanczos",
        target=".estimators.spectral_lanczos:SpectralLanczos",
        config=".estimators.config:LanczosConfig",
        requires=(Port("score", kind="score"),),
        summary="Intrinsic dimension as near-zero eigenvalues of the log-density's Hessian, by Lanczos quadrature",
        examples=({"config": {"points": 8}, "inputs": {"score": _EXACT}},),
        ranges={"dimension": (1, 20)},
        figures=".pointwise.answers:lanczos_figures",
        cite="cite/lhsd.bib",
    )
    yield Component(
        kind="estimator",
        name="lidl",
        target=".estimators.lidl:LIDL",
        config=".estimators.config:LIDLConfig",
        requires=(
            Port("flow", kind="flow", needs=("Trainable",)),
            Port("data", kind="data", optional=True, whole=True),
        ),
        summary="Intrinsic dimension from the densities of flows, one trained at each of several noise levels",
        examples=({"config": {"levels": [0.05, 0.2], "points": 8}, "inputs": {"flow": _FLOW, "data": _SPHERE}},),
        figures=".pointwise.answers:lidl_figures",
        cite="cite/lidl.bib",
        known_failures={
            "floor": "the kit has scores of its manifolds and no flows, so checks about answers on them are "
            "left to the plugin's own tests"
        },
    )


def _sources() -> Iterable[Component]:
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
        target=".data.combined:PointCloud",
        config=".data.config:PointCloudConfig",
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
        target=f".data.drawn:{target}",
        config=f".data.config:{config}",
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
        target=f".data.combined:{target}",
        config=f".data.config:{name.capitalize()}Config",
        summary=summary,
        requires=(Port("parts", kind="data", many=True, whole=True),),
        examples=({"config": config, "inputs": {"parts": parts}},),
    )


@hookimpl
def scorefold_claims() -> Iterable[Claim]:
    return read_claims(Path(__file__).parent)
