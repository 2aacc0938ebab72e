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
_METHODS = {
    "mle": "MLE",
    "lpca": "Local PCA",
    "ppca": "PPCA",
    "twonn": "TwoNN",
    "danco": "DANCo",
    "fishers": "FisherS",
}
_PUBLISHED = {
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
_HERE = "scorefold_iddiff.claims.euclidean"
_TRAINED = ("quick", "full")


def euclidean_claims() -> Iterable[Claim]:
    yield from _plain()
    yield from _ours()
    yield from _classical()


def _plain() -> Iterable[Claim]:
    for name, dimension, reference in (
        ("sphere-50", 50, 51.0),
        ("spaghetti", 1, 1.0),
        ("union", 10, 10.0),
        ("union", 30, 31.0),
    ):
        part = f"-{dimension}" if name == "union" else ""
        where = f" on the points of the {dimension}-sphere" if part else ""
        yield Claim(
            name=f"plain-{name}{part}",
            statement=f"A plain MLP trained on {_SETS[name]}, by the reference rule (mode{where})",
            source=_PAPER,
            target=f"{_HERE}:plain_mode",
            options={"data": name, "dimension": dimension},
            role="report",
            reference=reference,
            basis="published",
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
            target=f"{_HERE}:our_share",
            options={"data": name},
            tolerance=("min", 0.95),
            unit="share of points with the truth",
            profiles=_TRAINED,
        )


def _classical() -> Iterable[Claim]:
    """What is published within 5 %; where nothing is, the truth within a tenth, for a union between its parts."""
    truths = {"sphere-10": (10, 10), "sphere-50": (50, 50), "spaghetti": (1, 1), "union": (10, 30)}
    for estimator, title in _METHODS.items():
        for name, what in _SETS.items():
            reference, (least, most) = _PUBLISHED.get((estimator, name)), truths[name]
            yield Claim(
                name=f"{estimator}-{name}",
                statement=f"{title} on {what}: one dimension for all points",
                source=_PAPER if reference is not None else "the field's estimators beside ours; not in the paper",
                target=f"{_HERE}:classical",
                options={"estimator": estimator, "data": name},
                role="report",
                reference=reference,
                basis="published",
                tolerance=("rel", 0.05) if reference is not None else ("range", (0.9 * least, 1.1 * most)),
                unit="dimensions",
                profiles=_TRAINED,
            )
