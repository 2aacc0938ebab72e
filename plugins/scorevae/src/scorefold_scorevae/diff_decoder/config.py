"""Settings of the diffusion decoder that is trained from scratch. No torch here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from scorefold.config import Inline, ProcessConfig, TrainingConfig, Use, VEConfig
from scorefold_scorevae.scorevae.config import DecodingConfig, DiffusedLossConfig


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
