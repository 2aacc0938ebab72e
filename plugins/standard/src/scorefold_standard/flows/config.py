"""Configs of the coupling flows. No torch here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from scorefold.config import Config, TrainingConfig


class CouplingConfig(Config):
    """Common settings of affine and spline couplings."""

    layers: int = Field(8, ge=1, le=1000, description="Coupling layers; for images, in each level")
    layout: Literal["auto", "vector", "image"] = Field(
        "auto", description="Treat events as vectors or as images (C, H, W); auto takes three dimensions for an image"
    )
    hidden: tuple[int, ...] = Field((64, 64), min_length=1, description="Widths of a conditioner's layers, for vectors")
    channels: int = Field(64, ge=1, description="Channels of a conditioner's convolutions, for images")
    levels: int = Field(2, ge=1, le=30, description="Number of scales, each half as high and wide as the scale before")
    linear: Literal["lu", "orthogonal", "none"] = Field(
        "lu", description="Invertible linear layers between couplings: any matrix, rotations, or swapped halves alone"
    )
    actnorm: bool = Field(True, description="Normalise activations, started from data")
    activation: Literal["silu", "relu", "tanh", "gelu"] = Field(
        "silu", description="Nonlinearity of the conditioners; relu leaves the flow without second derivatives"
    )
    base: Literal["normal", "diagonal-normal"] = Field(
        "normal",
        description="Base distribution: standard normal, or normal with a learned mean and variance a coordinate",
    )
    start_points: int = Field(2048, ge=2, description="Points that the activation normalisation starts from")


class AffineCouplingConfig(CouplingConfig):
    """Affine couplings."""

    transform: Literal["affine"] = Field("affine", description="Fixed by the component")
    scale_bound: float = Field(2.0, gt=0, description="Largest log-scale of a layer, either way")
    training: TrainingConfig = Field(TrainingConfig(), description="How the flow is trained")


class SplineCouplingConfig(CouplingConfig):
    """Monotone rational-quadratic spline couplings."""

    transform: Literal["rational-quadratic"] = Field("rational-quadratic", description="Fixed by the component")
    bins: int = Field(8, ge=2, le=256, description="Bins of a spline")
    bound: float = Field(5.0, gt=0, description="Splines act on [-bound, bound], in standard deviations of the data")
    training: TrainingConfig = Field(TrainingConfig(), description="How the flow is trained")
