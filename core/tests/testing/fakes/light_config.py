"""The configs of the fakes."""

from __future__ import annotations

from pydantic import Field

from scorefold.config import Config


class PlainConfig(Config):
    """A scale, which some fakes use."""

    scale: float = Field(1.0, gt=0, description="A factor")


class UndescribedConfig(Config):
    """A field that says nothing."""

    scale: float = 1.0
