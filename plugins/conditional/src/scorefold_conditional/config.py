"""Settings of the conditional score model, the solvers of inverse problems and the data. No torch here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from scorefold.config import Config, EDMConfig, Inline, ProcessConfig, TrainingConfig, Use, VEConfig
from scorefold_toolkit.config.common import (
    FRACTIONS,
    AnyWeighting,
    DenoisingLossConfig,
    FilePath,
    Fractions,
    Points,
    Seed,
    WeightingConfig,
)
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
        description="r: for ve and edm the sigma_max of the condition divided by the sigma_max of the event. For other "
        "processes it is the ratio of their betas. null is what the estimator says: 0 for "
        "cde, 1 for cdiffe, else 0.01",
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


YUnits = Annotated[
    Literal["file", "model"] | None,
    Field(
        description="Units of y and its noise where the prior's data were scaled: file where x of y = A x is in the "
        "numbers of the file, or model where it is scaled; null is the scaled data that are plugged in",
    ),
]
"""Units of an observation; see ``Observations``."""


class DPSConfig(Config):
    """Diffusion posterior sampling: a score prior guided by the gradient of the misfit of its denoised estimate."""

    operator: OperatorConfig | None = Field(
        None,
        description="The linear operator A of the observation y = A x + noise; null is the operator of the data that "
        "are plugged in",
    )
    noise_std: float | None = Field(
        None,
        ge=0,
        description="Standard deviation of the observation's Gaussian noise (pigdm, diffpir); null is the deviation of "
        "the data that are plugged in, and 0 without data. Counts of photons need a number",
    )
    y_units: YUnits = None
    variant: Literal["dps", "pigdm", "diffpir"] = Field(
        "dps",
        description="The guidance: a step of fixed length against the misfit (dps, Chung et al. 2023), the misfit "
        "weighted by the inverse of its covariance (pigdm, Song et al. 2023), or a proximal step of the denoised "
        "estimate without derivatives of the prior (diffpir, Zhu et al. 2023)",
    )
    step: float = Field(
        1.0,
        gt=0,
        description="dps: how far the guidance moves the denoised estimate, 1 being as far as the observations of data "
        "of the prior's deviation are from their mean",
    )
    covariance: Literal["isotropic", "tweedie", "row-sums"] = Field(
        "isotropic",
        description="pigdm: the covariance of x_0 given x_t. isotropic is one variance from the prior's deviation and "
        "the noise level (the paper's). tweedie is the Jacobian of the denoiser, exact for Gaussian data. row-sums "
        "takes the row sums of its covariance of the observation (Boys et al. 2024)",
    )
    solver_steps: int = Field(
        2,
        ge=1,
        description="pigdm with tweedie: conjugate-gradient steps, each of which differentiates through the prior "
        "once. An exact score takes as many as there are observations; with more than 2, draws from small trained "
        "networks diverge, whose Jacobian is no covariance at high noise",
    )

    @model_validator(mode="after")
    def _read_by_pigdm(self) -> DPSConfig:
        if self.variant == "dps" and (self.noise_std or self.covariance != "isotropic"):
            name = "noise_std" if self.noise_std else "covariance"
            raise ValueError(
                f"{name} weighs the misfit, and the guidance of dps is a step of fixed length; "
                "set variant: pigdm, or leave it out"
            )
        if self.variant == "diffpir" and self.covariance != "isotropic":
            raise ValueError("covariance is for pigdm, and diffpir takes the noise of x_t for it; leave it out")
        return self


class DiffPIRConfig(DPSConfig):
    """DiffPIR: a proximal step of the denoised estimate towards the observation, without derivatives of the prior."""

    variant: Literal["diffpir"] = Field("diffpir", description="Fixed by the component")


class TMPDConfig(DPSConfig):
    """TMPD: the misfit weighted by the row sums of its covariance, from one more derivative of the prior."""

    variant: Literal["pigdm"] = Field("pigdm", description="Fixed by the component")
    covariance: Literal["row-sums"] = Field("row-sums", description="Fixed by the component")


class MMPSConfig(DPSConfig):
    """MMPS: the misfit weighted by the inverse of its covariance by Tweedie's formula, by conjugate gradients."""

    variant: Literal["pigdm"] = Field("pigdm", description="Fixed by the component")
    covariance: Literal["tweedie"] = Field("tweedie", description="Fixed by the component")


class DAPSConfig(DPSConfig):
    """DAPS: the event is drawn given x_t and the observation at each noise level, and noised anew for the next."""

    variant: Literal["pigdm"] = Field("pigdm", description="Fixed by the component")
    covariance: Literal["isotropic"] = Field("isotropic", description="Fixed by the component")
    ode_steps: int = Field(
        5,
        ge=0,
        description="Steps of the probability-flow ODE from x_t to the centre of what is drawn (5 in the paper); 0 "
        "takes the denoised estimate, with which data of one variance are drawn exactly",
    )


class RePaintConfig(Config):
    """RePaint: what is known is replaced by its noised value at each step, and the rest is drawn again and again."""

    operator: OperatorConfig | None = Field(
        None,
        description="The known part of an event: a mask, or an operator whose components have one speed; null is the "
        "operator of the data that are plugged in, and a mask without data",
    )
    y_units: YUnits = None
    jump_length: int = Field(10, ge=1, description="Steps that are taken back before they are drawn again")
    resamples: int = Field(10, ge=1, description="How often each step is drawn; 1 for plain replacement")
    move: Literal["ancestral", "sampler"] = Field(
        "ancestral",
        description="Step between replacements: the paper's ancestral step, or a step of the chosen sampler",
    )


class CompositionalConfig(Config):
    """The posterior of an event given several observations of it, from a score given one observation."""

    observations: int = Field(ge=2, description="Number of observations of each event")
    rule: Literal["samples", "jacobian", "sum"] = Field(
        "samples",
        description="Combination of the scores. samples and jacobian weigh each denoised estimate by its precision, "
        "which is exact for Gaussians (Linhart et al. 2024). The precision comes from samples of each single "
        "posterior, or from the Jacobian of the score, which small trained networks get wrong at high noise. sum adds "
        "the scores and subtracts n - 1 times the prior's (Geffner et al. 2023), which is biased",
    )
    samples: int = Field(
        200, ge=10, description="samples: samples of each single posterior, ten times as many of the prior"
    )


class PosteriorConfig(Config):
    """Points in the plane from Gaussians on a circle, with a noisy first coordinate as the condition."""

    modes: int = Field(8, ge=1, description="Gaussians, evenly on the circle from angle 0 on")
    radius: float = Field(2.0, gt=0, description="Radius of the circle")
    std: float = Field(0.2, gt=0, description="Standard deviation of each Gaussian, in every direction")
    noise_std: float = Field(0.3, gt=0, description="Standard deviation of the noise on the first coordinate")
    points: Points = 20_000
    fractions: Fractions = FRACTIONS
    seed: Seed = None


class SbibmConfig(Config):
    """Simulations of a task of sbibm, and the ten observations that its authors published."""

    task: Literal[
        "two-moons",
        "gaussian-mixture",
        "gaussian-linear",
        "gaussian-linear-uniform",
        "slcp",
        "bernoulli-glm",
        "sir",
        "lotka-volterra",
    ] = Field(description="The simulator and its prior")
    simulations: int = Field(10_000, ge=10, description="Simulations to learn from, those for validation included")
    observations: int = Field(
        1, ge=1, description="Simulations of each parameter; with more than 1 the condition has a row for each"
    )
    validation: float = Field(0.1, gt=0, lt=1, description="Share of the simulations for validation")
    wheel: FilePath | None = Field(
        None,
        description="The wheel of sbibm (pip download --no-deps sbibm==1.1.0), or a folder with its content; the test "
        "split is then the ten published observations with reference draws of their posteriors. null takes 1,000 "
        "further simulations for the test split",
    )
    seed: Seed = None

    @model_validator(mode="after")
    def _published_alone(self) -> SbibmConfig:
        if self.wheel is not None and self.observations > 1:
            raise ValueError(
                f"the wheel has one observation of each parameter, and observations is {self.observations}; "
                "leave one of them out"
            )
        return self
