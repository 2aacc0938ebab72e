"""Dimensions of the paper's manifolds as claims: declarations, strings only."""

from __future__ import annotations

from collections.abc import Iterable

from scorefold.plugin import Claim

_HERE = "scorefold_pullback.claims.manifolds"
_PAPER = "Diepeveen, Batzolis et al., ICML 2025, the Riemannian auto-encoder"
_TRAINED = ("quick", "full")
_DIGITS = "ours, on scikit-learn's digits; the paper shows interpolations and no figure for them"
_TITLES = {
    "sinusoid-1-3": "the sinusoid of dimension 1 in R^3",
    "hemisphere-2-3": "the hemisphere of dimension 2 in R^3",
    "sinusoid-2-3": "the sinusoid of dimension 2 in R^3",
    "hemisphere-5-20": "the hemisphere of dimension 5 in R^20",
    "sinusoid-5-20": "the sinusoid of dimension 5 in R^20",
    "sinusoid-1-3-published": "the sinusoid of dimension 1 in R^3, with the published layers and start,",
}


def manifold_claims() -> Iterable[Claim]:
    for setting, truth, most in (("sinusoid-1-3", 1, 0.1), ("hemisphere-2-3", 2, 0.25), ("sinusoid-2-3", 2, 0.5)):
        yield _dimension(setting, truth, 0.0, "gate")
        yield _loss(setting, ("max", most), "gate")
    yield _dimension("sinusoid-1-3-published", 1, 0.0, "report")
    yield _dimension("hemisphere-5-20", 5, 0.01, "gate")
    yield _loss("hemisphere-5-20", ("max", 0.25), "gate")
    for share in (0.1, 0.05):
        yield _dimension("hemisphere-5-20", 5, share, "report")
    for share in (0.1, 0.05, 0.01):
        yield _dimension("sinusoid-5-20", 5, share, "report")
    yield _loss("sinusoid-5-20", ("max", 1.0), "report")
    yield from _digits()


def _dimension(setting: str, truth: int, share: float, role: str) -> Claim:
    at = f"{share:g} of the variance" if share else "0.1, 0.05 and 0.01 of the variance"
    suffix = f"-{share:g}".replace(".", "") if share else ""
    return Claim(
        name=f"{setting}-dimension{suffix}",
        statement=f"Coordinates that flow:anisotropic keeps on {_TITLES[setting]} at {at} (farthest from the truth)",
        source=_PAPER,
        target=f"{_HERE}:dimension",
        options={"setting": setting, "share": share, "truth": truth},
        role=role,
        reference=truth,
        unit="dimensions",
        profiles=_TRAINED,
    )


def _loss(setting: str, tolerance: tuple[str, float], role: str) -> Claim:
    return Claim(
        name=f"{setting}-loss-over-pca",
        statement=f"What a code of the true dimension loses on {_TITLES[setting]}, over what a PCA's loses (largest)",
        source=_PAPER,
        target=f"{_HERE}:loss_over_pca",
        options={"setting": setting},
        role=role,
        tolerance=tolerance,
        unit="times",
        profiles=_TRAINED,
    )


def _digits() -> Iterable[Claim]:
    yield Claim(
        name="digits-middles",
        statement="Middles of geodesics between digits are nearer to the training digits than those of straight lines "
        "(mean distance over that of straight lines, largest over trainings)",
        source=_DIGITS,
        target="scorefold_pullback.claims.digits:middles",
        options={"way": "ratio"},
        tolerance=("max", 0.98),
        unit="times",
        profiles=_TRAINED,
    )
    for way, title in (("geodesic", "geodesics"), ("straight", "straight lines")):
        yield Claim(
            name=f"digits-{way}",
            statement=f"How far middles of {title} are from the training digits, over what held-out digits are",
            source=_DIGITS,
            target="scorefold_pullback.claims.digits:middles",
            options={"way": way},
            role="report",
            tolerance=("max", 1.4),
            unit="times",
            profiles=_TRAINED,
        )
