"""Settings of the baselines on an unconditional prior. No torch here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from scorefold.config import Config
from scorefold_toolkit.config.operators import OperatorConfig


class DPSConfig(Config):
    """Diffusion posterior sampling: a score prior guided by the gradient of the misfit of its denoised estimate."""

    operator: OperatorConfig | None = Field(
        None,
        description="The linear operator A of the observation y = A x + noise; null is the operator of the data that "
        "are plugged in",
    )
    noise_std: float = Field(0.0, ge=0, description="Standard deviation of the observation's noise (pigdm)")
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
        if self.variant == "dps" and (self.noise_std > 0 or self.covariance != "isotropic"):
            name = "noise_std" if self.noise_std > 0 else "covariance"
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
    jump_length: int = Field(10, ge=1, description="Steps that are taken back before they are drawn again")
    resamples: int = Field(10, ge=1, description="How often each step is drawn; 1 for plain replacement")
    move: Literal["ancestral", "sampler"] = Field(
        "ancestral",
        description="Step between replacements: the paper's ancestral step, or a step of the chosen sampler",
    )
