"""Settings of the score network. No torch here."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, PositiveFloat, model_validator

from scorefold.config import Config


class ManifoldMLPConfig(Config):
    """A multi-layer perceptron for the noise of data on manifolds; the switches are for ablation."""

    width: int = Field(256, ge=1, description="Units a hidden layer")
    blocks: int = Field(3, ge=0, le=1000, description="Residual blocks")
    quadrics: int = Field(
        16,
        ge=0,
        description="Quadrics fitted to the data: the distances from them are among the features, and the noise may "
        "point along their normals; 0 for none",
    )
    gates: bool = Field(
        True, description="Blocks multiply two linear maps of their input; false takes plain SiLU blocks of two layers"
    )
    skip: bool = Field(
        True,
        description="It corrects the best linear guess from the data's covariance (Wiener's); false takes the guess "
        "from their variance alone",
    )
    directions: int | None = Field(
        None,
        ge=1,
        description="Principal directions that it learns in; the others get the best linear guess from their mean "
        "variance. Null for all: the memory is their number times D",
    )


class PlainMLPConfig(Config):
    """Linear layers with an activation between them, as published."""

    width: int = Field(2048, ge=1, description="Units a hidden layer")
    layers: int = Field(7, ge=2, le=1000, description="Linear layers, the first and the last among them")
    activation: Literal["silu", "gelu", "relu", "elu", "tanh"] = Field("elu", description="Activation")
    sigmas: tuple[PositiveFloat, PositiveFloat] = Field(
        (0.01, 4.0), description="Noise at which the time that it sees is 0 and 999: those of the score's process"
    )

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if self.sigmas[0] >= self.sigmas[1]:
            raise ValueError(f"sigmas are {self.sigmas[0]:g} and {self.sigmas[1]:g}; the first must be the smaller one")
        return self
