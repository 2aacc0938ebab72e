"""Settings of the networks."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from scorefold.config import Config


class MLPConfig(Config):
    """A residual multi-layer perceptron on flattened events."""

    width: int = Field(512, ge=1, description="Units a hidden layer")
    blocks: int = Field(3, ge=0, le=1000, description="Residual blocks, each of two layers")
    activation: Literal["silu", "gelu", "relu", "elu", "tanh"] = Field("silu", description="Activation")
    dropout: float = Field(0.0, ge=0, lt=1, description="Share of units dropped in each block while training")


class AutoConfig(Config):
    """The network that fits the events: network:conv-unet for images of 8 x 8 and more, network:signal-unet for signals
    (C, L) of 16 values and more, network:mlp otherwise, each with its default settings. To set them, name the
    network."""


class _LevelsConfig(Config):
    """Common settings of U-Nets."""

    channels: tuple[int, ...] = Field(
        (32, 64, 64), min_length=1, description="Channels a level; each level halves the size"
    )
    blocks: int = Field(1, ge=1, le=100, description="Residual blocks a level")
    groups: int = Field(8, ge=1, description="Groups of the group normalisation; divides every number of channels")
    dropout: float = Field(0.0, ge=0, lt=1, description="Share of features dropped in each block while training")

    @model_validator(mode="after")
    def _divides(self) -> Self:
        wrong = [channels for channels in self.channels if channels < 1 or channels % self.groups]
        if wrong:
            raise ValueError(f"channels {wrong} are no multiples of groups = {self.groups}")
        return self


class ConvUNetConfig(_LevelsConfig):
    """A small U-Net in plain torch on images (C, H, W) or (H, W) of any size."""

    channels: tuple[int, ...] = Field(
        (32, 64, 128), min_length=1, description="Channels a level; each level halves the size"
    )
    attention: bool = Field(True, description="Self-attention at the coarsest level")


class SignalUNetConfig(_LevelsConfig):
    """A small U-Net in plain torch on signals (C, L) or (L,) of any length."""

    channels: tuple[int, ...] = Field(
        (16, 32, 64, 64, 64), min_length=1, description="Channels a level; each level halves the length"
    )
    attention: bool = Field(True, description="Self-attention at the coarsest level")


PlainUNetConfig = ConvUNetConfig | SignalUNetConfig


class SignalConvConfig(Config):
    """Residual blocks of dilated convolutions on signals (C, L) or (L,) of any length."""

    channels: int = Field(64, ge=1, description="Channels of every block")
    blocks: int = Field(5, ge=1, le=20, description="Residual blocks; each reads values twice as far apart as the last")
    groups: int = Field(8, ge=1, description="Groups of the group normalisation; divides channels")
    dropout: float = Field(0.0, ge=0, lt=1, description="Share of features dropped in each block while training")

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.channels % self.groups:
            raise ValueError(f"channels is {self.channels}; expected a multiple of groups, {self.groups}")
        return self


class UNetConfig(_LevelsConfig):
    """diffusers' UNet2DModel on images (C, H, W) or (H, W) of any size."""

    attention: tuple[int, ...] = Field((), description="Levels with self-attention, counted from 0, the finest")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        unknown = [level for level in self.attention if not 0 <= level < len(self.channels)]
        if unknown:
            raise ValueError(f"attention names levels {unknown}; there are levels 0 to {len(self.channels) - 1}")
        return self
