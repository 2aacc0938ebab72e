"""Fields that the configs of several estimators share. No torch here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

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
