"""Settings of the estimators of this folder. No torch here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from scorefold.config import Config
from scorefold_iddiff.config import SWEEP, Aggregate, Batch, Derivatives, Level, Positive, Shown, Sigma, Sweep


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


class DenoisingLossDimensionConfig(Config):
    """Error of the score's prediction of added noise: the part that it can't predict is the dimension."""

    sigma: Sigma = None
    draws: int = Field(8, ge=2, description="Noises a point")
    sweep: Sweep = SWEEP
    points: int = Field(256, ge=2, description="Points at which the dimension is read, drawn at random")
    shown: int = Field(64, ge=1, description="Points, of those, at which the curve is measured")
    aggregate: Aggregate = "mean"
    level: Level = 0.95
    batch: Batch = None


class FLIPDConfig(Config):
    """Estimation of the density's rate of change with the noise at clean points."""

    mode: Literal["level", "knee", "regression"] = Field(
        "level",
        description="level: at one sigma; knee: at each point's knee of the curve over levels; regression: the slope "
        "of the log-density over the levels, which is LIDL with a single model",
    )
    sigma: Sigma = None
    levels: tuple[Positive, ...] | None = Field(
        None,
        description="Noise levels of mode knee and regression, in units of the data. Null is 16 levels from 0.1 to "
        "100 times sigma (knee), or 8 from 1 to 10 times sigma (regression). They are log-spaced, in the range of the "
        "process",
    )
    knee: Literal["auto", "shoulder", "elbow"] = Field(
        "auto",
        description="shoulder: where a level stretch ends and the curve falls; elbow: where a fall ends in a level "
        "stretch; auto: whichever is sharper at each point",
    )
    trace: Literal["auto", "exact", "hutchinson"] = Field(
        "auto", description="exact: a derivative for each coordinate; auto takes it up to 3,500 coordinates"
    )
    probes: int = Field(64, ge=1, description="Random vectors a point of a Hutchinson trace")
    probe_distribution: Literal["rademacher", "gaussian"] = Field(
        "rademacher", description="Distribution of these; Rademacher vectors never have the larger variance"
    )
    derivatives: Derivatives = "forward"
    sweep: Sweep = SWEEP
    points: int = Field(64, ge=2, description="Points at which the dimension is read, drawn at random")
    shown: Shown = 16
    aggregate: Aggregate = "mean"
    level: Level = 0.95
    batch: Batch = None

    @model_validator(mode="after")
    def _enough_levels(self) -> FLIPDConfig:
        least = {"level": 0, "regression": 2, "knee": 4}[self.mode]
        if self.levels is not None and len(set(self.levels)) < least:
            raise ValueError(f"mode {self.mode} needs {least} different levels; {len(set(self.levels))} are given")
        return self


class LIDLConfig(Config):
    """Estimation of the dimension from densities of noised data."""

    levels: tuple[Positive, ...] | None = Field(
        None,
        min_length=2,
        description="Deviations of the noise, one flow each, in units of the data. Null takes 8, log-spaced from 0.01 "
        "to 0.1 times the root-mean-square distance of the training points from their mean",
    )
    points: int = Field(256, ge=2, description="Points at which the dimension is read, drawn at random")
    aggregate: Aggregate = "mean"
    level: Level = 0.95
    batch: int | None = Field(
        None, ge=1, description="Points a call of a flow; null measures the network (runtime: batch_size)"
    )

    @model_validator(mode="after")
    def _different_levels(self) -> LIDLConfig:
        if self.levels is not None and len(set(self.levels)) < 2:
            raise ValueError("a slope needs 2 different levels; 1 is given")
        return self


class LanczosConfig(Config):
    """Count of near-zero eigenvalues of the log-density's Hessian."""

    sigma: Sigma = None
    probes: int = Field(
        16, ge=1, description="Random vectors a point; the coordinate vectors, and no chance, where D is not larger"
    )
    steps: int = Field(12, ge=1, description="Lanczos steps a vector: the largest number of eigenvalues separated")
    cutoff: float = Field(
        0.5,
        gt=0,
        lt=1,
        description="Eigenvalues of the Hessian count as near zero above -cutoff / sigma^2",
    )
    product: Literal["forward", "differences"] = Field(
        "forward",
        description="Hessian times vector by forward-mode derivatives, or by central differences at twice the calls",
    )
    sweep: Sweep = ()
    points: int = Field(64, ge=2, description="Points at which the dimension is read, drawn at random")
    shown: Shown = 16
    aggregate: Aggregate = "mean"
    level: Level = 0.95
    batch: Batch = None
