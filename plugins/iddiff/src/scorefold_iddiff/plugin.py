"""What this plugin offers: estimators, a network, data, and the results that anyone can measure again."""

from __future__ import annotations

from collections.abc import Iterable

from scorefold.plugin import Claim, Component, Port, hookimpl
from scorefold_iddiff.euclidean_claims import euclidean_claims
from scorefold_iddiff.image_claims import image_claims
from scorefold_iddiff.sources import sources

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
_SOURCE = "Stanczuk, Batzolis, Deveney, Schoenlieb, ICML 2024"


@hookimpl
def scorefold_components() -> Iterable[Component]:
    yield Component(
        kind="estimator",
        name="iddiff",
        revision=1,
        target="scorefold_iddiff.estimator:NormalBundle",
        config="scorefold_iddiff.config:NormalBundleConfig",
        requires=(Port("score", kind="score"),),
        summary="Intrinsic dimension from the spectrum of score vectors around a point",
        examples=(
            {"config": {"points": 8}, "inputs": {"score": _EXACT}},
            {"config": {"points": 8, "rule": "reference", "aggregate": "mode"}, "inputs": {"score": _EXACT}},
        ),
        ranges={"dimension": (1, 20)},
        figures="scorefold_iddiff.figures:draw",
        cite="citation.bib",
    )
    yield from _successors()
    yield Component(
        kind="network",
        name="manifold-mlp",
        target="scorefold_iddiff.manifold_mlp:ManifoldMLP",
        config="scorefold_iddiff.network_config:ManifoldMLPConfig",
        summary="A multi-layer perceptron for scores of data on manifolds, which corrects the best linear guess",
        examples=({"config": {"width": 32, "blocks": 1}},),
        cite="cite/manifold_mlp.bib",
    )
    yield from sources()


def _successors() -> Iterable[Component]:
    yield Component(
        kind="estimator",
        name="flipd",
        target="scorefold_iddiff.flipd:FLIPD",
        config="scorefold_iddiff.successors_config:FLIPDConfig",
        requires=(Port("score", kind="score"),),
        summary="Intrinsic dimension from how the density changes with the noise, by derivatives of the score",
        examples=({"config": {"points": 8}, "inputs": {"score": _EXACT}},),
        ranges={"dimension": (1, 20)},
        figures="scorefold_iddiff.successors_figures:flipd",
        cite="cite/flipd.bib",
    )
    yield Component(
        kind="estimator",
        name="denoising-loss",
        target="scorefold_iddiff.denoising_loss:DenoisingLoss",
        config="scorefold_iddiff.successors_config:DenoisingLossConfig",
        requires=(Port("score", kind="score"),),
        summary="Intrinsic dimension as the loss of guessing added noise: forward passes only",
        examples=({"config": {"draws": 64, "shown": 8}, "inputs": {"score": _EXACT}},),
        ranges={"dimension": (1, 20)},
        figures="scorefold_iddiff.successors_figures:denoising_loss",
        cite="cite/denoising_loss.bib",
    )
    yield Component(
        kind="estimator",
        name="cascade",
        target="scorefold_iddiff.cascade:Cascade",
        config="scorefold_iddiff.cascade_config:CascadeConfig",
        requires=(Port("score", kind="score"),),
        summary="Intrinsic dimension in stages: denoising loss, range finder, and whole spectra where margins are thin",
        examples=(
            {"config": {"points": 8}, "inputs": {"score": _EXACT}},
            {"config": {"points": 8, "bases": "both"}, "inputs": {"score": _EXACT_HIGH}},
        ),
        ranges={"dimension": (1, 20)},
        figures="scorefold_iddiff.successors_figures:cascade",
        cite="cite/cascade.bib",
    )
    yield Component(
        kind="estimator",
        name="spectral-lanczos",
        target="scorefold_iddiff.lanczos:SpectralLanczos",
        config="scorefold_iddiff.successors_config:LanczosConfig",
        requires=(Port("score", kind="score"),),
        summary="Intrinsic dimension as near-zero eigenvalues of the log-density's Hessian, by Lanczos quadrature",
        examples=({"config": {"points": 8}, "inputs": {"score": _EXACT}},),
        ranges={"dimension": (1, 20)},
        figures="scorefold_iddiff.successors_figures:lanczos",
        cite="cite/lhsd.bib",
    )
    yield Component(
        kind="estimator",
        name="lidl",
        target="scorefold_iddiff.lidl:LIDL",
        config="scorefold_iddiff.successors_config:LIDLConfig",
        requires=(
            Port("flow", kind="flow", needs=("Trainable",)),
            Port("data", kind="data", optional=True, whole=True),
        ),
        summary="Intrinsic dimension from the densities of flows, one trained at each of several noise levels",
        examples=({"config": {"levels": [0.05, 0.2], "points": 8}, "inputs": {"flow": _FLOW, "data": _SPHERE}},),
        figures="scorefold_iddiff.successors_figures:lidl",
        cite="cite/lidl.bib",
        known_failures={
            "floor": "the kit has scores of its manifolds and no flows, so checks about answers on them are "
            "left to the plugin's own tests"
        },
    )


@hookimpl
def scorefold_claims() -> Iterable[Claim]:
    yield Claim(
        name="exact-spheres",
        statement="With the exact score, k-spheres in R^100 (k = 2, 5, 10, 50) get their dimension at every point by "
        "both rules (largest error over points and rules)",
        source=f"{_SOURCE}, section on the k-sphere; exact score instead of a network",
        target="scorefold_iddiff.claims:exact_spheres",
        tolerance=("max", 0.0),
        unit="dimensions",
    )
    yield Claim(
        name="several-scales",
        statement="With 20 tangent variances from 1 to 1e-6 in R^100, the projector rule counts those above sigma^2 "
        "at six noise levels (largest error)",
        source="exact linear algebra: the eigenvalues of the projector are lambda / (lambda + sigma^2)",
        target="scorefold_iddiff.claims:several_scales",
        tolerance=("max", 0.0),
        unit="dimensions",
    )
    yield Claim(
        name="trained-sphere",
        statement="A plain MLP trained on the 10-sphere in R^100 gives 11 by the reference rule, one above the truth, "
        "as published (share of points)",
        source=f"{_SOURCE}, table of results, row of the 10-sphere",
        target="scorefold_iddiff.claims:trained_sphere",
        reference=1.0,
        tolerance=("min", 0.95),
        unit="share of points at 11",
    )
    yield from euclidean_claims()
    yield from image_claims()
