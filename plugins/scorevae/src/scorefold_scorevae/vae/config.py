"""Settings of the variational auto-encoder. No torch here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from scorefold.config import Config, Inline, TrainingConfig, Use


class VAEConfig(Config):
    """A variational auto-encoder with a Gaussian decoder (Kingma and Welling 2014)."""

    latent: int = Field(ge=1, description="Number of coordinates of the code")
    encoder: Inline("network") = Field(  # type: ignore[valid-type]
        Use(use="network:mlp"),
        description="The encoder's network, from events to the code's mean and log-variance: network:mlp or, for "
        "images, network:half-unet",
    )
    decoder: Inline("network") = Field(  # type: ignore[valid-type]
        Use(use="network:mlp"),
        description="The decoder's network, from codes to events: network:mlp or, for images, network:mirror-decoder",
    )
    loss: Literal["squared", "norm"] = Field(
        "squared",
        description="Reconstruction loss. squared is half the squared distance of event and reconstruction, in the "
        "data's units squared. norm is their distance, as in the experiments of Batzolis et al. (2023)",
    )
    beta: float = Field(
        1.0,
        ge=0,
        description="Weight of the code's KL divergence from N(0, I) in nats. With the squared loss, a direction of "
        "Gaussian data is coded down to a residual variance of beta. A direction of less variance is not coded",
    )
    beta_warmup: float = Field(0.1, ge=0, le=1, description="Share of the training over which beta rises from 0")
    target_kl: float | None = Field(
        None,
        gt=0,
        description="Mean KL divergence of the codes in nats that beta, which then only starts at its value, is moved "
        "to reach while training; null keeps beta",
    )
    output: Literal["linear", "bounded"] = Field(
        "linear", description="bounded keeps reconstructions between the data's bounds by a sigmoid"
    )
    residual: Literal["none", "isotropic"] = Field(
        "none",
        description="What decoding adds to the decoder's mean unless the call says otherwise: nothing, or the normal "
        "noise of the deviation that training found between events and reconstructions",
    )
    training: TrainingConfig = Field(TrainingConfig(steps=4000, batch_size=128), description="How it is trained")

    @model_validator(mode="after")
    def _beta_moves(self) -> VAEConfig:
        if self.target_kl is not None and self.beta == 0:
            raise ValueError("target_kl moves beta by factors, and beta is 0; set beta above 0, for example 0.01")
        return self
