"""How a model draws, as options of whatever verb draws from one. No torch here."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from scorefold.config import Config

_RESERVED = ("n", "condition", "steps", "sampler", "spacing", "to_zero", "guidance", "generator")


class DrawingOptions(Config):
    """How a model draws."""

    steps: (
        Annotated[int, Field(ge=1)] | Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] | None
    ) = Field(
        None,
        description="Steps of the sampler (score models): a number, shared out over the process' intervals, or a list "
        "with a number for each interval, from noise to data; null is what the model takes, as "
        "many as need 36 network calls for most",
    )
    sampler: Literal["edm", "heun", "dpmpp-2m", "ddim", "euler-maruyama", "predictor-corrector"] | None = Field(
        None,
        description="Sampler (score models); null is what the model takes, edm for most, dpmpp-2m for models by bands",
    )
    spacing: Literal["karras", "log-snr", "uniform"] | None = Field(
        None,
        description="How the sampler's times are spaced (score models); null is what the model takes, karras for most",
    )
    to_zero: bool | None = Field(
        None,
        description="Whether a last call takes away the noise that is left at the smallest time (score models); null "
        "is what the model does, true for most",
    )
    guidance: float = Field(1.0, ge=0, description="Weight of the conditional score against the unconditional one")
    temperature: Annotated[float, Field(ge=0)] | tuple[Annotated[float, Field(ge=0)], ...] = Field(
        1.0, description="Scale of the base's deviations (flows): one number, or one for each of the flow's latents"
    )
    sampling: dict[str, Any] = Field(
        default_factory=dict,
        description="Further sampling options of the model, by the names that its 'bind' or 'sample' knows, such as "
        "condition_noise (score models)",
    )

    @field_validator("sampling")
    @classmethod
    def _further(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if name in _RESERVED:
                raise ValueError(f"sampling holds {name!r}; write {name} next to sampling, not in it")
        return value
