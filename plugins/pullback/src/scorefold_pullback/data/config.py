"""Settings of the data sources. No torch here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from scorefold.config import Config
from scorefold_pullback.flows.config import BananaConfig, RiverConfig, SqueezedBananaConfig
from scorefold_toolkit.config.common import FRACTIONS, Ambient, Fractions, Isometry, Noise, Points, Seed, Tangents

Sampler = Annotated[
    Literal["exact", "paper"],
    Field(
        description="Draw from the distribution exactly, or as the published code does: by Langevin steps with a "
        "mistake in their acceptance ratio, so that the points lie too far off the curve"
    ),
]
Steps = Annotated[int, Field(ge=1, description="Langevin steps of the sampler 'paper', each from the origin on")]


class _Drawn(Config):
    """Number of points of a flow's distribution, and their sampling."""

    points: Points = 5000
    sampler: Sampler = "exact"
    chain_steps: Steps = 2000
    fractions: Fractions = FRACTIONS
    seed: Seed = None


class BananaDataConfig(_Drawn, BananaConfig):
    """Points of the single banana; 2,500 in the paper."""

    points: Points = 2500
    chain_steps: Steps = 1000


class SqueezedBananaDataConfig(_Drawn, SqueezedBananaConfig):
    """Points of the squeezed banana; 5,000 in the paper."""


class RiverDataConfig(_Drawn, RiverConfig):
    """Points of the river; 5,000 in the paper."""


class SinusoidConfig(Config):
    """x = (sin(beta_1 . z), ..., sin(beta_(N-K) . z), z) with z ~ N(0, 3 I_K), the sines with a little noise."""

    dimension: int = Field(1, ge=1, description="K, the dimension")
    ambient: Ambient = 3
    variance: float = Field(3.0, gt=0, description="Variance of each coordinate of z")
    noise_std: float = Field(1e-3, ge=0, description="Standard deviation of the noise on each sine; none on z")
    points: Points = 5000
    tangents: Tangents = False
    fractions: Fractions = FRACTIONS
    seed: Seed = None


class HemisphereConfig(Config):
    """A part of the unit K-sphere: the first angle Beta(5, 5) on [0, pi/2], the others uniform on [0, pi]."""

    dimension: int = Field(2, ge=1, description="K, the dimension of the sphere")
    ambient: Ambient = None
    isometry: Isometry = 0
    noise_std: Noise = 0.0
    points: Points = 10_000
    tangents: Tangents = False
    fractions: Fractions = FRACTIONS
    seed: Seed = None
