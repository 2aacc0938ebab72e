"""Settings of the flows that are trained for geometry. No torch here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from scorefold.config import Config, TrainingConfig
from scorefold_pullback.config.maps import CouplingMapConfig, MapConfig


class AnisotropicConfig(Config):
    """An anisotropic flow: learned variances, and a map held near an isometry."""

    map: MapConfig = Field(CouplingMapConfig(), description="The layers of phi")
    start: Literal["auto", "pca", "none"] = Field(
        "auto",
        description="Start with a fixed centring and rotation onto the principal axes of the training points, with "
        "their variances as the first ones; auto does so but "
        "for maps of images, glow and regular, whose pixels must keep their places",
    )
    standardise: bool = Field(
        True,
        description="Give the layers events of mean 0 and standard deviation 1, and scale back what they return, which "
        "leaves lengths as they are; false gives them the events as they are, as the published code does",
    )
    variances: Literal["learned", "closed-form", "fixed"] = Field(
        "learned",
        description="Variances of the base: trained beside the map, the running mean squares of the latents, or all "
        "fixed to the variance of a standardised coordinate (1 where standardise is false)",
    )
    modes: int = Field(
        1,
        ge=1,
        description="Normal distributions that the base is made of, for data in separate groups: all have the "
        "variances, and where there are several their means and shares are trained as well. 1 is around 0",
    )
    variance_floor: float = Field(
        1e-6, gt=0, lt=1, description="The smallest variance, as a share of the variance of a coordinate of the data"
    )
    variance_speed: float = Field(
        10.0,
        gt=0,
        description="Learning rate of what is learned of the base, as a multiple of training.learning_rate",
    )
    isometry: Literal["auto", "full", "sliced", "length", "angle", "length-angle"] = Field(
        "auto",
        description="Penalty on what the map does to lengths and angles: the whole Jacobian, or random directions; "
        "auto is full up to 32 coordinates and sliced above",
    )
    isometry_weight: float = Field(0.2, ge=0, description="Weight of the isometry penalty; 0 for none")
    directions: int = Field(4, ge=1, description="Random directions a point, for all but full; angle needs 2")
    volume: Literal["absolute", "squared"] = Field(
        "squared", description="Penalty on log |det J|: its square, or, as in the published code, its size"
    )
    volume_weight: float = Field(1.0, ge=0, description="Weight of the volume penalty; 0 for none")
    hessian_weight: float = Field(
        0.0,
        ge=0,
        description="Weight of the part of the score's Jacobian that second derivatives of the map make, "
        "for data of standard deviation 1 (as they are where standardise is false)",
    )
    noise: float = Field(
        0.0, ge=0, description="Standard deviation of normal noise added to points in training, in units of the data"
    )
    start_points: int = Field(10_000, ge=2, description="Training points that the start is taken from")
    training: TrainingConfig = Field(TrainingConfig(batch_size=128), description="How the flow is trained")

    @model_validator(mode="after")
    def _fits(self) -> AnisotropicConfig:
        if self.modes > 1 and self.variances == "closed-form":
            raise ValueError("variances closed-form are those of one mode; set variances: learned, or modes: 1")
        if self.modes > 1 and self.hessian_weight:
            raise ValueError("hessian_weight is for one mode; set it to 0, or modes: 1")
        if "angle" in self.isometry and self.directions < 2:
            raise ValueError(f"isometry {self.isometry} compares pairs of directions; directions is {self.directions}")
        return self


class IsometricConfig(AnisotropicConfig):
    """The baseline with the isometry penalty and a standard normal base."""

    variances: Literal["learned", "closed-form", "fixed"] = Field("fixed", description="Variances of the base")


class StandardNormalConfig(AnisotropicConfig):
    """The baseline with a standard normal base, trained by its likelihood alone."""

    variances: Literal["learned", "closed-form", "fixed"] = Field("fixed", description="Variances of the base")
    isometry_weight: float = Field(0.0, ge=0, description="Weight of the isometry penalty; 0 for none")
    volume_weight: float = Field(0.0, ge=0, description="Weight of the volume penalty; 0 for none")
