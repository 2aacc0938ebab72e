"""Convolutional networks of signals (C, L): a U-Net, and a stack of dilated convolutions."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn
from torch.nn import functional

from scorefold_standard.config import SignalConvConfig, SignalUNetConfig
from scorefold_standard.networks.unet import LEVEL_WIDTH, ConvBlock, OfMaps, PlainUNet, SpatialNetwork, zero_initialised
from scorefold_toolkit.nn import FourierEmbedding

_SIGNALS = "signals (C, L) or (L,)"


class SignalConvUNet(SpatialNetwork):
    """x (B, *in_shape) to (B, *out_shape) by ``PlainUNet``; see ``SpatialNetwork`` for lengths and conditions."""

    axes = 1

    def core(self, config: SignalUNetConfig, given: int, out: int, embedded: bool) -> nn.Module:
        return PlainUNet(config, given, out, axes=1)

    def answer(self, x: Tensor, level: Tensor, labels: Tensor | None) -> Tensor:
        return cast(Tensor, self.unet(x, level, labels))


class SignalUNet(OfMaps):
    """Builds ``SignalConvUNet`` modules for signals (C, L) or (L,).

    >>> import torch
    >>> from scorefold_registry import Host
    >>> unet = Host.discover().create("network:signal-unet", {"channels": [8, 8], "groups": 4})
    >>> unet.build((1, 30), (2, 30), time=True)(torch.zeros(4, 1, 30), torch.zeros(4)).shape
    torch.Size([4, 2, 30])
    """

    module = SignalConvUNet
    takes = _SIGNALS


class DilatedConvolutions(nn.Module):
    """x (B, given, L), noise levels (B,) and perhaps labels (B, width) to (B, out, L) by residual blocks.

    Block i reads values 2^i apart (van den Oord et al. 2016), so that n blocks reach 2 (2^n - 1) values to either side.
    """

    def __init__(self, config: SignalConvConfig, given: int, out: int) -> None:
        super().__init__()
        channels, width = config.channels, 4 * config.channels
        self.level = FourierEmbedding(LEVEL_WIDTH)
        self.embedding = nn.Sequential(nn.Linear(LEVEL_WIDTH, width), nn.SiLU(), nn.Linear(width, width))
        self.first = nn.Conv1d(given, channels, 3, padding=1)
        self.blocks = nn.ModuleList(
            ConvBlock(channels, channels, width, config.groups, config.dropout, axes=1, dilation=2**number)
            for number in range(config.blocks)
        )
        last = zero_initialised(nn.Conv1d(channels, out, 3, padding=1))
        self.last = nn.Sequential(nn.GroupNorm(config.groups, channels), nn.SiLU(), last)

    def forward(self, x: Tensor, level: Tensor, labels: Tensor | None = None) -> Tensor:
        embedding = self.embedding(self.level(level))
        embedding = functional.silu(embedding if labels is None else embedding + labels)
        x = self.first(x)
        for block in self.blocks:
            x = block(x, embedding)
        return cast(Tensor, self.last(x))


class SignalConvolutions(SpatialNetwork):
    """x (B, *in_shape) to (B, *out_shape) by ``DilatedConvolutions``; see ``SpatialNetwork`` for conditions."""

    axes = 1

    def multiple(self, config: Any) -> int:
        return 1

    def width(self, config: SignalConvConfig) -> int:
        return 4 * config.channels

    def core(self, config: SignalConvConfig, given: int, out: int, embedded: bool) -> nn.Module:
        return DilatedConvolutions(config, given, out)

    def answer(self, x: Tensor, level: Tensor, labels: Tensor | None) -> Tensor:
        return cast(Tensor, self.unet(x, level, labels))


class SignalConv(OfMaps):
    """Builds ``SignalConvolutions`` modules for signals (C, L) or (L,).

    >>> import torch
    >>> from scorefold_registry import Host
    >>> network = Host.discover().create("network:signal-conv", {"channels": 8, "blocks": 2, "groups": 4})
    >>> network.build((1, 30), (2, 30), time=True)(torch.zeros(4, 1, 30), torch.zeros(4)).shape
    torch.Size([4, 2, 30])
    """

    module = SignalConvolutions
    takes = _SIGNALS
