"""The paper's Euclidean rows as claims: declarations, strings only."""

from __future__ import annotations

from collections.abc import Iterable

from scorefold.plugin import Claim

_PAPER = "Stanczuk, Batzolis, Deveney, Schoenlieb, ICML 2024, table of results"
_SETS = {
    "sphere-10": "the 10-sphere in R^100",
    "sphere-50": "the 50-sphere in R^100",
    "spaghetti": "a long curve of sines in R^100",
    "union": "the union of a 10-sphere and a 30-sphere a quarter its size in R^100",
}
_TRAINED = ("quick", "full")


def euclidean_rows() -> Iterable[Claim]:
    yield from _plain()
    yield from _ours()
    yield from _classical()


def _plain() -> Iterable[Claim]:
    rows = (
        ("sphere-50", "", "plain_sphere_50", 51.0),
        ("spaghetti", "", "plain_spaghetti", 1.0),
        ("union", " on the points of the 10-sphere", "plain_union_10", 10.0),
        ("union", " on the points of the 30-sphere", "plain_union_30", 31.0),
    )
    for name, where, function, published in rows:
        yield Claim(
            name=function.replace("_", "-"),
            statement=f"A plain MLP trained on {_SETS[name]}, by the reference rule (mode{where})",
            source=_PAPER,
            target=f"scorefold_iddiff.claims_euclidean:{function}",
            role="report",
            published=published,
            tolerance=("abs", 0.0),
            unit="dimensions",
            profiles=_TRAINED,
        )


def _ours() -> Iterable[Claim]:
    for name, what in _SETS.items():
        yield Claim(
            name=f"our-{name}",
            statement=f"network:manifold-mlp trained on {what}, at one setting for all sets and the automatic noise "
            "level, gives the true dimension of fresh points (least share over five trainings)",
            source="ours; the paper's sets, on which a plain network gives one more on spheres",
            target=f"scorefold_iddiff.claims_euclidean:our_{name.replace('-', '_')}",
            tolerance=("min", 0.95),
            unit="share of points with the truth",
            profiles=_TRAINED,
        )


def _classical() -> Iterable[Claim]:
    published = {
        ("mle", "sphere-10"): 9.46,
        ("mle", "sphere-50"): 34.04,
        ("mle", "spaghetti"): 1.0,
        ("lpca", "sphere-10"): 11.0,
        ("lpca", "sphere-50"): 51.0,
        ("lpca", "spaghetti"): 32.0,
        ("ppca", "sphere-10"): 11.0,
        ("ppca", "sphere-50"): 51.0,
        ("ppca", "spaghetti"): 98.0,
    }
    named = {
        "mle": "MLE",
        "lpca": "Local PCA",
        "ppca": "PPCA",
        "twonn": "TwoNN",
        "danco": "DANCo",
        "fishers": "FisherS",
    }
    for estimator, title in named.items():
        for name, what in _SETS.items():
            value = published.get((estimator, name))
            yield Claim(
                name=f"{estimator}-{name}",
                statement=f"{title} on {what}: one dimension for all points",
                source=_PAPER if value is not None else "the field's estimators beside ours; not in the paper",
                target=f"scorefold_iddiff.claims_classical:{estimator}_{name.replace('-', '_')}",
                role="report",
                published=value,
                tolerance=("rel", 0.05) if value is not None else ("min", 0.0),
                unit="dimensions",
                profiles=_TRAINED,
            )
