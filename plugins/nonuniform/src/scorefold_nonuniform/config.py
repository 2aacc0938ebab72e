"""Settings of bands, of the score models on them, and of the data. No torch here."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from scorefold.config import Config, Inline, LogSNRConfig, ProcessConfig, TrainingConfig, Use
from scorefold_toolkit.config.common import (
    FRACTIONS,
    AnyWeighting,
    DenoisingLossConfig,
    Fractions,
    Points,
    Seed,
    WeightingConfig,
)

Levels = Annotated[int, Field(ge=1, description="Levels: each halves the height and width of the coarse part")]
Size = Annotated[int, Field(ge=1)]
Groups = Annotated[
    Annotated[int, Field(ge=1)] | tuple[Size, ...],
    Field(description="Number of bands of equal size, or the size of each from the finest to the coarsest"),
]


class HaarBandsConfig(Config):
    """The orthonormal Haar transform of images: bands d1 (finest), ..., dL, aL."""

    name: Literal["haar"] = "haar"
    levels: Levels = 2


class WaveletBandsConfig(Config):
    """Another orthogonal wavelet of PyWavelets, periodic at the borders: bands d1, ..., dL, aL."""

    name: Literal["wavelet"] = "wavelet"
    wavelet: str = Field("db2", description="Its name in PyWavelets: db1 to db38, sym2 to sym20, coif1 to coif17")
    levels: Levels = 2


class DCTBandsConfig(Config):
    """The orthonormal cosine transform of whole images, frequencies parted in octaves: bands d1, ..., dL, aL."""

    name: Literal["dct"] = "dct"
    levels: Levels = 2


class FourierBandsConfig(Config):
    """The real orthonormal Fourier basis of periodic images; the bands are rings of |k|, in cycles an image."""

    name: Literal["fourier"] = "fourier"
    rings: Annotated[int, Field(ge=1)] | tuple[float, ...] = Field(
        3,
        description="Number of rings, parted at halves, quarters, ... of the highest frequency; or the |k| at which "
        "each ring but the innermost begins, from the finest on, such as [8, 4]",
    )

    @field_validator("rings")
    @classmethod
    def _inwards(cls, rings: int | tuple[float, ...]) -> int | tuple[float, ...]:
        if not isinstance(rings, int) and list(rings) != sorted({edge for edge in rings if edge > 0}, reverse=True):
            raise ValueError(f"the rings begin at {list(rings)}; expected decreasing numbers above 0")
        return rings


class PCABandsConfig(Config):
    """The principal axes of the training points; bands of axes from the least variance to the most."""

    name: Literal["pca"] = "pca"
    groups: Groups = 3


class LearnedBandsConfig(Config):
    """A learned orthogonal matrix, a product of reflections; bands of its coefficients."""

    name: Literal["learned"] = "learned"
    groups: Groups = 3
    reflections: int = Field(
        16, ge=2, multiple_of=2, description="Reflections in the product: even, so that it can start at the identity"
    )
    start: Literal["pixels", "pca"] = Field(
        "pca", description="What it starts from: the event as it is, or the principal axes of the training points"
    )


class PixelsBandsConfig(Config):
    """The event as it is, its coordinates in runs; the first is band 1, the fastest."""

    name: Literal["pixels"] = "pixels"
    groups: Groups = 1


def _as_bands(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


_Bands = Annotated[
    HaarBandsConfig
    | WaveletBandsConfig
    | DCTBandsConfig
    | FourierBandsConfig
    | PCABandsConfig
    | LearnedBandsConfig
    | PixelsBandsConfig,
    Field(discriminator="name"),
]
_Name = Literal["haar", "wavelet", "dct", "fourier", "pca", "learned", "pixels"]
BandsConfig = Annotated[_Bands, BeforeValidator(_as_bands, json_schema_input_type=_Bands | _Name)]
"""Bands in a run file: ``bands: {name: haar, levels: 3}``, or just ``bands: dct``."""


class BandedConfig(DenoisingLossConfig):
    """Settings of both models: bands of an orthonormal transform, each with a speed of its own."""

    bands: BandsConfig = Field(
        HaarBandsConfig(), description="The transform, and which of its coefficients diffuse together"
    )
    process: ProcessConfig = Field(
        LogSNRConfig(),
        description="The schedule that every band runs through, each at its own speed; the log-SNRs of log-snr are for "
        "data of unit deviation",
    )
    ends: tuple[float, ...] | None = Field(
        None,
        description="The time at which each band has become noise, the finest first and the last at 1; null spaces "
        "them equally",
    )
    boundary: Literal["matched", "normal"] = Field(
        "matched",
        description="What a band is drawn from when it enters: a normal distribution with the mean and variance that "
        "the data have there by then (matched), or the one that the schedule ends with (normal)",
    )
    weighting: AnyWeighting = Field(
        WeightingConfig(name="simple"),
        description="Weighting of errors, by name or with settings: simple is the published weighting up to a factor "
        "per band, and gives better samples; edm weighs all noise levels equally",
    )
    condition_dropout: float = Field(
        0.0, ge=0, lt=1, description="Share of training points whose condition is left out; above 0 allows guidance"
    )
    training: TrainingConfig = Field(TrainingConfig(), description="How it is trained")

    @model_validator(mode="after")
    def _ends_increase(self) -> Self:
        ends = self.ends
        if ends is not None and (not ends or list(ends) != sorted(ends) or ends[0] <= 0 or ends[-1] != 1):
            raise ValueError(f"ends are {list(ends)}; expected times above 0 that do not decrease, the last of them 1")
        return self


class MultiScaleConfig(BandedConfig):
    """A network a scale: fine bands are noise early, and from then on smaller networks see only what is left."""

    network: Inline("network") = Field(  # type: ignore[valid-type]
        Use(use="network:unet"), description="The network of every scale, where 'networks' gives none"
    )
    networks: tuple[Inline("network"), ...] = Field(  # type: ignore[valid-type]
        (), description="A network for each scale, the finest first; empty for 'network' at all scales"
    )
    construction: Literal["ours", "published"] = Field(
        "ours",
        description="ours: networks see centred bands of unit size and the log-SNR of each, and correct the best "
        "linear guess; published: the noised bands as they are and the time, and they give the noise",
    )
    boundary_kl: float | None = Field(
        None,
        gt=0,
        description="Nats that the boundaries may cost together, by a bound that holds for any data: sets how noisy "
        "each band ends; null for the process' own end",
    )
    budget_sets: Literal["noise", "ends"] = Field(
        "noise",
        description="What boundary_kl sets: the log-SNR at which each band ends (noise), or how soon it ends at the "
        "speed that it has (ends)",
    )
    scale_steps: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(
        None,
        description="Training steps of each scale, the finest first; null gives each an equal part of "
        "training.steps, whichever are trained here",
    )
    train: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(
        None, description="The scales to train here, 1 the finest; null for all that no plugged part has trained"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.construction == "published" and (self.boundary != "normal" or self.boundary_kl is not None):
            raise ValueError("the published construction has boundary: normal and no boundary_kl; set them so")
        if self.boundary_kl is not None and not isinstance(self.process, LogSNRConfig):
            raise ValueError(f"boundary_kl needs process: log-snr, and this one is {self.process.name}")
        if self.train is not None and (not self.train or len(set(self.train)) < len(self.train)):
            raise ValueError(f"train is {list(self.train)}; expected one scale at least, and each once")
        return self


class NonUniformConfig(BandedConfig):
    """One network for all bands, each at its own speed."""

    network: Inline("network") = Field(  # type: ignore[valid-type]
        Use(use="network:unet"), description="The network, from noised event and the log-SNR of each band to event"
    )


class GaussianFieldConfig(Config):
    """Periodic Gaussian images (1, size, size) with power (1 + |k|^2)^-decay and unit variance of a pixel."""

    size: int = Field(16, ge=2, le=64, description="Height and width in pixels")
    decay: float = Field(1.5, ge=0, description="How fast power falls with frequency; 0 is white noise")
    mean: float = Field(0.0, description="Mean of every pixel")
    points: Points = 5000
    fractions: Fractions = FRACTIONS
    seed: Seed = None
