"""The config of ``estimator:denoising-loss``. No torch here."""

from __future__ import annotations

from pydantic import Field

from scorefold.config import Config
from scorefold_iddiff.pointwise.config import SWEEP, Aggregate, Batch, Level, Sigma, Sweep


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
