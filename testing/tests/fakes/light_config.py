"""The configs of the fakes."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_serializer, field_validator

from scorefold.config import Config


class PlainConfig(Config):
    """A scale, which some fakes use."""

    scale: float = Field(1.0, gt=0, description="A factor")


class UndescribedConfig(Config):
    """A field that says nothing."""

    scale: float = 1.0


class BatchConfig(PlainConfig):
    """A size that should change no answer."""

    batch: int = Field(64, ge=1, description="Points at a time")


class FileConfig(PlainConfig):
    """A file to read."""

    path: str = Field(description="Where the file is")


class LooseModel(BaseModel):
    """No Config of ours."""

    scale: float = Field(1.0, description="A factor")


class OpenConfig(PlainConfig):
    """Takes any field."""

    model_config = ConfigDict(extra="allow")


class ForgetfulConfig(PlainConfig):
    """Loses its scale on the way through JSON."""

    @field_serializer("scale")
    def forget(self, scale: float) -> float:
        return scale + 1


class TorchConfig(PlainConfig):
    """Imports torch as soon as it is used."""

    @field_validator("scale")
    @classmethod
    def finite(cls, scale: Any) -> Any:
        import torch

        assert torch.isfinite(torch.tensor(scale))
        return scale
