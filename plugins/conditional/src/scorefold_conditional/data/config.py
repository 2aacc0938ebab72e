"""Settings of the data sources. No torch here."""

from __future__ import annotations

from pydantic import Field

from scorefold.config import Config
from scorefold_toolkit.config.common import FRACTIONS, Fractions, Points, Seed


class PosteriorConfig(Config):
    """Points in the plane from Gaussians on a circle, with a noisy first coordinate as the condition."""

    modes: int = Field(8, ge=1, description="Gaussians, evenly on the circle from angle 0 on")
    radius: float = Field(2.0, gt=0, description="Radius of the circle")
    std: float = Field(0.2, gt=0, description="Standard deviation of each Gaussian, in every direction")
    noise_std: float = Field(0.3, gt=0, description="Standard deviation of the noise on the first coordinate")
    points: Points = 20_000
    fractions: Fractions = FRACTIONS
    seed: Seed = None
