"""Settings of the geometry. No torch here."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from scorefold.config import Config


class EuclideanConfig(Config):
    """Euclidean space."""

    event_shape: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(
        None,
        min_length=1,
        description="The shape of an event, such as [3] or [1, 8, 8]; null takes it from the data plugged in",
    )
