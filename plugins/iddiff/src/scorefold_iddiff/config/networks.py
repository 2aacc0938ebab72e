"""Settings of the score network. No torch here."""

from __future__ import annotations

from pydantic import Field

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
