"""A small U-Net in plain torch: convolutions, scales and shifts by the noise level, attention at the coarsest level."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from scorefold_standard.config.networks import ConvUNetConfig
from scorefold_standard.networks.images import ImageNetwork, OfImages
from scorefold_toolkit.nn import FourierEmbedding

_LEVEL_WIDTH = 32


class _Block(nn.Module):
    """A residual block: two convolutions, the features between them scaled and shifted by an embedding."""

    def __init__(self, given: int, out: int, embedded: int, groups: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.GroupNorm(groups, given), nn.SiLU(), nn.Conv2d(given, out, 3, padding=1))
        self.norm = nn.GroupNorm(groups, out)
        self.modulation = nn.Linear(embedded, 2 * out)
        self.last = nn.Sequential(nn.SiLU(), nn.Dropout(dropout), _silent(nn.Conv2d(out, out, 3, padding=1)))
        self.skip = nn.Conv2d(given, out, 1) if given != out else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, 1)
        changed = self.last(self.norm(self.first(x)) * (1 + scale) + shift)
        return cast(Tensor, self.skip(x) + changed)


class _Attention(nn.Module):
    """Self-attention of all pixels with one head, in operations that may be differentiated twice and forwards."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels)
        self.inner = nn.Conv2d(channels, 3 * channels, 1)
        self.out = _silent(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.inner(self.norm(x)).flatten(2).chunk(3, 1)
        weights = (query.transpose(1, 2) @ key / math.sqrt(x.shape[1])).softmax(2)
        found = value @ weights.transpose(1, 2)
        return cast(Tensor, x + self.out(found.reshape(x.shape)))


def _silent(layer: nn.Conv2d) -> nn.Conv2d:
    """The layer with a zero answer to begin with."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class PlainUNet(nn.Module):
    """x (B, given, H, W), noise levels (B,) and perhaps labels (B, width) to (B, out, H, W); H and W halve evenly.

    Each level has ``blocks`` blocks on its way down and as many on its way up, where the features of the way down stand
    beside. Means of 2 x 2 pixels lead down, repeated pixels up.
    """

    def __init__(self, config: ConvUNetConfig, given: int, out: int) -> None:
        super().__init__()
        channels, width = config.channels, 4 * config.channels[0]

        def blocks(first: int, size: int) -> nn.ModuleList:
            inputs = [first, *[size] * (config.blocks - 1)]
            return nn.ModuleList(_Block(each, size, width, config.groups, config.dropout) for each in inputs)

        self.level = FourierEmbedding(_LEVEL_WIDTH)
        self.embedding = nn.Sequential(nn.Linear(_LEVEL_WIDTH, width), nn.SiLU(), nn.Linear(width, width))
        self.first = nn.Conv2d(given, channels[0], 3, padding=1)
        self.down = nn.ModuleList(blocks(channels[max(0, i - 1)], size) for i, size in enumerate(channels))
        self.attention = _Attention(channels[-1], config.groups) if config.attention else nn.Identity()
        self.up = nn.ModuleList(
            blocks(size + channels[min(i + 1, len(channels) - 1)], size) for i, size in enumerate(channels)
        )
        self.last = nn.Sequential(
            nn.GroupNorm(config.groups, channels[0]), nn.SiLU(), _silent(nn.Conv2d(channels[0], out, 3, padding=1))
        )

    def forward(self, x: Tensor, level: Tensor, labels: Tensor | None = None) -> Tensor:
        embedding = self.embedding(self.level(level))
        embedding = functional.silu(embedding if labels is None else embedding + labels)
        x = self.first(x)
        kept = []
        for number, part in enumerate(self.down):
            x = functional.avg_pool2d(x, 2) if number else x
            for block in cast(nn.ModuleList, part):
                x = block(x, embedding)
            kept.append(x)
        x = self.attention(x)
        for number in reversed(range(len(self.up))):
            for place, block in enumerate(cast(nn.ModuleList, self.up[number])):
                x = block(x if place else torch.cat([x, kept[number]], 1), embedding)
            x = functional.interpolate(x, scale_factor=2.0, mode="nearest") if number else x
        return cast(Tensor, self.last(x))


class ImageConvUNet(ImageNetwork):
    """x (B, *in_shape) to (B, *out_shape) by ``PlainUNet``; see ``ImageNetwork`` for sizes and conditions."""

    def core(self, config: ConvUNetConfig, given: int, out: int, embedded: bool) -> nn.Module:
        return PlainUNet(config, given, out)

    def answer(self, x: Tensor, level: Tensor, labels: Tensor | None) -> Tensor:
        return cast(Tensor, self.unet(x, level, labels))


class ConvUNet(OfImages):
    """Builds ``ImageConvUNet`` modules for images (C, H, W) or (H, W).

    >>> from scorefold_registry import Host
    >>> unet = Host.discover().create("network:conv-unet", {"channels": [8, 8], "groups": 4})
    >>> network = unet.build((1, 8, 8), (2, 8, 8), time=True)
    >>> network(torch.zeros(4, 1, 8, 8), torch.zeros(4)).shape
    torch.Size([4, 2, 8, 8])
    """

    module = ImageConvUNet
