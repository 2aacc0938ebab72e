"""What this plugin claims of images, as declarations: strings only."""

from __future__ import annotations

from collections.abc import Iterable

from scorefold.plugin import Claim

_PAPER = "Stanczuk, Batzolis, Deveney, Schoenlieb, ICML 2024"
_TABLE = f"{_PAPER}, table of results"
_HERE = "scorefold_iddiff.claims.images"
_TRAINED = ("quick", "full")

_METHODS = {
    "mle-5": "Maximum likelihood with 5 neighbours",
    "mle-20": "Maximum likelihood with 20 neighbours",
    "lpca": "Local PCA with 50 neighbours",
    "ppca": "The rank of a probabilistic PCA",
    "twonn": "TwoNN",
    "danco": "DANCo",
    "fishers": "FisherS",
}
_SETS = {
    "squares-10": "10 squares",
    "squares-20": "20 squares",
    "squares-100": "100 distinct squares",
    "squares-published": "the 100 published squares, of which two coincide,",
    "blobs": "5 blobs at 16 pixels",
}
_PUBLISHED = {
    ("mle-5", "squares-10"): 8.48,
    ("mle-5", "squares-20"): 14.96,
    ("mle-5", "squares-published"): 37.69,
    ("mle-20", "squares-10"): 8.17,
    ("mle-20", "squares-20"): 14.36,
    ("mle-20", "squares-published"): 34.42,
    ("lpca", "squares-10"): 10.0,
    ("lpca", "squares-20"): 20.0,
    ("lpca", "squares-published"): 78.0,
    ("ppca", "squares-10"): 10.0,
    ("ppca", "squares-20"): 20.0,
    ("ppca", "squares-published"): 99.0,
}


_MNIST = "MNIST's four idx files in the folder data: https://ossci-datasets.s3.amazonaws.com/mnist"


def image_claims() -> Iterable[Claim]:
    """Squares, blobs and digits at a small size, the classical estimators beside them, and the paper's own setting."""
    yield from _squares()
    yield from _blobs()
    yield from _digits()
    yield from _classical()
    yield from _published()


def _squares() -> Iterable[Claim]:
    for name, reference, truth in (
        ("squares-10", 11.0, 10),
        ("squares-20", 22.0, 20),
        ("squares-100", None, 100),
        ("squares-published", 100.0, 99),
    ):
        yield Claim(
            name=name,
            statement=f"With the score of the covariance of 5,000 images, {_SETS[name]} at 32 pixels get {truth} at "
            "every point, by the projector at the noise level that it chooses and by the reference rule (the "
            "estimate farthest from it)",
            source=f"{_TABLE}, squares; a closed form in place of a network",
            target=f"{_HERE}:squares",
            options={"name": name},
            reference=reference,
            basis="published",
            tolerance=("range", (truth, truth)),
            unit="dimensions",
        )


def _blobs() -> Iterable[Claim]:
    yield Claim(
        name="blobs-rank",
        statement="Images of 5 blobs at 16 pixels move in 5 directions by more than sigma = 0.05 for a deviation of "
        "their widths, at each of 1,000 (the least number)",
        source=f"{_PAPER}, the Gaussian blobs; the derivative of the image in closed form",
        target=f"{_HERE}:blobs_rank",
        tolerance=("range", (5, 5)),
        unit="dimensions",
    )
    networks = {"unet": "a small U-Net", "manifold-mlp": "network:manifold-mlp"}
    for network, words in networks.items():
        for suffix, rule, role in (("", "projector", "gate"), ("-reference", "reference", "report")):
            yield Claim(
                name=f"blobs-{network}{suffix}",
                statement=f"With {words}, new images of 5 blobs at 16 pixels get 5 by the {rule} rule at sigma = 0.05 "
                "(mode over images)",
                source=f"{_TABLE}, blobs, at a size for one core",
                target=f"{_HERE}:blobs_mode",
                options={"network": network, "rule": rule},
                role=role if network == "manifold-mlp" else "report",
                tolerance=("range", (5, 5)),
                unit="dimensions",
                profiles=_TRAINED,
            )
        yield Claim(
            name=f"blobs-{network}-share",
            statement=f"With {words}, new images of 5 blobs at 16 pixels get 5 by the projector rule (share of images)",
            source=f"{_TABLE}, blobs, at a size for one core",
            target=f"{_HERE}:blobs_share",
            options={"network": network, "rule": "projector"},
            role="report",
            tolerance=("min", 0.95),
            unit="share of images",
            profiles=_TRAINED,
        )


def _digits() -> Iterable[Claim]:
    source = f"{_PAPER}, MNIST by digit; scikit-learn's digits at 8 pixels, one score of all of them"
    yield Claim(
        name="digits-one-below",
        statement="Digit 1 has at least one dimension less than both 8 and 9, in the mean over new images",
        source=source,
        target=f"{_HERE}:digits_one_below",
        reference=82.0,
        tolerance=("min", 1.0),
        unit="dimensions",
        profiles=_TRAINED,
    )
    yield Claim(
        name="digits-rank-of-one",
        statement="Digit 1 has the least dimension of the ten (its place from below)",
        source=source,
        target=f"{_HERE}:digits_rank_of_one",
        role="report",
        reference=1.0,
        tolerance=("max", 1.0),
        unit="place",
        profiles=_TRAINED,
    )
    yield Claim(
        name="digits-order",
        statement="The ten digits have the published order of dimensions (Spearman's correlation)",
        source=source,
        target=f"{_HERE}:digits_order",
        role="report",
        reference=1.0,
        tolerance=("min", 0.5),
        unit="rank correlation",
        profiles=_TRAINED,
    )


def _classical() -> Iterable[Claim]:
    """FisherS is left out where it gives no number: it takes all points of 100 squares to be separable."""
    for name, words in _SETS.items():
        truth = {"squares-10": 10, "squares-20": 20, "squares-100": 100, "squares-published": 99, "blobs": 5}[name]
        for method, title in _METHODS.items():
            if method == "fishers" and truth >= 99:
                continue
            yield Claim(
                name=f"{method}-{name}",
                statement=f"{title} on 2,000 images of {words} (full: 20,000) gives {truth} within a tenth",
                source=f"{_TABLE}, {words.rstrip(',')}",
                target=f"{_HERE}:classical",
                options={"method": method, "name": name},
                role="report",
                reference=_PUBLISHED.get((method, name)),
                basis="published",
                tolerance=("range", (0.9 * truth, 1.1 * truth)),
                unit="dimensions",
                profiles=_TRAINED,
            )
    for method, title in _METHODS.items():
        yield Claim(
            name=f"{method}-digits",
            statement=f"{title} gives scikit-learn's ten digits the order published for MNIST's (Spearman's "
            "correlation)",
            source=f"{_PAPER}, MNIST by digit",
            target=f"{_HERE}:classical_order",
            options={"method": method},
            role="report",
            tolerance=("min", 0.5),
            unit="rank correlation",
            profiles=_TRAINED,
        )


def _published() -> Iterable[Claim]:
    for name, reference in (
        ("squares-10", 11.0),
        ("squares-20", 22.0),
        ("squares-100", 100.0),
        ("blobs-10", 12.0),
        ("blobs-20", 21.0),
        ("blobs-100", 98.0),
        ("mnist", 152.0),
    ):
        yield Claim(
            name=f"published-{name}",
            statement="The published U-Net, training and rule give the published dimension (the largest over points)",
            source=f"{_TABLE}, {name}",
            target="scorefold_iddiff.claims.published_images:largest",
            options={"name": name},
            role="report",
            reference=reference,
            basis="published",
            tolerance=("rel", 0.05),
            unit="dimensions",
            needs=_MNIST if name == "mnist" else "",
            profiles=("full",),
        )
    yield Claim(
        name="published-mnist-order",
        statement="MNIST's ten digits have the published order of dimensions (Spearman's correlation)",
        source=f"{_PAPER}, MNIST by digit",
        target="scorefold_iddiff.claims.published_images:mnist_order",
        role="report",
        reference=1.0,
        needs=_MNIST,
        tolerance=("min", 0.9),
        unit="rank correlation",
        profiles=("full",),
    )
