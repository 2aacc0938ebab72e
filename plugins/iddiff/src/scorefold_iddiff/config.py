"""Settings of estimator:iddiff and of the networks, and fields of several estimators. No torch here."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, model_validator

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
        description="Derivatives of the score. forward computes many at once. reverse computes one at a time, for "
        "networks with operations that have no forward-mode rule"
    ),
]

SWEEP = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


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
        (0.01, 4.0), description="Noise at which the network's time is 0 and 999: the range of the score's process"
    )

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if self.sigmas[0] >= self.sigmas[1]:
            raise ValueError(f"sigmas are {self.sigmas[0]:g} and {self.sigmas[1]:g}; the first must be the smaller one")
        return self


class NormalBundleConfig(Config):
    """Estimation of the dimension from score vectors around points."""

    rule: Literal["projector", "reference", "paper", "ratio", "threshold"] = Field(
        "projector",
        description="projector counts the eigenvalues above 1/2 of the fitted tangent projector; reference takes the "
        "largest gap of the singular values as the published code does, paper as the paper says (no centring, all "
        "gaps); ratio takes their largest ratio; threshold counts those below threshold, where 1 is normal",
    )
    sigma: Positive | Literal["auto"] | None = Field(
        "auto",
        description="Noise-to-signal ratio at which scores are taken, in units of the data; directions along which "
        "they vary by less do not count. auto is the middle of the longest plateau of the dimension against log "
        "sigma, or null's value if there is none. Null is 0.01 times the root-mean-square distance of the points from "
        "their mean. It is moved into the range of the score's process, and the estimate's note says so. auto stays "
        "above half a step of discrete data, below which each of their values is an island",
    )
    levels: int = Field(
        13,
        ge=3,
        description="Levels at which auto looks, evenly spread in log sigma from 0.001 to 1 times the data's spread, "
        "where the process reaches; they are its curve",
    )
    sweep: tuple[Positive, ...] = Field(
        (0.1, 0.3, 1.0, 3.0, 10.0, 30.0),
        description="Multiples of sigma at which the curve k(sigma) is measured, where the process reaches them; "
        "empty for none. Not used with auto",
    )
    design: Literal["iid", "pairs", "simplex", "range-finder"] | None = Field(
        None,
        description="Noises around a point: iid, independent (4 D calls of the score); pairs, plus and minus an "
        "orthonormal frame (2 D); simplex, the corners of a regular one (D + 1); range-finder, an adaptive sketch of "
        "the tangent space (64 calls up to 13 dimensions and about 5 for each, for high D and rule projector). Null "
        "takes iid for reference and paper, and pairs for the others",
    )
    noises: int | None = Field(
        None,
        ge=3,
        description="Noises a point, K; null for the design's own number, of which pairs and simplex take multiples",
    )
    threshold: float = Field(
        0.5, gt=0, lt=1, description="Singular value below which a direction is tangent, for rule threshold"
    )
    floor: float = Field(
        0.25,
        gt=0,
        lt=0.5,
        description="Eigenvalue below which the range finder takes the tangent space to be used up; raise it for a "
        "learned score that leaves more than this on normal directions",
    )
    points: int = Field(
        64,
        ge=2,
        description="Number of random points at which the dimension is estimated; all points if there are fewer",
    )
    shown: int = Field(
        16,
        ge=1,
        description="Points, of those, whose spectra, bases and intervals are kept and at which the curve is measured",
    )
    bases: Literal["none", "tangent", "normal", "both"] = Field(
        "none", description="Orthonormal bases kept at the shown points, as arrays of the estimate"
    )
    aggregate: Literal["mode", "median", "mean", "max"] = Field("median", description="How the points give one number")
    level: float = Field(
        0.95,
        gt=0,
        lt=1,
        description="Confidence level of the intervals: of the value, by bootstrap over points, not over trainings of "
        "the score; of each shown point's dimension, over its noises",
    )
    resamples: int = Field(
        200, ge=0, description="Bootstrap resamples of the noises at each shown point, for its interval; 0 for none"
    )
    batch: int | None = Field(
        None,
        ge=1,
        description="Noised points a call of the score, which bounds memory; null measures the network "
        "(runtime: batch_size)",
    )

    @model_validator(mode="after")
    def _fits(self) -> NormalBundleConfig:
        if self.design == "range-finder" and self.rule != "projector":
            raise ValueError(f"the range finder finds tangent directions alone, and rule {self.rule} reads all of them")
        if self.design == "range-finder" and self.noises is not None:
            raise ValueError("the range finder takes as many noises as it needs: leave noises out")
        return self
