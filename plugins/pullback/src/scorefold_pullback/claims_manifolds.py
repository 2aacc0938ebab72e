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
from scorefold_pullback.claims_training import source, trained, variances_of
from scorefold_pullback.spectrum import kept

SEEDS = 3
SHARES = (0.1, 0.05, 0.01)


@dataclass(frozen=True)
class Setting:
    """A set, and how a flow is trained on it."""

    data: str
    config: dict[str, Any]
    flow: dict[str, Any]


def _published(layers: int, steps: int) -> dict[str, Any]:
    """The published flow, with its weights of 1 and 1, and variances that learn ten times as fast."""
    return {
        "map": {"name": "coupling", "layers": layers, "scale": "published", "activation": "relu"},
        "start": "none",
        "standardise": False,
        "volume": "absolute",
        "training": {
            "steps": steps,
            "batch_size": 64,
            "learning_rate": 2e-3,
            "warmup": 250,
            "weight_decay": 1e-5,
        },
    }


SETTINGS = {
    "sinusoid-1-3": Setting("sinusoid", {"dimension": 1, "ambient": 3, "points": 5000}, _published(8, 3000)),
    "hemisphere-2-3": Setting("hemisphere", {"dimension": 2, "ambient": 3, "points": 10_000}, _published(8, 3000)),
    "sinusoid-2-3": Setting("sinusoid", {"dimension": 2, "ambient": 3, "points": 10_000}, _published(8, 5000)),
}


def dimension(host: Any, profile: str, seed: int, *, setting: str, share: float = 0.0, take: str = "largest") -> float:
    """d_eps at a share of the variance, or at all of 0.1, 0.05 and 0.01: the largest or smallest over trainings."""
    found = [kept(variances_of(flow), eps) for flow in _flows(host, seed, setting) for eps in _shares(share)]
    return float(max(found) if take == "largest" else min(found))


def loss_over_pca(host: Any, profile: str, seed: int, *, setting: str) -> float:
    """The mean squared error of a code of the true dimension over that of a PCA: the largest over trainings."""
    return max(_loss_over_pca(host, setting, derive_seed(seed, "run", n)) for n in range(SEEDS))


@cache
def _loss_over_pca(host: Any, setting: str, seed: int) -> float:
    chosen = SETTINGS[setting]
    points = source(host, chosen.data, chosen.config, seed)
    train, test = points.load("train").x, points.load("test").x
    flow, rank = _flow(host, setting, seed), chosen.config["dimension"]
    return _lost(flow, test, rank) / _lost_by_pca(train, test, rank)


def _flows(host: Any, seed: int, setting: str) -> list[Flow]:
    return [_flow(host, setting, derive_seed(seed, "run", n)) for n in range(SEEDS)]


def _flow(host: Any, setting: str, seed: int) -> Flow:
    chosen = SETTINGS[setting]
    return trained(host, chosen.data, chosen.config, "anisotropic", chosen.flow, seed)


def _shares(share: float) -> tuple[float, ...]:
    return (share,) if share else SHARES


@torch.no_grad()
def _lost(flow: Flow, x: Tensor, rank: int) -> float:
    """The mean squared distance, a coordinate, of points x (N, D) from their codes by the widest coordinates."""
    widest = variances_of(flow).argsort(descending=True)[:rank]
    z = flow(x)[0]
    code = torch.zeros_like(z).index_copy(1, widest, z[:, widest])
    return float((flow.inverse(code)[0] - x).square().mean())


def _lost_by_pca(train: Tensor, test: Tensor, rank: int) -> float:
    middle = train.mean(0)
    axes = torch.linalg.svd(train - middle, full_matrices=False).Vh[:rank]
    centred = test - middle
    return float((centred @ axes.mT @ axes - centred).square().mean())
