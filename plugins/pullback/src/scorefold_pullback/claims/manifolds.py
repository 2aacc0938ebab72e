"""Sinusoids and hemispheres: the dimension that a trained flow finds, and what its code loses, beside PCA.

Each function of a claim takes a host, a profile and a seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from scorefold.interfaces import Flow
from scorefold.seeds import derive_seed
from scorefold_pullback.autoencoder.estimator import RiemannianAutoencoder
from scorefold_pullback.autoencoder.latent_axes import pca_curve
from scorefold_pullback.claims.training import source, trained_pullback_flow, variances_of
from scorefold_pullback.config import RiemannianAutoencoderConfig
from scorefold_pullback.tangent_pca import significant_components

SEEDS = 3
SHARES = (0.1, 0.05, 0.01)


@dataclass(frozen=True)
class ManifoldSetting:
    """A set, and how a flow is trained on it."""

    data: str
    config: dict[str, Any]
    flow: dict[str, Any]


def _set(data: str, dimension: int, ambient: int, points: int) -> tuple[str, dict[str, Any]]:
    return data, {"dimension": dimension, "ambient": ambient, "points": points}


_SINUSOID_1, _SINUSOID_2 = _set("sinusoid", 1, 3, 5000), _set("sinusoid", 2, 3, 10_000)
_HEMISPHERE_2 = _set("hemisphere", 2, 3, 10_000)
_SINUSOID_5, _HEMISPHERE_5 = _set("sinusoid", 5, 20, 50_000), _set("hemisphere", 5, 20, 50_000)
_HEMISPHERE_3, _HEMISPHERE_10 = _set("hemisphere", 3, 5, 10_000), _set("hemisphere", 10, 100, 50_000)
_SINUSOIDS_100 = {k: _set("sinusoid", k, 100, 50_000) for k in (1, 5, 10)}
_SPIRAL: tuple[str, dict[str, Any]] = ("spiral", {"dimension": 1, "points": 15_000})


def _ours(steps: int, batch: int = 64, **config: Any) -> dict[str, Any]:
    """The defaults of flow:anisotropic, with eight layers as published."""
    training = {"steps": steps, "batch_size": batch, "learning_rate": 2e-3, "warmup": 200}
    return {"training": training, **config}


def _layers(count: int) -> dict[str, Any]:
    """The published layers, start and penalties."""
    layers = {"name": "coupling", "layers": count, "scale": "published", "activation": "relu", "masks": "alternate"}
    return {"map": layers, "start": "none", "standardise": False, "volume": "absolute", "isometry_weight": 1}


def _published(
    layers: int, rate: float, epochs: int, epoch: int, *, patience: int = 200, batch: int = 64, **config: Any
) -> dict[str, Any]:
    """The published configurations, for ``epochs`` of ``epoch`` steps, ``patience`` of them without a better loss."""
    training = {
        "steps": epochs * epoch,
        "batch_size": batch,
        "learning_rate": rate,
        "betas": (0.9, 0.99),
        "warmup": 1000,
        "weight_decay": 1e-5,
        "validate_every": epoch,
        "patience": patience,
    }
    return {**_layers(layers), "variance_speed": 1.0, "training": training, **config}


_LENGTHS: dict[str, Any] = {"isometry": "length", "isometry_weight": 5, "volume_weight": 1}

_STEEP: dict[str, Any] = {
    "map": {"name": "coupling", "layers": 8, "width": 128},
    "isometry": "sliced",
    "directions": 2,
    "isometry_weight": 0.02,
    "volume_weight": 0.1,
}
"""For sines of many turns, at which the true map is far from an isometry."""

QUICK = {
    "sinusoid-1-3": ManifoldSetting(*_SINUSOID_1, _ours(3000)),
    "hemisphere-2-3": ManifoldSetting(*_HEMISPHERE_2, _ours(3000)),
    "sinusoid-2-3": ManifoldSetting(*_SINUSOID_2, _ours(5000)),
    "sinusoid-1-3-published": ManifoldSetting(*_SINUSOID_1, {**_ours(3000), **_layers(8)}),
    "hemisphere-5-20": ManifoldSetting(*_HEMISPHERE_5, _ours(1500, batch=128, isometry_weight=0.75, volume_weight=1.2)),
    "sinusoid-5-20": ManifoldSetting(*_SINUSOID_5, _ours(5000, batch=128, **_STEEP)),
    "hemisphere-3-5": ManifoldSetting(*_HEMISPHERE_3, _ours(3000)),
    "hemisphere-10-100": ManifoldSetting(*_HEMISPHERE_10, _ours(1000, batch=128, isometry_weight=2, volume_weight=2)),
    **{
        f"sinusoid-{k}-100": ManifoldSetting(*which, _ours(1000, batch=128, **_STEEP))
        for k, which in _SINUSOIDS_100.items()
    },
    "spiral": ManifoldSetting(*_SPIRAL, _ours(3000)),
}

FULL = {
    "sinusoid-1-3": ManifoldSetting(*_SINUSOID_1, _published(8, 3e-4, 1000, 63, patience=50, **_LENGTHS)),
    "hemisphere-2-3": ManifoldSetting(*_HEMISPHERE_2, _published(8, 4e-4, 2000, 125)),
    "sinusoid-2-3": ManifoldSetting(*_SINUSOID_2, _published(8, 3e-4, 1000, 125, patience=50, **_LENGTHS)),
    "sinusoid-1-3-published": QUICK["sinusoid-1-3-published"],
    "hemisphere-5-20": ManifoldSetting(
        *_HEMISPHERE_5, _published(12, 4e-4, 2000, 625, isometry_weight=0.75, volume_weight=1.2)
    ),
    "sinusoid-5-20": ManifoldSetting(
        *_SINUSOID_5, _published(24, 4e-4, 2000, 313, batch=128, isometry_weight=1.2, volume_weight=2.5)
    ),
    "hemisphere-3-5": ManifoldSetting(
        *_HEMISPHERE_3, _published(10, 4e-4, 2000, 125, isometry_weight=0.5, volume_weight=0.1)
    ),
    "hemisphere-10-100": ManifoldSetting(
        *_HEMISPHERE_10, _published(24, 4e-4, 2000, 313, batch=128, isometry_weight=2, volume_weight=2)
    ),
    "sinusoid-1-100": ManifoldSetting(
        *_SINUSOIDS_100[1], _published(16, 3e-4, 2000, 625, isometry_weight=2, volume_weight=1)
    ),
    "sinusoid-5-100": ManifoldSetting(
        *_SINUSOIDS_100[5], _published(16, 3e-4, 2000, 625, isometry_weight=2.5, volume_weight=2.5)
    ),
    "sinusoid-10-100": ManifoldSetting(
        *_SINUSOIDS_100[10], _published(16, 3e-4, 2000, 625, isometry_weight=2, volume_weight=1)
    ),
    "spiral": ManifoldSetting(*_SPIRAL, _published(16, 3e-4, 2000, 188, isometry_weight=0.2, volume_weight=0)),
}


def effective_dimension(host: Any, profile: str, seed: int, *, setting: str, truth: int, share: float = 0.0) -> float:
    """The d_eps of all trainings that is farthest from the truth.

    It is taken at a share of the variance, or at all of 0.1, 0.05 and 0.01.
    """
    flows = [_flow(host, profile, setting, run) for run in _runs(setting, seed)]
    found = [significant_components(variances_of(flow), eps) for flow in flows for eps in _shares(share)]
    return float(max(found, key=lambda number: abs(number - truth)))


def loss_over_pca(host: Any, profile: str, seed: int, *, setting: str) -> float:
    """The mean squared error of a code of the true dimension, divided by the error of a PCA of the test points: the
    largest over trainings."""
    return max(_loss_over_pca(host, profile, setting, run) for run in _runs(setting, seed))


def error_over_bound(host: Any, profile: str, seed: int, *, setting: str, bound: str) -> float:
    """The mean squared error of a code of the true dimension over its bound: the largest over trainings.

    ``bound`` is ``theorem``, the paper's bound, or ``corollary``, the bound for points of the flow's own distribution.
    Where the theorem's bound is no finite number the ratio is 0.
    """
    found = []
    for run in _runs(setting, seed):
        chosen = _setting(profile, setting)
        flow, test = _flow(host, profile, setting, run), source(host, chosen.data, chosen.config, run).load("test")
        code = RiemannianAutoencoder(RiemannianAutoencoderConfig(dimension=chosen.config["dimension"]), flow=flow)
        numbers = code.estimate(test).diagnostics
        limit = numbers["bound"][bound]
        found.append(0.0 if limit is None else numbers["mean_squared_error"] / limit)
    return max(found)


@cache
def _loss_over_pca(host: Any, profile: str, setting: str, seed: int) -> float:
    chosen = _setting(profile, setting)
    test = source(host, chosen.data, chosen.config, seed).load("test").x
    flow, rank = _flow(host, profile, setting, seed), chosen.config["dimension"]
    return _lost(flow, test, rank) / pca_curve(test, [rank])[0]


def _runs(setting: str, seed: int) -> list[int]:
    """The seeds of the trainings; the largest sets are trained on once."""
    return [derive_seed(seed, "run", n) for n in range(1 if setting.endswith(("-20", "-100")) else SEEDS)]


def _setting(profile: str, name: str) -> ManifoldSetting:
    return (FULL if profile == "full" else QUICK)[name]


def _flow(host: Any, profile: str, setting: str, seed: int) -> Flow:
    chosen = _setting(profile, setting)
    return trained_pullback_flow(host, chosen.data, chosen.config, "anisotropic", chosen.flow, seed)


def _shares(share: float) -> tuple[float, ...]:
    return (share,) if share else SHARES


@torch.no_grad()
def _lost(flow: Flow, x: Tensor, rank: int) -> float:
    """The mean squared distance, a coordinate, of points x (N, *E) from what codes of ``rank`` numbers give back."""
    code = RiemannianAutoencoder(RiemannianAutoencoderConfig(dimension=rank), flow=flow)
    return float(code.residuals(x).square().sum()) / x.numel()
