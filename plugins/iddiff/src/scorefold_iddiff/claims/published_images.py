"""The paper's images in its own setting: its sizes, its U-Net as far as ``network:unet`` goes, its training and rule.

GPU-days of work, for the profile ``full`` alone. Training ends at the published cap of 2,500,000 steps, since the
paper does not say which earlier step it took. For MNIST it ends at epoch 722, as in the published checkpoint. The
published table holds the largest dimension over points.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scorefold.interfaces import DataSource
from scorefold.seeds import derive_generator
from scorefold_iddiff.claims.euclidean import trained_score
from scorefold_iddiff.claims.images import PUBLISHED_DIGITS, rank_correlation


@dataclass(frozen=True)
class PublishedSetting:
    """One row of the table: its data, noise, network and training, and the points and noises of its estimate."""

    source: str
    data: Mapping[str, Any]
    points: int
    sigma_min: float = 0.01
    channels: tuple[int, ...] = (128, 256, 256, 256)
    batch_size: int = 128
    ema: float = 0.999
    noises: int = 4480
    steps: int = 2_500_000

    def score(self) -> dict[str, Any]:
        """The configuration of score:denoising: a U-Net of four blocks a level that attends at 16 pixels."""
        unet = {"channels": self.channels, "blocks": 4, "attention": [1], "groups": 32, "dropout": 0.1}
        return {
            "process": {"name": "ve", "sigma_min": self.sigma_min, "sigma_max": 50.0},
            "prediction": "eps",
            "weighting": "simple",
            "network": {"use": "network:unet", "config": unet},
            "training": {
                "steps": self.steps,
                "batch_size": self.batch_size,
                "learning_rate": 2e-4,
                "warmup": 5000,
                "schedule": "constant",
                "ema": self.ema,
            },
        }

    def estimator(self) -> dict[str, Any]:
        """The configuration of estimator:iddiff: the published rule at the least noise."""
        return {
            "rule": "reference",
            "sigma": self.sigma_min,
            "sweep": [],
            "noises": self.noises,
            "points": self.points,
            "shown": 1,
            "resamples": 0,
            "aggregate": "max",
        }


def _squares(count: int) -> PublishedSetting:
    data = {"squares": count, "points": 500_000, "fractions": (0.8, 0.1, 0.1)}
    return _larger_for_100(count, PublishedSetting("data:squares", data, points=20))


def _blobs(count: int, images: int, ema: float = 0.999) -> PublishedSetting:
    data = {"blobs": count, "points": images, "fractions": (0.8, 0.1, 0.1)}
    return _larger_for_100(count, PublishedSetting("data:blobs", data, points=50, ema=ema))


def _larger_for_100(count: int, setting: PublishedSetting) -> PublishedSetting:
    return replace(setting, batch_size=256, noises=4864) if count == 100 else setting


SETTINGS: Mapping[str, PublishedSetting] = {
    "squares-10": _squares(10),
    "squares-20": _squares(20),
    "squares-100": _squares(100),
    "blobs-10": _blobs(10, 5000),
    "blobs-20": _blobs(20, 50_000),
    "blobs-100": _blobs(100, 50_000, ema=0.9999),
    "mnist": PublishedSetting(
        "data:mnist",
        {"root": "data", "pad": 2, "validation": 0.2},
        points=1000,
        sigma_min=0.009,
        channels=(128, 256, 256, 512),
        batch_size=64,
        noises=4288,
        steps=542_250,
    ),
}
"""By row. MNIST is looked for in the folder ``data`` where the command runs."""


@lru_cache(maxsize=4)
def dimensions(host: Any, name: str, seed: int) -> tuple[Tensor, Tensor] | None:
    """The dimension at training images, as published, and their labels or zeros; None where there are no data."""
    setting = SETTINGS[name]
    if "root" in setting.data and not Path(setting.data["root"]).is_dir():
        return None
    data: DataSource = host.create(setting.source, setting.data, generator=derive_generator(seed, name))
    score = trained_score(host, data, setting.score(), seed)
    train = data.load("train")
    found = host.create("estimator:iddiff", setting.estimator(), score=score).estimate(
        train, generator=derive_generator(seed, "noise")
    )
    assert found.pointwise is not None
    index = found.diagnostics["index"]
    return found.pointwise, torch.zeros(len(index)) if train.label is None else train.label[index]


def largest(host: Any, profile: str, seed: int, *, name: str) -> float | None:
    """The largest dimension over points, which is what the published table holds."""
    found = dimensions(host, name, seed)
    return None if found is None else float(found[0].max())


def mnist_order(host: Any, profile: str, seed: int) -> float | None:
    """Spearman's correlation of the largest dimension of each digit with the published ones."""
    found = dimensions(host, "mnist", seed)
    if found is None:
        return None
    k, label = found
    return rank_correlation([float(k[label == digit].max()) for digit in range(10)], PUBLISHED_DIGITS)
