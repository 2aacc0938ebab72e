"""Settings of the conditional score model. No torch here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from scorefold.config import EDMConfig, Inline, ProcessConfig, TrainingConfig, Use, VEConfig
from scorefold_toolkit.config.common import AnyWeighting, DenoisingLossConfig, WeightingConfig
from scorefold_toolkit.config.operators import MaskConfig, OperatorConfig

DEFAULT_SPEED = 0.01


class ConditionalConfig(DenoisingLossConfig):
    """A conditional score whose condition diffuses at any speed (Batzolis et al. 2021, 2022)."""

    estimator: Literal["cde", "cdiffe", "cmde", "vs-cmde"] = Field(
        "cmde",
        description="Diffusion of the condition. cde does not diffuse it, cdiffe does as fast as the event. cmde does "
        "at a speed of its own, to which vs-cmde falls during training",
    )
    condition_speed: float | None = Field(
        None,
        ge=0,
        le=1,
        description="r: for ve and edm the condition's sigma_max over that of the event, for the others the "
        "condition's beta over that of the event. null is what the estimator says: 0 for cde, 1 for cdiffe, else 0.01",
    )
    anneal: float = Field(
        1.0, gt=0, le=1, description="Share of the training steps over which the speed of vs-cmde falls from 1"
    )
    amortise: bool = Field(
        False,
        description="cmde: train at all speeds from condition_speed to 1, the condition's noise level shown to the "
        "network, so that the option condition_speed of sampling chooses one",
    )
    joint: bool = Field(
        True,
        description="Predict the noise of a diffusing condition too, as the published loss does; false trains the "
        "event's part alone, which has the same optimum",
    )
    clean: tuple[str, ...] = Field((), description="Parts of the condition that never diffuse, such as a mask")
    operator: OperatorConfig | None = Field(
        None, description="The operator that made the condition from the event, for mask and consistency"
    )
    mask: bool = Field(
        False, description="Show the network the mask of the operator as a further channel: black is not hidden"
    )
    condition_noise: Literal["fresh", "path", "frozen"] = Field(
        "fresh",
        description="The noise on the condition while sampling: drawn anew at every call of the network (fresh), along "
        "one trajectory of its diffusion (path), or one draw held throughout (frozen)",
    )
    consistency: float = Field(
        0.0,
        ge=0,
        le=1,
        description="How far each guess of the clean event is drawn to what the operator and the condition say, while "
        "sampling; 0 leaves it out",
    )
    noise_std: float = Field(
        0.0, ge=0, description="Standard deviation of the noise on the condition that consistency allows for"
    )
    process: ProcessConfig = Field(VEConfig(), description="The diffusion of the event")
    network: Inline("network") = Field(  # type: ignore[valid-type]
        Use(use="network:mlp"), description="The network, from noised event and condition to the noise of both"
    )
    prediction: Literal["eps", "edm", "x0", "v"] = Field(
        "edm",
        description="Prediction: the noise (eps), a correction of the best linear guess (edm), the datum "
        "(x0), or the velocity (v)",
    )
    weighting: AnyWeighting = Field(
        WeightingConfig(name="likelihood"),
        description="How errors weigh, by name or with settings, each part at its own noise: likelihood as published, "
        "edm for samples of images; see score:denoising",
    )
    condition_dropout: float = Field(
        0.0, ge=0, lt=1, description="Share of training points whose condition is left out; above 0 allows guidance"
    )
    training: TrainingConfig = Field(TrainingConfig(), description="How it is trained")

    @property
    def speed(self) -> float:
        """The condition's speed, 0 where it stays clean."""
        if self.condition_speed is not None:
            return self.condition_speed
        return {"cde": 0.0, "cdiffe": 1.0}.get(self.estimator, DEFAULT_SPEED)

    @model_validator(mode="after")
    def _speed_fits(self) -> ConditionalConfig:
        r = self.speed
        if self.estimator == "cde" and r > 0:
            raise ValueError(
                f"the condition of cde stays clean and condition_speed is {r:g}; set estimator: cmde, or leave "
                "condition_speed out"
            )
        if self.estimator == "cdiffe" and r < 1:
            raise ValueError(
                f"the condition of cdiffe diffuses as fast as the event and condition_speed is {r:g}; set estimator: "
                f"{'cmde' if r else 'cde'}, or leave condition_speed out"
            )
        if self.estimator in ("cmde", "vs-cmde") and not 0 < r < 1:
            instead = "cdiffe" if r else "cde"
            raise ValueError(
                f"{self.estimator} has a condition_speed between 0 and 1, and it is {r:g}; set estimator: {instead}, "
                f"or for example condition_speed: {DEFAULT_SPEED}"
            )
        if isinstance(self.process, VEConfig | EDMConfig):
            slowest = self.process.sigma_min / self.process.sigma_max
            if 0 < r <= slowest:
                raise ValueError(
                    f"with condition_speed {r:g} the condition's sigma_max is {r * self.process.sigma_max:g}, not "
                    f"above sigma_min, {self.process.sigma_min:g}; set estimator: cde, or a condition_speed above "
                    f"{slowest:.3g}"
                )
        return self

    @model_validator(mode="after")
    def _options_fit(self) -> ConditionalConfig:
        if self.amortise and self.estimator != "cmde":
            raise ValueError(f"amortise is for cmde, and the estimator is {self.estimator}; set estimator: cmde")
        if self.anneal < 1 and self.estimator != "vs-cmde":
            raise ValueError(f"anneal is for vs-cmde, and the estimator is {self.estimator}; set estimator: vs-cmde")
        if self.mask and not isinstance(self.operator, MaskConfig):
            given = "there is none" if self.operator is None else f"the operator is {self.operator.name}"
            raise ValueError(f"mask shows the mask of an operator 'mask', and {given}; set operator: {{name: mask}}")
        if self.operator is None and (self.consistency > 0 or self.noise_std > 0):
            name = "consistency" if self.consistency > 0 else "noise_std"
            raise ValueError(f"{name} needs the operator that made the condition; set operator, or {name}: 0")
        return self
