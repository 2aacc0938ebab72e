"""The config of ``estimator:lidl``. No torch here."""

from __future__ import annotations

from pydantic import Field, model_validator

from scorefold.config import Config
from scorefold_iddiff.pointwise.config import Aggregate, Level, Positive


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
