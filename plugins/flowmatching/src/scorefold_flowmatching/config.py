"""Settings of flow matching. No torch here."""

from __future__ import annotations

from pydantic import Field, model_validator

from scorefold.config import Config, Inline, TrainingConfig, Use
from scorefold_toolkit.config.common import LevelsConfig, LogitNormalLevels


class FlowMatchingConfig(Config):
    """A rectified flow from noise to data, its velocity given by a network (Lipman et al. 2023; Liu et al. 2023)."""

    network: Inline("network") = Field(  # type: ignore[valid-type]
        Use(use="network:auto"), description="The network, from an event on its way to its velocity"
    )
    noise_levels: LevelsConfig = Field(
        LogitNormalLevels(),
        description="How times are drawn: logit-normal (Esser et al. 2024), time for uniform ones, or another "
        "distribution of the noise level t / (1 - t)",
    )
    t_min: float = Field(1e-3, gt=0, description="Least time: the data with this share of noise")
    t_max: float = Field(
        0.999, lt=1, description="Greatest time, from which sampling starts: below 1, where no data are left"
    )
    condition_dropout: float = Field(
        0.0, ge=0, lt=1, description="Share of training points whose condition is left out; above 0 allows guidance"
    )
    training: TrainingConfig = Field(TrainingConfig(), description="How it is trained")

    @model_validator(mode="after")
    def _rises(self) -> FlowMatchingConfig:
        if self.t_min >= self.t_max:
            raise ValueError(f"t_min is {self.t_min:g} and t_max {self.t_max:g}; expected t_min below t_max")
        return self
