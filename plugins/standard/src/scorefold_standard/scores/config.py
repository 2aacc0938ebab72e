"""Settings of the score models. No torch here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from scorefold.config import Config, EDMConfig, Inline, ProcessConfig, TrainingConfig, Use, VEConfig
from scorefold_toolkit.config.common import DenoisingLossConfig


class AnalyticConfig(Config):
    """The exact score of a known distribution or of finitely many points."""

    process: ProcessConfig = Field(
        VEConfig(sigma_min=1e-3, sigma_max=50.0), description="The diffusion, by name or with its settings"
    )
    points: bool = Field(
        False,
        description="Take the finite set of training points even where the source knows their distribution",
    )
    gaussian: bool = Field(
        False,
        description="Take the Gaussian with the training points' mean and covariance. It is exact for Gaussian data, "
        "and has the right tangent space for data on a plane",
    )
    limit: int | None = Field(
        None, ge=1, description="Where points are taken: the largest number of them, from the first; null for all"
    )

    @model_validator(mode="after")
    def _one_distribution(self) -> AnalyticConfig:
        if self.points and self.gaussian:
            raise ValueError("points and gaussian are two distributions: set one of them")
        return self


class DenoisingConfig(DenoisingLossConfig):
    """A score model trained by denoising score matching (Vincent 2011; Song et al. 2021)."""

    process: ProcessConfig = Field(
        EDMConfig(sigma_data=0.5),
        description="The diffusion, by name or with its settings; by default in the data's units",
    )
    network: Inline("network") = Field(  # type: ignore[valid-type]
        Use(use="network:auto"), description="The network, from noised event to event"
    )
    prediction: Literal["eps", "edm", "x0", "v"] = Field(
        "edm",
        description="Prediction: the noise (eps), a correction of the best linear guess (edm), the datum "
        "(x0), or the velocity (v)",
    )
    unconditional: bool = Field(
        False, description="Learn the score of the events alone, whatever condition the data bring (a prior)"
    )
    condition_dropout: float = Field(
        0.0, ge=0, lt=1, description="Share of training points whose condition is left out; above 0 allows guidance"
    )
    training: TrainingConfig = Field(TrainingConfig(), description="How it is trained")
