"""The config of ``estimator:flipd``. No torch here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from scorefold.config import Config
from scorefold_iddiff.pointwise.config import SWEEP, Aggregate, Batch, Derivatives, Level, Positive, Shown, Sigma, Sweep


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
