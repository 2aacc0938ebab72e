"""Settings of the auto-encoders by diffusion. No torch here: run files are checked before it is imported."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from scorefold.config import Config, Inline, TrainingConfig, Use
from scorefold_toolkit.config.common import LevelsConfig


class DecodingConfig(Config):
    """Default settings of decoding."""

    sampler: Literal["euler-maruyama", "predictor-corrector", "heun", "edm", "ddim", "dpmpp-2m"] | None = Field(
        None,
        description="Sampler from noise to event. null is edm for processes whose signal stays whole (edm, ve). It is "
        "heun for others, and for given noise, such as encode_noise returns",
    )
    steps: int = Field(32, ge=1, description="Steps of the sampler")
    spacing: Literal["uniform", "log-snr", "karras"] = Field("karras", description="Spacing of the time grid")
    guidance: float = Field(
        1.0, ge=0, description="Weight of the code's part of the score: 1 is Bayes' rule, 0 the prior without the code"
    )


class DiffusedLossConfig(Config):
    """The data term: how times are drawn and how errors at them weigh."""

    weighting: Literal["sigma2", "edm", "likelihood"] = Field(
        "sigma2",
        description="sigma2 weighs squared errors of the noise alike at all times; edm weighs them as the defaults of "
        "score:denoising do, at log-normal levels of noise, and suits processes whose time is their noise; likelihood "
        "makes the loss the evidence lower bound, which stores all it can in the code for any beta below 1",
    )
    noise_levels: LevelsConfig | None = Field(
        None,
        description="Distribution of the noise levels that weighting: edm trains at; null is log-normal, as in the "
        "defaults of score:denoising. At high noise an error is half the squared error of the event, as in a VAE",
    )
    times: Literal["stratified", "log-snr"] = Field(
        "stratified",
        description="Times uniform in t and spread over the batch; log-snr draws them uniform in the log-SNR and "
        "reweighs, which is importance sampling for the likelihood weighting",
    )

    @model_validator(mode="after")
    def _fits(self) -> DiffusedLossConfig:
        if self.times == "log-snr" and self.weighting != "likelihood":
            raise ValueError("times: log-snr is importance sampling for weighting: likelihood; set both, or neither")
        if self.noise_levels is not None and self.weighting != "edm":
            raise ValueError(f"noise_levels are those of weighting: edm, and weighting is {self.weighting}")
        return self


class ScoreVAEConfig(DiffusedLossConfig):
    """An encoder for a frozen score model."""

    latent: int = Field(ge=1, description="Number of coordinates of the code")
    encoder: Inline("network") = Field(  # type: ignore[valid-type]
        Use(use="network:mlp"),
        description="The encoder's network, differentiable twice: network:mlp or network:half-unet",
    )
    corrector: Inline("network") | None = Field(  # type: ignore[valid-type]
        None,
        description="A network of x_t, t and the code that is added to the gradient of the encoder's density and "
        "trained together with the encoder; null leaves that to score:scorevae-plus",
    )
    encoder_time: Literal["log-snr", "linear"] = Field(
        "log-snr",
        description="The time as the encoder gets it: the noise level log(scale / signal), or t itself, from -10 "
        "at the first to 10 at the last time",
    )
    beta: float = Field(0.01, ge=0, description="Weight of the code's KL divergence from N(0, I)")
    beta_warmup: float = Field(0.1, ge=0, le=1, description="Share of the training over which beta rises from 0")
    logdet: bool = Field(
        True,
        description="Keep the log-determinant in the gradient of ln q(z | x_t, t); the authors' code leaves it out",
    )
    prior_class: int | None = Field(
        None, ge=0, description="Class that a class-conditional prior is given; null gives it no condition"
    )
    prior_precision: Literal["no", "bf16"] = Field(
        "no",
        description="bf16 runs the frozen prior in half precision while the encoder trains, which stays in full; what "
        "is decoded is in full",
    )
    checkpoint: bool = Field(
        False, description="Compute the encoder's activations again in the backward pass, which saves their memory"
    )
    decoding: DecodingConfig = Field(DecodingConfig(), description="How codes are decoded")
    training: TrainingConfig = Field(
        TrainingConfig(steps=4000, batch_size=128), description="How the encoder is trained"
    )


class ScoreVAEPlusConfig(DiffusedLossConfig):
    """A corrector of a trained ScoreVAE."""

    network: Inline("network") = Field(Use(use="network:mlp"), description="The corrector's network")  # type: ignore[valid-type]
    code_decoder: Inline("network") | None = Field(  # type: ignore[valid-type]
        None,
        description="A network from codes to images, network:conv-decoder or network:mirror-decoder: the network is "
        "then shown the code as an image beside the event; null shows it the code itself",
    )
    encoder_term: bool = Field(
        True,
        description="Keep the gradient of the encoder's log-density; without it the corrector alone brings the code "
        "in, as in PDAE",
    )
    decoding: DecodingConfig = Field(DecodingConfig(), description="How codes are decoded")
    training: TrainingConfig = Field(
        TrainingConfig(steps=4000, batch_size=128), description="How the corrector is trained"
    )
