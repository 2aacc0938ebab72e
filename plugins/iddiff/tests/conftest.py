"""Exact scores of distributions with a known dimension, for all tests of this plugin."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from scorefold.config import ProcessConfig, VEConfig
from scorefold.data import EventScale
from scorefold.interfaces import DataSource, ScoreModel
from scorefold.interfaces.capabilities import KnowsDistribution
from scorefold_standard.config import AnalyticConfig
from scorefold_standard.scores import AnalyticScore
from scorefold_toolkit.distributions import Distribution, SphereDistribution

WIDE = VEConfig(sigma_min=1e-5, sigma_max=100.0)


class DistributionSource(DataSource, KnowsDistribution):
    def __init__(self, distribution: Distribution, event_shape: tuple[int, ...]) -> None:
        self.event_shape, self.event_scale, self._distribution = event_shape, EventScale(), distribution

    def distribution(self) -> Distribution:
        return self._distribution

    def load(self, split: str) -> object:  # type: ignore[override]
        raise AssertionError("an exact score reads the distribution, not the points")


def exact_score(
    distribution: Distribution,
    event_shape: tuple[int, ...],
    process: ProcessConfig = WIDE,
    dtype: torch.dtype = torch.float64,
) -> ScoreModel:
    return AnalyticScore(
        AnalyticConfig(process=process), data=DistributionSource(distribution, event_shape), dtype=dtype
    )


def frame(ambient: int, rank: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    columns: Tensor = torch.linalg.qr(torch.randn(ambient, rank, dtype=torch.float64, generator=generator)).Q
    return columns


def sphere(
    k: int, ambient: int = 100, radius: float = 1.0, points: int = 12, seed: int = 0
) -> tuple[SphereDistribution, Tensor]:
    """The distribution of a k-sphere around the origin and points on it."""
    distribution = SphereDistribution(torch.zeros(ambient, dtype=torch.float64), frame(ambient, k + 1, seed), radius)
    directions = torch.randn(points, k + 1, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + 1))
    return distribution, radius * torch.nn.functional.normalize(directions, dim=1) @ distribution.basis.T


@pytest.fixture
def make_score() -> Callable[..., ScoreModel]:
    return exact_score


@pytest.fixture
def make_sphere() -> Callable[..., tuple[SphereDistribution, Tensor]]:
    return sphere


@pytest.fixture
def make_frame() -> Callable[..., Tensor]:
    return frame
