"""Images at sizes that one core manages: squares, blobs, digits and Fashion-MNIST, and the classical estimators on
them.

Each function of a claim takes a host, a profile and a seed. Settings were chosen on seed 0 (digits: seeds 0 to 2),
before the other seeds were measured. Functions about Fashion-MNIST answer None where the data set is absent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple

import torch
from scipy.stats import spearmanr
from torch import Tensor

from scorefold.data import Dataset
from scorefold.diffusion.divergence import forward_rules
from scorefold.interfaces import DataSource, ScoreModel
from scorefold.results import Estimate
from scorefold.seeds import derive_generator
from scorefold_iddiff.claims.euclidean import trained_score
from scorefold_iddiff.data.config import BlobsConfig
from scorefold_iddiff.data.drawn import blob_image
from scorefold_iddiff.pointwise.support import LinearDenoiser
from scorefold_toolkit.data.images import fashion_mnist
from scorefold_toolkit.data.manifolds import uniform

SQUARES: Mapping[str, dict[str, Any]] = {
    "squares-10": {"squares": 10, "distinct": True},
    "squares-20": {"squares": 20, "distinct": True},
    "squares-100": {"squares": 100, "distinct": True},
    "squares-published": {"squares": 100},
    "small-squares": {"squares": 10, "distinct": True, "size": 16},
}
BLOBS = {"blobs": 5, "size": 16}
DIGITS = {"flatten": True, "fractions": (0.6, 0.1, 0.3)}

PUBLISHED_DIGITS = (113, 66, 131, 120, 107, 129, 126, 100, 148, 152)
"""The published dimensions of MNIST's digits 0 to 9 at 32 pixels."""

BLOB_SIGMA = 0.05
"""Half of what a deviation of the widths moves an image of blobs at the least."""

DIGIT_SIGMA = 0.1
"""Above the half of a grey level, 1/32, below which images are points of a grid."""

_UNET = {"weighting": "simple", "network": {"use": "network:unet", "config": {"channels": [16, 32, 64]}}}
_BLOB_PROCESS = {"name": "ve", "sigma_min": 0.03, "sigma_max": 0.6}


class Trained(NamedTuple):
    """A network trained on images: ``drawn`` images, the noise level and the true dimension that it is read at, and
    how many new images are read."""

    drawn: int
    sigma: float
    truth: int
    points: int
    score: Mapping[str, Any]
    training: Mapping[str, dict[str, Any]]


TRAINED: Mapping[tuple[str, str], Trained] = {
    ("blobs", "unet"): Trained(
        50_000,
        BLOB_SIGMA,
        BLOBS["blobs"],
        24,
        {**_UNET, "process": _BLOB_PROCESS},
        {
            "quick": {"steps": 5500, "batch_size": 32, "learning_rate": 2e-3},
            "long": {"steps": 100_000, "batch_size": 64, "learning_rate": 1e-3},
        },
    ),
    ("blobs", "manifold-mlp"): Trained(
        50_000,
        BLOB_SIGMA,
        BLOBS["blobs"],
        100,
        {
            "process": _BLOB_PROCESS,
            "weighting": "simple",
            "prediction": "eps",
            "network": {"use": "network:manifold-mlp"},
        },
        {
            "quick": {"steps": 5000, "batch_size": 256, "learning_rate": 1e-3},
            "long": {"steps": 50_000, "batch_size": 256, "learning_rate": 1e-3},
        },
    ),
    ("small-squares", "unet"): Trained(
        12_000,
        0.1,
        10,
        100,
        {**_UNET, "process": {"name": "ve", "sigma_min": 0.02, "sigma_max": 1.0}},
        {
            "quick": {"steps": 3000, "batch_size": 32, "learning_rate": 2e-3},
            "long": {"steps": 100_000, "batch_size": 64, "learning_rate": 1e-3},
        },
    ),
}
DIGIT_SCORE = {
    "process": {"name": "ve", "sigma_min": 0.03, "sigma_max": 3.0},
    "weighting": "simple",
    "network": {"use": "network:mlp", "config": {"width": 256}},
    "training": {"steps": 4000, "batch_size": 128, "learning_rate": 2e-3},
}


def squares_dimension(host: Any, profile: str, seed: int, *, name: str) -> float:
    """The estimate farthest from the true dimension with the score of 5,000 images' covariance: at points, with the
    range finder at the noise level that it chooses and by the reference rule at sigma 0.01."""
    points = {"smoke": 4, "quick": 20, "long": 100}[profile]
    data = image_source(host, name, 6000, seed)
    score = host.create("score:analytic", {"gaussian": True}, data=data)
    reference = {"rule": "reference", "design": "simplex", "sigma": 0.01, "sweep": [], "points": points}
    found = torch.cat(
        [
            dimensions_at(host, score, data.load("test"), settings, seed)
            for settings in ({"design": "range-finder", "points": points}, reference)
        ]
    )
    truth = data.load("test").truth["dimension"]
    return float(found[(found - truth).abs().argmax()])


def blobs_rank(host: Any, profile: str, seed: int) -> float:
    """The least number of directions, over 1,000 images, in which a deviation of the widths moves the image by more
    than BLOB_SIGMA: singular values of the derivative of the image by its widths."""
    config = BlobsConfig.model_validate(BLOBS)
    low, high = config.widths
    width = low + (high - low) * uniform((1000, config.blobs), seed, "widths")
    forward_rules()
    derivative = torch.func.vmap(torch.func.jacfwd(blob_image(config)))(width)
    moved = torch.linalg.svdvals(derivative) * (high - low) / math.sqrt(12)
    return float((moved > BLOB_SIGMA).sum(1).min())


@lru_cache(maxsize=16)
def trained_dimensions(host: Any, name: str, network: str, profile: str, seed: int) -> Mapping[str, Tensor]:
    """The dimensions at new images at a level of noise, for each rule, by a network trained on images of the set."""
    given = TRAINED[name, network]
    data = image_source(host, name, given.drawn, seed)
    score = trained_score(host, data, {**given.score, "training": given.training[profile]}, seed)
    points = given.points if profile == "quick" else 1000
    common = {"sigma": given.sigma, "sweep": [], "design": "simplex", "points": points, "shown": 1}
    return {
        rule: dimensions_at(host, score, data.load("test"), {"rule": rule, **common}, seed)
        for rule in ("projector", "reference")
    }


def trained_mode(host: Any, profile: str, seed: int, *, name: str, network: str, rule: str) -> float:
    """The dimension that most new images have by a trained network."""
    found = trained_dimensions(host, name, network, profile, seed)[rule]
    print(f"{name} by {network} and rule {rule}: {found.int().tolist()}", flush=True)
    return float(found.mode().values)


def trained_share(host: Any, profile: str, seed: int, *, name: str, network: str, rule: str) -> float:
    """The share of new images whose dimension by a trained network is the true one."""
    found = trained_dimensions(host, name, network, profile, seed)[rule]
    return float((found == TRAINED[name, network].truth).double().mean())


@lru_cache(maxsize=16)
def digit_dimensions(host: Any, profile: str, seed: int) -> tuple[float, ...]:
    """The mean dimension of the digits 0 to 9 over images that one score of all of them has not seen."""
    data: DataSource = host.create("data:digits", DIGITS, generator=derive_generator(seed, "digits"))
    score = trained_score(host, data, DIGIT_SCORE, seed)
    test = data.load("test")
    settings = {"sigma": DIGIT_SIGMA, "sweep": [], "points": len(test), "shown": 1, "resamples": 0}
    found = host.create("estimator:iddiff", settings, score=score).estimate(
        test, generator=derive_generator(seed, "noise")
    )
    assert test.label is not None
    assert found.pointwise is not None
    label = test.label[found.diagnostics["index"]]
    means = tuple(float(found.pointwise[label == digit].mean()) for digit in range(10))
    print("digits 0 to 9: " + ", ".join(f"{mean:.1f}" for mean in means), flush=True)
    return means


def digits_one_below(host: Any, profile: str, seed: int) -> float:
    """The gap between the dimension of digit 1 and the lower one of 8 and 9."""
    means = digit_dimensions(host, profile, seed)
    return min(means[8], means[9]) - means[1]


def digits_rank_of_one(host: Any, profile: str, seed: int) -> float:
    """The place of digit 1 among the ten, from 1 for the lowest."""
    means = digit_dimensions(host, profile, seed)
    return float(sum(mean <= means[1] for mean in means))


def digits_order(host: Any, profile: str, seed: int) -> float:
    """Spearman's correlation of the digits' dimensions with the published ones."""
    return rank_correlation(digit_dimensions(host, profile, seed), PUBLISHED_DIGITS)


CLASSICAL: Mapping[str, tuple[str, dict[str, Any]]] = {
    "mle-5": ("mle", {"n_neighbors": 5, "resamples": 0}),
    "mle-20": ("mle", {"n_neighbors": 20, "resamples": 0}),
    "lpca": ("lpca", {"resamples": 0}),
    "ppca": ("ppca", {"resamples": 0}),
    "twonn": ("twonn", {"resamples": 0}),
    "danco": ("danco", {"resamples": 0}),
    "fishers": ("fishers", {"resamples": 0}),
}


def classical_for_images(host: Any, profile: str, seed: int, *, method: str, name: str) -> float:
    """Value of a classical estimator for 2,000 images (long: 20,000)."""
    images = image_source(host, name, {"quick": 2400, "long": 24_000}[profile], seed).load("train")
    return _classical_dimension(host, method, images.x, seed)


def classical_order(host: Any, profile: str, seed: int, *, method: str) -> float:
    """Spearman's correlation of what a classical estimator says of the digits with the published order."""
    data: DataSource = host.create("data:digits", {"flatten": True, "fractions": (0.98, 0.01, 0.01)})
    train = data.load("train")
    found = [_classical_dimension(host, method, train.x[train.label == digit], seed) for digit in range(10)]
    print(f"digits 0 to 9 by {method}: " + ", ".join(f"{value:.1f}" for value in found), flush=True)
    return rank_correlation(found, PUBLISHED_DIGITS)


def _classical_dimension(host: Any, method: str, images: Tensor, seed: int) -> float:
    component, settings = CLASSICAL[method]
    estimator = host.create(f"estimator:{component}", settings)
    return float(estimator.estimate(images, generator=derive_generator(seed, method)).number())


def image_source(host: Any, name: str, points: int, seed: int) -> DataSource:
    """Squares or blobs, five sixths of them for training."""
    component, config = ("data:blobs", BLOBS) if name == "blobs" else ("data:squares", SQUARES[name])
    drawn = derive_generator(seed, name)
    settings = {**config, "points": points, "fractions": (5 / 6, 1 / 12, 1 / 12)}
    made: DataSource = host.create(component, settings, generator=drawn)
    return made


def dimensions_at(host: Any, score: ScoreModel, data: Dataset, settings: Mapping[str, Any], seed: int) -> Tensor:
    """k (n,) at points drawn from the data."""
    estimator = host.create("estimator:iddiff", {**settings, "resamples": 0}, score=score)
    found: Tensor = estimator.estimate(data, generator=derive_generator(seed, "noise")).pointwise
    return found


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Spearman's."""
    return float(spearmanr(one, other).statistic)


SIGMA = 0.08
"""A twelfth of the pixel range, about a quarter of the images' deviation."""

TROUSER = 1
IMAGES = {"loss": 100, "flipd": 24}
"""Test images of each class at which the score is read. Neighbours are searched among all 1,000."""

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
