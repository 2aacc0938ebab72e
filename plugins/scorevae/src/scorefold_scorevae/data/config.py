"""Settings of the data source. No torch here."""

from __future__ import annotations

from pydantic import Field

from scorefold.config import Config
from scorefold_toolkit.config.common import FRACTIONS, Fractions, Points, Seed


class TexturedBlobsConfig(Config):
    """Images (1, size, size): a blob on a grid of centres, under a Gaussian texture."""

    size: int = Field(8, ge=4, le=64, description="Height and width in pixels")
    centres: int = Field(
        16,
        ge=1,
        le=64,
        description="Centres a side, evenly from pixel 1 to size - 2: this number squared, equally likely",
    )
    width: float = Field(1.5, gt=0, description="Standard deviation of a blob in pixels")
    texture: float = Field(0.15, gt=0, description="Variance of each fine cosine of the texture")
    smooth: float = Field(0.002, gt=0, description="Variance of each coarse cosine")
    cutoff: float = Field(
        4.0,
        ge=0,
        description="Cosines (i, j) are fine where the root of i^2 + j^2 is above this, in half-cycles an image",
    )
    points: Points = 20_000
    fractions: Fractions = FRACTIONS
    seed: Seed = None
