"""Fashion-MNIST at 28 pixels by class: a bound by a U-Net's denoising loss, FLIPD, and the distances of neighbours.

Each function of a claim takes a host, a profile and a seed, and answers None where the data set is not installed.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import torch

from scorefold.data import Dataset
from scorefold.interfaces import DataSource, ScoreModel
from scorefold.results import Estimate
from scorefold.seeds import derive_generator
from scorefold_iddiff.claims.euclidean import trained_score
from scorefold_iddiff.claims.images import rank_correlation
from scorefold_iddiff.pointwise.support import LinearDenoiser
from scorefold_toolkit.data.published import fashion_mnist

SIGMA = 0.08
"""A twelfth of the pixel range, about a quarter of the images' deviation."""

TROUSER = 1
IMAGES = {"loss": 100, "flipd": 24}
"""Test images of each class at which the score is read; neighbours are those of all 1,000."""

SCORE: Mapping[str, Any] = {
    "noise_levels": {"name": "mixture", "low": 0.02, "high": 3},
    "network": {"use": "network:unet", "config": {"channels": [16, 32, 32]}},
    "training": {"steps": 1000, "batch_size": 64, "learning_rate": 2e-3},
}
READINGS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "loss": ("denoising-loss", {"sigma": SIGMA, "sweep": [], "draws": 8, "shown": 1}),
    "flipd": ("flipd", {"sigma": SIGMA, "sweep": [], "trace": "hutchinson", "probes": 8, "shown": 1}),
}


def by_class(host: Any, profile: str, seed: int, *, method: str, label: int) -> float | None:
    """The mean over test images of a class: of ``loss``, ``flipd``, ``mle`` or ``twonn``."""
    found = _classes(host, seed, method)
    return None if found is None else found[label]


def below_others(host: Any, profile: str, seed: int, *, method: str) -> float | None:
    """Ratio of a method's value for trousers to its smallest value for another class."""
    found = _classes(host, seed, method)
    if found is None:
        return None
    return found[TROUSER] / min(value for label, value in enumerate(found) if label != TROUSER)


def agreement(host: Any, profile: str, seed: int, *, method: str, other: str) -> float | None:
    """Spearman's correlation of the ten classes by two methods."""
    one, two = _classes(host, seed, method), _classes(host, seed, other)
    return None if one is None or two is None else rank_correlation(one, two)


def loss_over_linear(host: Any, profile: str, seed: int) -> float | None:
    """The mean denoising loss of test images over the best linear denoiser's at the same ones (means over classes)."""
    source, found = _source(host), _classes(host, seed, "loss")
    if source is None or found is None:
        return None
    rows, test = source.load("train").tensor().flatten(1), source.load("test")
    points = torch.cat([_of_class(test, label, IMAGES["loss"]).x for label in range(10)])
    return sum(found) / len(found) / float(LinearDenoiser(rows, points).errors(SIGMA).mean())


@cache
def _source(host: Any) -> DataSource | None:
    return fashion_mnist(host)


@cache
def _score(host: Any, source: DataSource, seed: int) -> ScoreModel:
    return trained_score(host, source, SCORE, seed)


@cache
def _classes(host: Any, seed: int, method: str) -> tuple[float, ...] | None:
    source = _source(host)
    if source is None:
        return None
    test, generator = source.load("test"), derive_generator(seed, method)
    if method in READINGS:
        name, config = READINGS[method]
        config, ports = {**config, "points": IMAGES[method]}, {"score": _score(host, source, seed)}
    else:
        name, config, ports = method, {"resamples": 0}, {}
    estimator = host.create(f"estimator:{name}", config, **ports)
    classes = [_of_class(test, label, IMAGES.get(method)) for label in range(10)]
    means = tuple(_mean(estimator.estimate(images, generator=generator)) for images in classes)
    print(f"Fashion-MNIST by {method}: " + ", ".join(f"{mean:.1f}" for mean in means), flush=True)
    return means


def _mean(found: Estimate) -> float:
    """The value, or the mean over points of one that is withheld: FLIPD's are below 0 here, which the table shows."""
    if found.value is None and found.pointwise is not None:
        return float(found.pointwise.mean())
    return found.number()


def _of_class(data: Dataset, label: int, count: int | None) -> Dataset:
    """The first ``count`` images of a class, or all."""
    assert data.label is not None
    return data.take((data.label == label).nonzero()[:count, 0])
