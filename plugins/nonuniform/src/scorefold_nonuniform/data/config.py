"""Settings of the data source. No torch here."""

from __future__ import annotations

from pydantic import Field

from scorefold.config import Config
from scorefold_toolkit.config.common import FRACTIONS, Fractions, Points, Seed


class GaussianFieldConfig(Config):
    """Periodic Gaussian images (1, size, size) with power (1 + |k|^2)^-decay and unit variance of a pixel."""

    size: int = Field(16, ge=2, le=64, description="Height and width in pixels")
    decay: float = Field(1.5, ge=0, description="How fast power falls with frequency; 0 is white noise")
    mean: float = Field(0.0, description="Mean of every pixel")
    points: Points = 5000
    fractions: Fractions = FRACTIONS
    seed: Seed = None
