"""Settings of the models, networks, geometry and data. No torch here."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from scorefold.config import Config, Inline, ProcessConfig, TrainingConfig, Use, VEConfig
from scorefold_toolkit.config.common import FRACTIONS, Fractions, LevelsConfig, Points, Seed, SolvedConfig, SolverConfig


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
            raise ValueError(f"noise_levels needs weighting: edm, and weighting is {self.weighting}")
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


class DiffDecoderConfig(DiffusedLossConfig):
    """A conditional score model and the encoder of its condition, trained together from scratch."""

    latent: int = Field(ge=1, description="Number of coordinates of the code")
    encoder: Inline("network") = Field(  # type: ignore[valid-type]
        Use(use="network:mlp"),
        description="The encoder's network, from events to the code: network:mlp or, for images, network:half-unet",
    )
    network: Inline("network") = Field(  # type: ignore[valid-type]
        Use(use="network:mlp"), description="The score's network, from noised event and code to event"
    )
    code_decoder: Inline("network") | None = Field(  # type: ignore[valid-type]
        None,
        description="A network from codes to images, network:conv-decoder or network:mirror-decoder: the network is "
        "then shown the code as an image beside the event; null shows it the code itself",
    )
    process: ProcessConfig = Field(VEConfig(), description="The diffusion, by name or with its settings")
    prediction: Literal["eps", "edm", "x0", "v"] = Field(
        "edm",
        description="Prediction: the noise (eps), a correction of the best linear guess (edm), the datum "
        "(x0), or the velocity (v)",
    )
    beta: float = Field(
        0.01,
        ge=0,
        description="Weight of the code's KL divergence from N(0, I); 0 leaves the code deterministic",
    )
    beta_warmup: float = Field(0.1, ge=0, le=1, description="Share of the training over which beta rises from 0")
    condition_dropout: float = Field(
        0.0, ge=0, lt=1, description="Share of training points whose code is left out; above 0 allows guidance"
    )
    decoding: DecodingConfig = Field(DecodingConfig(), description="How codes are decoded")
    training: TrainingConfig = Field(TrainingConfig(steps=4000, batch_size=128), description="How both are trained")


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


class PathConfig(Config):
    """Levels of residual blocks, each level at half the size of the one before."""

    channels: tuple[int, ...] = Field(
        (32, 64, 64), min_length=1, description="Channels a level, the finest first; each level halves the size"
    )
    blocks: int = Field(2, ge=1, le=100, description="Residual blocks a level")
    attention: tuple[int, ...] = Field((), description="Levels with self-attention, counted from 0, the finest")
    middle_attention: bool = Field(True, description="Self-attention between the two blocks at the coarsest size")
    groups: int = Field(
        8, ge=1, description="Groups of the group normalisation, of two channels or more; divides every number of them"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="Share of features dropped in each block while training")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        # A group of one channel at one pixel is normalised to 0, whatever it held.
        wrong = [channels for channels in self.channels if channels < 2 * self.groups or channels % self.groups]
        if wrong:
            raise ValueError(
                f"channels {wrong} with groups = {self.groups}; expected multiples of it, twice groups or more"
            )
        unknown = [level for level in self.attention if not 0 <= level < len(self.channels)]
        if unknown:
            raise ValueError(f"attention names levels {unknown}; there are levels 0 to {len(self.channels) - 1}")
        return self


class HalfUNetConfig(PathConfig):
    """The down path of a U-Net, from images of any size to a vector: an encoder that may be differentiated twice."""


class ConvDecoderConfig(Config):
    """Transposed convolutions alone, from a vector to images: the small decoder of the authors' code."""

    channels: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (64, 128), min_length=1, description="Channels a level, the level at half of the image's size first"
    )


class MirrorDecoderConfig(PathConfig):
    """The way back, from a vector to images of any size: the half U-Net's mirror image."""


class DecoderGeometryConfig(SolvedConfig):
    """Codes measured by what a decoder makes of them."""

    target: str | None = Field(
        None,
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$",
        description="module:function from codes (B, dimension) to events, in place of a model",
    )
    dimension: int | None = Field(None, ge=1, description="Coordinates of a code, where 'target' is given")
    decoding: dict[str, Any] = Field(
        default_factory=dict, description="Options of the model's 'decode' by the names that it knows, such as steps"
    )

    solver: SolverConfig = Field(SolverConfig(tolerance=1e-10), description="Settings of the solver")

    @model_validator(mode="before")
    @classmethod
    def _names(cls, values: Any) -> Any:
        for old, new in (("tolerance", "solver: {tolerance: 1e-10}"), ("nodes", "solver: {points: 64}")):
            if isinstance(values, dict) and old in values:
                raise ValueError(f"there is no setting {old!r} any more, since all geometries have one solver; {new}")
        return values

    @model_validator(mode="after")
    def _both(self) -> DecoderGeometryConfig:
        if (self.target is None) != (self.dimension is None):
            raise ValueError("target names a function and dimension the size of its codes: set both, or neither")
        return self


class TexturedBlobsConfig(Config):
    """Images (1, size, size): a blob on a grid of centres, under a Gaussian texture."""

    size: int = Field(8, ge=4, le=64, description="Height and width in pixels")
    centres: int = Field(
        16,
        ge=1,
        le=64,
        description="Centres a side, evenly from pixel 1 to size - 2: this number squared, equally likely",
    )
    width: float = Field(1.5, gt=0, description="Standard deviation of a blob in pixels")
    texture: float = Field(0.15, gt=0, description="Variance of each fine cosine of the texture")
    smooth: float = Field(0.002, gt=0, description="Variance of each coarse cosine")
    cutoff: float = Field(
        4.0,
        ge=0,
        description="Cosines (i, j) are fine where the root of i^2 + j^2 is above this, in half-cycles an image",
    )
    points: Points = 20_000
    fractions: Fractions = FRACTIONS
    seed: Seed = None
