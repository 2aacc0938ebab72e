"""Sinusoids and hemispheres: the dimension that a trained flow finds, and what its code loses, beside PCA.

Each function of a claim takes a host, a profile and a seed, as in ``scorefold_pullback.claims``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from scorefold.interfaces import Flow
from scorefold.seeds import derive_seed
from scorefold_pullback.autoencoder import RiemannianAutoencoder
from scorefold_pullback.autoencoder_curve import pca_curve
from scorefold_pullback.claims_training import source, trained, variances_of
from scorefold_pullback.estimator_config import RiemannianAutoencoderConfig
from scorefold_pullback.spectrum import kept

SEEDS = 3
SHARES = (0.1, 0.05, 0.01)


@dataclass(frozen=True)
class Setting:
    """A set, and how a flow is trained on it."""

    data: str
    config: dict[str, Any]
    flow: dict[str, Any]


_STEPS = {"batch_size": 64, "learning_rate": 2e-3, "warmup": 200}
_SINUSOID_1 = {"dimension": 1, "ambient": 3, "points": 5000}
_HEMISPHERE_2 = {"dimension": 2, "ambient": 3, "points": 10_000}
_SINUSOID_2 = {"dimension": 2, "ambient": 3, "points": 10_000}

_EIGHT = {"map": {"name": "coupling", "layers": 8}}
"""As many layers as published, and else what flow:anisotropic has by default, weights of 1 and 1 among it."""

_PUBLISHED = {
    "map": {"name": "coupling", "layers": 8, "scale": "published", "activation": "relu"},
    "start": "none",
    "standardise": False,
    "volume": "absolute",
}
"""The published layers and penalties, with variances that learn ten times as fast as the map."""

SETTINGS = {
    "sinusoid-1-3": Setting("sinusoid", _SINUSOID_1, {**_EIGHT, "training": {"steps": 3000, **_STEPS}}),
    "hemisphere-2-3": Setting("hemisphere", _HEMISPHERE_2, {**_EIGHT, "training": {"steps": 3000, **_STEPS}}),
    "sinusoid-2-3": Setting("sinusoid", _SINUSOID_2, {**_EIGHT, "training": {"steps": 5000, **_STEPS}}),
    "sinusoid-1-3-published": Setting("sinusoid", _SINUSOID_1, {**_PUBLISHED, "training": {"steps": 3000, **_STEPS}}),
}


def dimension(host: Any, profile: str, seed: int, *, setting: str, share: float = 0.0, take: str = "largest") -> float:
    """d_eps at a share of the variance, or at all of 0.1, 0.05 and 0.01: the largest or smallest over trainings."""
    found = [kept(variances_of(flow), eps) for flow in _flows(host, seed, setting) for eps in _shares(share)]
    return float(max(found) if take == "largest" else min(found))


def loss_over_pca(host: Any, profile: str, seed: int, *, setting: str) -> float:
    """The mean squared error of a code of the true dimension over that of a PCA of the very test points: the largest
    over trainings."""
    return max(_loss_over_pca(host, setting, derive_seed(seed, "run", n)) for n in range(SEEDS))


@cache
def _loss_over_pca(host: Any, setting: str, seed: int) -> float:
    chosen = SETTINGS[setting]
    test = source(host, chosen.data, chosen.config, seed).load("test").x
    flow, rank = _flow(host, setting, seed), chosen.config["dimension"]
    return _lost(flow, test, rank) / pca_curve(test, [rank])[0]


def _flows(host: Any, seed: int, setting: str) -> list[Flow]:
    return [_flow(host, setting, derive_seed(seed, "run", n)) for n in range(SEEDS)]


def _flow(host: Any, setting: str, seed: int) -> Flow:
    chosen = SETTINGS[setting]
    return trained(host, chosen.data, chosen.config, "anisotropic", chosen.flow, seed)


def _shares(share: float) -> tuple[float, ...]:
    return (share,) if share else SHARES


@torch.no_grad()
def _lost(flow: Flow, x: Tensor, rank: int) -> float:
    """The mean squared distance, a coordinate, of points x (N, *E) from what codes of ``rank`` numbers give back."""
    code = RiemannianAutoencoder(RiemannianAutoencoderConfig(dimension=rank), flow=flow)
    return float(code.residuals(x).square().sum()) / x.numel()
