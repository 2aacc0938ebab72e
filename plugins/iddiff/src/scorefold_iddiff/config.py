"""Settings of the normal-bundle estimator."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from scorefold.config import Config

Positive = Annotated[float, Field(gt=0)]


class NormalBundleConfig(Config):
    """How the dimension is read from score vectors around points."""

    rule: Literal["projector", "reference"] = Field(
        "projector",
        description="projector counts the eigenvalues above 1/2 of the fitted tangent projector; "
        "reference takes the largest gap of the singular values as the published code does",
    )
    sigma: Positive | None = Field(
        None,
        description="Noise-to-signal ratio at which scores are taken, in units of the data; directions along which "
        "they vary by less count as none. Null takes 0.01 times the root-mean-square distance of the points from their "
        "mean, moved into the range of the score's process where it is outside (the estimate's note then says so)",
    )
    sweep: tuple[Positive, ...] = Field(
        (0.1, 0.3, 1.0, 3.0, 10.0, 30.0),
        description="Multiples of sigma at which the curve k(sigma) is measured, where the process reaches them; "
        "empty for none",
    )
    noises: int | None = Field(
        None, ge=3, description="Noises a point, K; null for four times the number of coordinates"
    )
    points: int = Field(
        64, ge=2, description="Points at which the dimension is read, drawn at random; all where there are fewer"
    )
    shown: int = Field(
        16, ge=1, description="Points, of those, whose spectra are kept and at which the curve is measured"
    )
    aggregate: Literal["mode", "median", "mean", "max"] = Field("median", description="How the points give one number")
    level: float = Field(
        0.95,
        gt=0,
        lt=1,
        description="Confidence level of the interval, by bootstrap over points, not over trainings of the score",
    )
    batch: int | None = Field(
        None,
        ge=1,
        description="Noised points a call of the score, which bounds memory; null for 2^18 coordinates' worth",
    )
