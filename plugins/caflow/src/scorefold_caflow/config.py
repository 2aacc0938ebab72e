"""Settings of image flows and of the data. No torch here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from scorefold.config import Config, TrainingConfig
from scorefold_toolkit.config.common import FRACTIONS, Fractions, Points, Seed


class StepsConfig(Config):
    """The steps of one block: normalisation, channel mixing and coupling, so many times."""

    steps: int = Field(4, ge=0, description="Steps of a block, each with a coupling")
    transitions: int = Field(1, ge=0, description="Steps without a coupling at the block's start (SRFlow's)")
    hidden: int = Field(32, ge=1, description="Channels of the couplings' networks")
    coupling: Literal["affine", "mixture"] = Field(
        "affine", description="affine, or mixtures of logistics (Flow++), whose inverse is a search"
    )
    components: int = Field(4, ge=1, description="Logistics in a mixture")
    bound: float = Field(1.0, gt=0, description="Largest log-scale of couplings and injectors, to either side of 0")
    linear: Literal["lu", "orthogonal"] = Field(
        "lu",
        description="Channel mixing: any matrix by LU, or a rotation, whose inverse is exact for hundreds of channels",
    )


class EncoderConfig(StepsConfig):
    """The flow that turns an image into its latents, scale by scale."""

    steps: int = Field(4, ge=0, description="Steps of a scale, each with a coupling; 0 leaves the squeezes alone")
    transitions: int = Field(2, ge=0, description="Steps without a coupling at a scale's start (SRFlow's)")


class ImageFlowConfig(Config):
    """Common settings of conditional flows of images."""

    scales: int = Field(2, ge=1, le=8, description="Scales: height and width are halved so many times")
    squeeze: Literal["pixels", "haar"] = Field(
        "pixels", description="How a scale halves its image: the four pixels of a cell, or its four Haar bands"
    )
    preprocess: Literal["standardise", "logit"] = Field(
        "standardise", description="Events minus their mean over their deviation, or the logit of data with bounds"
    )
    logit_margin: float = Field(
        0.01, gt=0, lt=0.5, description="Share of the range that the logit leaves out at both ends together"
    )
    dequantisation: Literal["uniform", "variational"] = Field(
        "uniform", description="Noise within a level of discrete data: uniform, or a flow's given the image (Flow++)"
    )
    recompute: Literal["no", "checkpoint", "inverse"] = Field(
        "no",
        description="What training keeps of a block: all; its input alone, computed forward again; or its output "
        "alone, computed back by the inverse",
    )
    training: TrainingConfig = Field(
        TrainingConfig(steps=2000, batch_size=64, learning_rate=2e-3), description="How it is trained"
    )


class LatentTranslationConfig(ImageFlowConfig):
    """Two encoders, and flows of the event's latents given the condition's."""

    encoder: EncoderConfig = Field(EncoderConfig(), description="The encoders of event and condition")
    translation: StepsConfig = Field(StepsConfig(steps=4), description="The flows of latents given latents")
    adapter: int | None = Field(
        None,
        ge=1,
        description="Channels that a convolution, one for all steps of a block, brings the block's condition to; null "
        "gives every step the condition itself",
    )
    condition_weight: float = Field(
        1e-3, ge=0, description="lambda, the weight of the condition's own log-likelihood in the loss"
    )
    condition_size: Literal["native", "event"] = Field(
        "native",
        description="Encode a condition image as it is, or brought to the event's size: the pixels of a cell as "
        "channels where it divides, the nearest pixel otherwise",
    )
    order: Literal["joint", "staged", "staged-joint"] = Field(
        "joint",
        description="Train all at once; the encoders by their own likelihoods and then the rest with them frozen; or "
        "the same with all at once at the end",
    )

    @model_validator(mode="after")
    def _has_steps(self) -> LatentTranslationConfig:
        _check_seen("translation", self.translation)
        return self


class CAFLOWConfig(LatentTranslationConfig):
    """Every latent given the coarser latents of its own image, and the latents of the condition that are not finer."""

    coarser: Literal["levels", "entry"] = Field(
        "levels",
        description="Where the flow of a latent sees coarser ones: at a level of their own each, as published; or all "
        "at its first level, the only one then",
    )
    shared: bool = Field(
        False, description="One flow a scale for all finer latents, which then run as one batch (coarser: levels)"
    )

    @model_validator(mode="after")
    def _shares_levels(self) -> CAFLOWConfig:
        if self.shared and self.coarser == "entry":
            raise ValueError(
                "shared: true was given with coarser: entry, which has no levels to share; leave out shared, or set "
                "coarser: levels"
            )
        return self


class DualGlowConfig(LatentTranslationConfig):
    """Every latent given the condition's latent of its own scale alone."""


class CINNConfig(ImageFlowConfig):
    """One flow of the event whose couplings see features of the condition."""

    flow: StepsConfig = Field(StepsConfig(steps=4, transitions=2), description="The flow of the event, scale by scale")
    features: int = Field(32, ge=1, description="Channels of the condition's features at each scale")
    injectors: bool = Field(False, description="An affine injector of the features at every step too")

    @model_validator(mode="after")
    def _has_steps(self) -> CINNConfig:
        _check_seen("flow", self.flow)
        return self


def _check_seen(name: str, config: StepsConfig) -> None:
    if config.steps < 1:
        raise ValueError(f"{name}.steps is 0, so nothing would see the condition; expected 1 or more")


class GaussianPairsConfig(Config):
    """Images of a Gaussian field, and what is left of them as the condition."""

    size: int = Field(8, ge=2, description="Height and width")
    length: float = Field(
        3.0, gt=0, description="Length over which the field's correlation falls by a factor e, in pixels"
    )
    nugget: float = Field(0.01, ge=0, description="Variance of a pixel's own, beside the field's of 1")
    task: Literal["super-resolution", "inpainting"] = Field(
        "super-resolution", description="The condition: the means of cells, at every pixel of theirs; or the left half"
    )
    factor: int = Field(2, ge=2, description="Pixels a side of a cell (super-resolution)")
    noise_variance: float = Field(0.05, gt=0, description="Variance of the noise on every pixel of the condition")
    points: Points = 50_000
    fractions: Fractions = FRACTIONS
    seed: Seed = None

    @model_validator(mode="after")
    def _divides(self) -> GaussianPairsConfig:
        if self.task == "super-resolution" and self.size % self.factor:
            raise ValueError(f"factor is {self.factor}, which does not divide size {self.size}")
        return self
