"""The normal-bundle estimator by its settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold.interfaces import ScoreModel
from scorefold.results import Estimate
from scorefold_iddiff.config import NormalBundleConfig
from scorefold_iddiff.normal_bundle.estimator import NormalBundle
from scorefold_toolkit.distributions import SphereDistribution

MakeScore = Callable[..., ScoreModel]

MakeSphere = Callable[..., tuple[SphereDistribution, Tensor]]

MakeFrame = Callable[..., Tensor]


def estimate(
    score: ScoreModel, x: Tensor | Dataset, generator: torch.Generator | None = None, **config: Any
) -> Estimate:
    settings = {"sigma": None, "sweep": (), **config}
    return NormalBundle(NormalBundleConfig.model_validate(settings), score=score).estimate(x, generator=generator)


def curve(found: Estimate) -> dict[float, float]:
    return {round(row["sigma"], 6): row["value"] for row in found.diagnostics["curve"]}
