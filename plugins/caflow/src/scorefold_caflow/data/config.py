"""Settings of the data sources. No torch here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from scorefold.config import Config
from scorefold_toolkit.config.common import FRACTIONS, Fractions, Points, Seed


class GaussianPairsConfig(Config):
    """Images of a Gaussian field, and what is left of them as the condition."""

    size: int = Field(8, ge=2, description="Height and width")
    length: float = Field(
        3.0, gt=0, description="Length over which the field's correlation falls by a factor e, in pixels"
    )
    nugget: float = Field(0.01, ge=0, description="Variance of a pixel's own, beside the field's of 1")
    task: Literal["super-resolution", "inpainting"] = Field(
        "super-resolution", description="The condition: the means of cells, at every pixel of theirs; or the left half"
    )
    factor: int = Field(2, ge=2, description="Pixels a side of a cell (super-resolution)")
    noise_variance: float = Field(0.05, gt=0, description="Variance of the noise on every pixel of the condition")
    points: Points = 50_000
    fractions: Fractions = FRACTIONS
    seed: Seed = None

    @model_validator(mode="after")
    def _divides(self) -> GaussianPairsConfig:
        if self.task == "super-resolution" and self.size % self.factor:
            raise ValueError(f"factor is {self.factor}, which does not divide size {self.size}")
        return self
