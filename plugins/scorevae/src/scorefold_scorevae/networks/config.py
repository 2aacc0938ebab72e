"""Settings of the networks between images and vectors. No torch here."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from scorefold.config import Config


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
