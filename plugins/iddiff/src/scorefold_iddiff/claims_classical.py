"""The field's estimators on the paper's Euclidean sets, beside what a score model says of them."""

from __future__ import annotations

from typing import Any

from scorefold.seeds import derive_generator
from scorefold_iddiff.claims_euclidean import Measure, source

_SETTINGS: dict[str, dict[str, Any]] = {
    "mle": {"resamples": 0},
    "lpca": {"resamples": 0, "limit": 2000},
    "ppca": {},
    "twonn": {"resamples": 0},
    "danco": {"resamples": 0, "limit": 2000},
    "fishers": {"resamples": 0, "limit": 2000},
}


def classical(estimator: str, name: str) -> Measure:
    """One dimension for the training points of a set, of which the slow estimators take 2,000."""

    def measure(host: Any, profile: str, seed: int) -> float:
        points = source(host, name, seed).load("train")
        made = host.create(f"estimator:{estimator}", _SETTINGS[estimator])
        return float(made.estimate(points, generator=derive_generator(seed, estimator)).value)

    return measure


mle_sphere_10 = classical("mle", "sphere-10")
mle_sphere_50 = classical("mle", "sphere-50")
mle_spaghetti = classical("mle", "spaghetti")
mle_union = classical("mle", "union")

lpca_sphere_10 = classical("lpca", "sphere-10")
lpca_sphere_50 = classical("lpca", "sphere-50")
lpca_spaghetti = classical("lpca", "spaghetti")
lpca_union = classical("lpca", "union")

ppca_sphere_10 = classical("ppca", "sphere-10")
ppca_sphere_50 = classical("ppca", "sphere-50")
ppca_spaghetti = classical("ppca", "spaghetti")
ppca_union = classical("ppca", "union")

twonn_sphere_10 = classical("twonn", "sphere-10")
twonn_sphere_50 = classical("twonn", "sphere-50")
twonn_spaghetti = classical("twonn", "spaghetti")
twonn_union = classical("twonn", "union")

danco_sphere_10 = classical("danco", "sphere-10")
danco_sphere_50 = classical("danco", "sphere-50")
danco_spaghetti = classical("danco", "spaghetti")
danco_union = classical("danco", "union")

fishers_sphere_10 = classical("fishers", "sphere-10")
fishers_sphere_50 = classical("fishers", "sphere-50")
fishers_spaghetti = classical("fishers", "spaghetti")
fishers_union = classical("fishers", "union")
