"""Settings of the estimators that came after the normal bundle: FLIPD, the denoising loss, spectral Lanczos, LIDL."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from scorefold.config import Config

Positive = Annotated[float, Field(gt=0)]
Sweep = Annotated[
    tuple[Positive, ...],
    Field(
        description="Multiples of sigma at which the curve is measured, where the process reaches them; empty for none"
    ),
]
Sigma = Annotated[
    Positive | None,
    Field(
        description="Noise-to-signal ratio at which the score is read, in units of the data. Null takes 0.01 times the "
        "root-mean-square distance of the points from their mean, moved into the range of the score's process"
    ),
]
Shown = Annotated[int, Field(ge=1, description="Points, of those, at which the curve is measured")]
Aggregate = Annotated[
    Literal["mean", "median", "mode", "max"], Field(description="How the points give one number; mode rounds them")
]
Level = Annotated[float, Field(gt=0, lt=1, description="Confidence level of the interval, over points")]
Batch = Annotated[
    int | None,
    Field(
        ge=1,
        description="Points a call of the score, which bounds memory; null measures the network (runtime: batch_size)",
    ),
]
Derivatives = Annotated[
    Literal["forward", "reverse"],
    Field(
        description="Derivatives of the score by forward mode, many at once, or by reverse mode, one at a time, for "
        "networks that have operations without forward-mode rules"
    ),
]

SWEEP = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


class FLIPDConfig(Config):
    """How the density's rate of change with the noise is read at clean points."""

    mode: Literal["level", "knee", "regression"] = Field(
        "level",
        description="level: at one sigma; knee: at each point's knee of the curve over levels; regression: the slope "
        "of the log-density over the levels, which is LIDL with a single model",
    )
    sigma: Sigma = None
    levels: tuple[Positive, ...] | None = Field(
        None,
        description="Noise levels of mode knee and regression, in units of the data. Null takes 16 from 0.1 to 100 "
        "times sigma (knee) or 8 from 1 to 10 times sigma (regression), log-spaced, in the range of the process",
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


class DenoisingLossConfig(Config):
    """How well the score guesses the noise that was added: what it can't know is the dimension."""

    sigma: Sigma = None
    draws: int = Field(8, ge=2, description="Noises a point")
    sweep: Sweep = SWEEP
    points: int = Field(256, ge=2, description="Points at which the dimension is read, drawn at random")
    shown: int = Field(64, ge=1, description="Points, of those, at which the curve is measured")
    aggregate: Aggregate = "mean"
    level: Level = 0.95
    batch: Batch = None


class LanczosConfig(Config):
    """How near-zero eigenvalues of the log-density's Hessian are counted."""

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


class LIDLConfig(Config):
    """How densities of noised data give the dimension."""

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
