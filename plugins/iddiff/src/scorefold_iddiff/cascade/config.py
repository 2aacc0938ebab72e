"""Settings of the screening cascade."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from scorefold.config import Config
from scorefold_iddiff.pointwise.config import SWEEP, Batch, Level, Positive, Shown, Sweep


class CascadeConfig(Config):
    """Numbers of score calls before a point goes on to the next, more expensive stage."""

    sigma: Positive | Literal["auto"] | None = Field(
        "auto",
        description="Noise-to-signal ratio at which the score is read, in units of the data. auto is the middle of "
        "the longest stretch over which the shown points' mean denoising loss stays within a twentieth, or null's "
        "value. Null is 0.01 times the root-mean-square distance of the points "
        "from their mean, moved into the range of the score's process",
    )
    levels: int = Field(
        13,
        ge=3,
        description="Levels at which auto looks, evenly spread in log sigma from 0.001 to 1 times the data's spread, "
        "where the process reaches; they are its curve",
    )
    sweep: Sweep = SWEEP
    draws: int = Field(16, ge=2, description="Noises a point whose denoising loss is the coarse dimension")
    spare: int = Field(
        6,
        ge=1,
        description="Directions that the range finder looks at beyond the coarse dimension; half as many beyond the "
        "end of its interval, where that is more",
    )
    floor: float = Field(
        0.25,
        gt=0,
        lt=0.5,
        description="Eigenvalue below which the range finder takes the tangent space to be used up; raise it for a "
        "learned score that leaves more than this on normal directions",
    )
    thin: float = Field(
        0.2,
        ge=0,
        lt=0.5,
        description="Distance of an eigenvalue from 1/2 below which the point goes on to its whole spectrum",
    )
    points: int = Field(64, ge=2, description="Points at which the dimension is read, drawn at random")
    shown: Shown = 16
    bases: Literal["none", "tangent", "normal", "both"] = Field(
        "none", description="Orthonormal bases kept at the shown points, as arrays of the estimate"
    )
    aggregate: Literal["mode", "median", "mean", "max"] = Field("median", description="How the points give one number")
    level: Level = 0.95
    batch: Batch = None
