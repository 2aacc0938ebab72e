"""Middles of geodesics between digits, and between images of Fashion-MNIST at 28 pixels, next to straight lines; and
the loss of a flow's code, next to a PCA's.

Each function of a claim takes a host, a profile and a seed, and answers None where the data set is not installed.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold.interfaces import DataSource, Flow
from scorefold.seeds import derive_generator, derive_seed
from scorefold_pullback.autoencoder.estimator import RiemannianAutoencoder
from scorefold_pullback.claims.training import source, trained_pullback_flow, variances_of
from scorefold_pullback.config import PullbackConfig, RiemannianAutoencoderConfig
from scorefold_pullback.geometry.pullback import Pullback
from scorefold_pullback.tangent_pca import significant_components
from scorefold_toolkit.data.images import fashion_mnist
from scorefold_toolkit.metrics import sharpness
from scorefold_toolkit.training import fit

SEEDS, DIGIT_PAIRS = 3, 2000

DIGIT_FLOW: dict[str, Any] = {
    "map": {"name": "coupling", "layers": 8},
    "isometry_weight": 0.3,
    "volume_weight": 0,
    "training": {"steps": 1500, "learning_rate": 2e-3},
}


def digit_middles(host: Any, profile: str, seed: int, *, way: str) -> float:
    """The distance of middles between held-out digits from the nearest training digit; held-out digits have 1.

    ``way`` is ``geodesic``, ``straight``, or ``ratio``, the first over the second: each the largest over trainings.
    """
    return max(_digit_middles(host, derive_seed(seed, "run", n), way) for n in range(SEEDS))


@cache
def _digit_middles(host: Any, seed: int, way: str) -> float:
    data = source(host, "digits", {}, seed)
    if way == "ratio":
        return _digit_middles(host, seed, "geodesic") / _digit_middles(host, seed, "straight")
    test = data.load("test").x
    generator = derive_generator(seed, "pairs")
    first = torch.randint(len(test), (DIGIT_PAIRS,), generator=generator)
    second = (first + torch.randint(1, len(test), (DIGIT_PAIRS,), generator=generator)) % len(test)
    x, y = test[first], test[second]
    middle = (
        (x + y) / 2
        if way == "straight"
        else _digit_middle(trained_pullback_flow(host, "digits", {}, "anisotropic", DIGIT_FLOW, seed), x, y)
    )
    return _nearest_digit(middle, data) / _nearest_digit(test, data)


@torch.no_grad()
def _digit_middle(flow: Flow, x: Tensor, y: Tensor) -> Tensor:
    return Pullback(PullbackConfig(), flow=flow).geodesic(x, y, x.new_tensor([0.5]))[:, 0]


def _nearest_digit(x: Tensor, data: DataSource) -> float:
    """The mean distance of events from the nearest training event."""
    return float(torch.cdist(x.flatten(1), data.load("train").x.flatten(1)).amin(1).mean())


PAIRS, CODED = 500, 2000
"""Pairs of test images, and test images that are coded."""

FLOW: Mapping[str, Any] = {
    "map": {"name": "coupling", "layers": 6, "width": 192, "blocks": 1, "masks": "nested", "scale": "none"},
    "whiten": True,
    "code_weight": 100,
    "isometry_weight": 0,
    "volume_weight": 0,
    "start_points": 60_000,
    "noise": 0.02,
    "training": {"steps": 20_000, "batch_size": 64, "learning_rate": 2e-3, "validate_every": 5000},
}
"""Shifts of narrow coordinates by wide ones, trained for codes, with noise of five grey levels for the pixels that are
black in nearly all images. Volumes are kept, and the diagonal of the Jacobian along principal axes is 1."""


def fashion_middles(host: Any, profile: str, seed: int, *, way: str, pairs: str, measure: str) -> float | None:
    """Middles between test images over test images themselves.

    By ``distance``, that from the nearest training image, or ``sharp``, sharpness. ``way`` is ``geodesic``,
    ``straight``, or ``ratio``, the first over the second; ``pairs`` are of ``any`` two classes or of the ``same``.
    """
    if way == "ratio":
        ways = [
            fashion_middles(host, profile, seed, way=each, pairs=pairs, measure=measure)
            for each in ("geodesic", "straight")
        ]
        return None if ways[0] is None or ways[1] is None else ways[0] / ways[1]
    found = _middles(host, seed, way, pairs)
    return None if found is None else found[measure]


def code_loss(host: Any, profile: str, seed: int, *, method: str, rank: int) -> float | None:
    """The mean squared error a pixel of test images from ``rank`` numbers: by the ``flow``, a ``pca`` of the training
    images, or the ``ratio`` of the two."""
    source = _source(host)
    if source is None:
        return None
    if method == "ratio":
        parts = [code_loss(host, profile, seed, method=each, rank=rank) for each in ("flow", "pca")]
        return None if parts[0] is None or parts[1] is None else parts[0] / parts[1]
    test = source.load("test").tensor(CODED)
    return _flow_loss(_flow(host, source, seed), test, rank) if method == "flow" else _pca_loss(source, test, rank)


def fashion_dimension(host: Any, profile: str, seed: int, *, share: float) -> float | None:
    """d_eps: how many coordinates of the flow leave a share of the variance."""
    source = _source(host)
    return None if source is None else float(significant_components(variances_of(_flow(host, source, seed)), share))


@cache
def _source(host: Any) -> DataSource | None:
    return fashion_mnist(host)


@cache
def _flow(host: Any, source: DataSource, seed: int) -> Flow:
    flow = host.create("flow:anisotropic", dict(FLOW), generator=derive_generator(seed, "weights"), data=source)
    fit(flow, source.load("train"), flow.training_config, seed=seed, precision=host.precision)
    assert isinstance(flow, Flow)
    return flow


@cache
def _middles(host: Any, seed: int, way: str, pairs: str) -> Mapping[str, float] | None:
    source = _source(host)
    if source is None:
        return None
    train, test = source.load("train").tensor().flatten(1), source.load("test")
    x, y = _pairs(test, pairs, seed)
    middle = (x + y) / 2 if way == "straight" else _middle(_flow(host, source, seed), x, y)
    found = {
        "distance": _nearest(middle, train) / _nearest(x, train),
        "sharp": float(sharpness(middle.clamp(0, 1)).mean() / sharpness(x).mean()),
    }
    print(f"middles of {way} lines, {pairs} class: {found}", flush=True)
    return found


def _pairs(test: Dataset, pairs: str, seed: int) -> tuple[Tensor, Tensor]:
    """Pairs of test images (P, 1, 28, 28), P = PAIRS: of any classes, or of one each, all classes in turn."""
    generator = derive_generator(seed, "pairs", pairs)
    label = test.label
    assert label is not None
    if pairs == "any":
        chosen = torch.randperm(len(test), generator=generator)[: 2 * PAIRS].reshape(2, PAIRS)
    else:
        parts = []
        for number in range(10):
            rows = (label == number).nonzero()[:, 0]
            parts.append(rows[torch.randperm(len(rows), generator=generator)[: PAIRS // 5]].reshape(2, PAIRS // 10))
        chosen = torch.cat(parts, 1)
    return test.take(chosen[0]).x, test.take(chosen[1]).x


@torch.no_grad()
def _middle(flow: Flow, x: Tensor, y: Tensor) -> Tensor:
    return Pullback(PullbackConfig(), flow=flow).geodesic(x, y, torch.tensor([0.5], dtype=x.dtype, device=x.device))[
        :, 0
    ]


def _nearest(x: Tensor, train: Tensor) -> float:
    """The mean distance of images from the nearest of the rows (N, D)."""
    return float(torch.cdist(x.flatten(1), train).amin(1).mean())


@torch.no_grad()
def _flow_loss(flow: Flow, x: Tensor, rank: int) -> float:
    code = RiemannianAutoencoder(RiemannianAutoencoderConfig(dimension=rank), flow=flow)
    return float(code.residuals(x).square().sum()) / x.numel()


def _pca_loss(source: DataSource, x: Tensor, rank: int) -> float:
    """The error per pixel of x (N, 1, 28, 28) projected on the leading axes of the training images."""
    train = source.load("train").tensor().flatten(1).double()
    mean = train.mean(0)
    axes = torch.linalg.eigh(torch.cov(train.mT)).eigenvectors[:, -rank:]
    centred = x.flatten(1).double() - mean
    return float((centred - centred @ axes @ axes.mT).square().mean())
