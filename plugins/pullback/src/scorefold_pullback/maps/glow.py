"""Glow for geometries: all levels of an image stay one image (Kingma and Dhariwal 2018, without their split)."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor, nn

from scorefold.errors import ConfigError
from scorefold_pullback.maps.config import GlowMapConfig
from scorefold_toolkit.nn import (
    ACTIVATIONS,
    ActNorm,
    AffineCoupling,
    Bijection,
    Chain,
    Householder,
    LULinear,
    Squeeze,
    check_divisible,
    coupling_halves,
    squeeze,
    unsqueeze,
)
from scorefold_toolkit.nn.networks import Activation


class Flattened(Bijection):
    """A bijection of vectors (B, D) on events (B, *E) with D coordinates, which it takes in memory's order."""

    def __init__(self, inner: Bijection) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z, log_det = self.inner(x.flatten(1), condition)
        return z.reshape(x.shape), log_det

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x, log_det = self.inner.inverse(z.flatten(1), condition)
        return x.reshape(z.shape), log_det

    def initialise(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.inner.initialise(x.flatten(1), condition).reshape(x.shape)


def on_vectors(shape: tuple[int, ...], make: Callable[[int], Bijection]) -> Bijection:
    """``make(D)``, a bijection of vectors, on events of a shape with D coordinates."""
    inner = make(math.prod(shape))
    return inner if len(shape) == 1 else Flattened(inner)


class Unsqueeze(Bijection):
    """(B, 4C, H, W) to (B, C, 2H, 2W): the inverse of ``Squeeze``."""

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return unsqueeze(x), x.new_zeros(())

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return squeeze(z), z.new_zeros(())


def glow_map(config: GlowMapConfig, shape: tuple[int, ...]) -> Bijection:
    """``levels`` of (squeeze, ``steps`` of normalisation, channel mixing and affine coupling, channel mixing), then
    every squeeze undone. Raises ``ConfigError`` for events that are no images or can't be halved ``levels`` times.
    """
    if len(shape) != 3:
        raise ConfigError(
            f"map: glow needs images (C, H, W); events have shape {shape}", hint="map: coupling takes any shape"
        )
    check_divisible(shape, 2**config.levels, f"a glow map of {config.levels} levels")
    layers: list[Bijection] = []
    channels = shape[0]
    for _ in range(config.levels):
        channels *= 4
        layers.append(Squeeze())
        for step in range(config.steps):
            layers += [ActNorm(channels), _mixing(config, channels), _coupling(config, channels, swap=step % 2 == 1)]
        layers.append(_mixing(config, channels))
    return Chain([*layers, *(Unsqueeze() for _ in range(config.levels))])


def _mixing(config: GlowMapConfig, channels: int) -> Bijection:
    return LULinear(channels) if config.linear == "lu" else Householder(channels)


def _coupling(config: GlowMapConfig, channels: int, *, swap: bool) -> Bijection:
    kept, moved = coupling_halves(channels, swap)
    network = ConvResidualNetwork(kept, 2 * moved, config.channels, config.blocks, config.activation)
    return AffineCoupling(channels, network, swap=swap, bound=config.scale_bound)


class ConvResidualNetwork(nn.Module):
    """(B, channels, H, W) to (B, out, H, W): a 1x1 convolution, residual blocks, a 1x1 convolution that starts at 0."""

    def __init__(self, channels: int, out: int, width: int, blocks: int, activation: Activation) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, width, 1)
        self.blocks = nn.ModuleList(ConvResidualBlock(width, activation) for _ in range(blocks))
        self.last = nn.Conv2d(width, out, 1)
        _start_at_zero(self.last)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        h = self.first(x)
        for block in self.blocks:
            h = block(h)
        result: Tensor = self.last(h)
        return result


class ConvResidualBlock(nn.Module):
    """h + W2 a(W1 a(h)) by 3x3 convolutions, which starts as the identity."""

    def __init__(self, width: int, activation: Activation) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        _start_at_zero(self.second)

    def forward(self, h: Tensor) -> Tensor:
        change: Tensor = self.second(self.activation(self.first(self.activation(h))))
        return h + change


def _start_at_zero(layer: nn.Conv2d) -> None:
    assert layer.bias is not None
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
