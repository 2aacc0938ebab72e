"""The config of ``score:multiscale``. No torch here."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from scorefold.config import Inline, LogSNRConfig, Use
from scorefold_nonuniform.bands.config import BandedConfig


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
