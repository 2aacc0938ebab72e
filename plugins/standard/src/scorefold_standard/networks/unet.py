"""U-Nets of images, and the U-Net in plain torch, which signals share."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from scorefold_standard.networks.config import PlainUNetConfig, UNetConfig
from scorefold_standard.networks.spatial import OfMaps, SpatialNetwork
from scorefold_toolkit.libraries import library
from scorefold_toolkit.nn import FourierEmbedding


class ImageUNet(SpatialNetwork):
    """x (B, *in_shape) to (B, *out_shape) by ``UNet2DModel``; see ``SpatialNetwork`` for sizes and conditions."""

    def core(self, config: UNetConfig, given: int, out: int, embedded: bool) -> nn.Module:
        with library("network:unet", "scorefold-standard[images]"):
            from diffusers import UNet2DModel  # five seconds to import, so only where one is built

        attends = [level in config.attention for level in range(len(config.channels))]
        unet = UNet2DModel(
            in_channels=given,
            out_channels=out,
            block_out_channels=config.channels,
            down_block_types=tuple("AttnDownBlock2D" if attended else "DownBlock2D" for attended in attends),
            up_block_types=tuple("AttnUpBlock2D" if attended else "UpBlock2D" for attended in reversed(attends)),
            layers_per_block=config.blocks,
            norm_num_groups=config.groups,
            dropout=config.dropout,
            attention_head_dim=config.groups,
            add_attention=bool(config.attention),
            class_embed_type="identity" if embedded else None,
        )
        # A zero output to begin with: training starts from what the caller adds it to.
        nn.init.zeros_(unet.conv_out.weight)
        nn.init.zeros_(unet.conv_out.bias)
        return cast(nn.Module, unet)

    def answer(self, x: Tensor, level: Tensor, labels: Tensor | None) -> Tensor:
        return cast(Tensor, self.unet(x, _timestep(level), class_labels=labels, return_dict=False)[0])


def _timestep(level: Tensor) -> Tensor:
    """A log noise level of -10 to 10 on the scale 0 to 1000 that the U-Net's sinusoidal embedding is made for."""
    return 50 * (level + 10)


class UNet(OfMaps):
    """Builds ``ImageUNet`` modules for images (C, H, W) or (H, W).

    >>> import torch
    >>> from scorefold_registry import Host
    >>> unet = Host.discover().create("network:unet", {"channels": [8, 8], "groups": 4})
    >>> network = unet.build((1, 8, 8), (2, 8, 8), time=True)
    >>> network(torch.zeros(4, 1, 8, 8), torch.zeros(4)).shape
    torch.Size([4, 2, 8, 8])
    """

    module = ImageUNet


LEVEL_WIDTH = 32


CONVOLUTIONS: dict[int, type[nn.Conv1d | nn.Conv2d]] = {1: nn.Conv1d, 2: nn.Conv2d}
"""Convolutions by the number of axes."""

_MEANS = {1: functional.avg_pool1d, 2: functional.avg_pool2d}


class ConvBlock(nn.Module):
    """A residual block: two convolutions, the features between them scaled and shifted by an embedding.

    Features are (B, given, *size) and (B, out, *size), with ``axes`` sizes. ``dilation`` is the distance between the
    values that a convolution reads.
    """

    def __init__(
        self, given: int, out: int, embedded: int, groups: int, dropout: float, axes: int = 2, dilation: int = 1
    ) -> None:
        super().__init__()
        convolution = CONVOLUTIONS[axes]
        inner = convolution(given, out, 3, padding=dilation, dilation=dilation)
        self.first = nn.Sequential(nn.GroupNorm(groups, given), nn.SiLU(), inner)
        self.norm = nn.GroupNorm(groups, out)
        self.modulation = nn.Linear(embedded, 2 * out)
        outer = convolution(out, out, 3, padding=dilation, dilation=dilation)
        self.last = nn.Sequential(nn.SiLU(), nn.Dropout(dropout), zero_initialised(outer))
        self.skip = convolution(given, out, 1) if given != out else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        modulation = self.modulation(embedding)
        scale, shift = modulation.reshape(*modulation.shape, *[1] * (x.dim() - 2)).chunk(2, 1)
        changed = self.last(self.norm(self.first(x)) * (1 + scale) + shift)
        return cast(Tensor, self.skip(x) + changed)


class _Attention(nn.Module):
    """Self-attention of all places with one head, in operations that may be differentiated twice and forwards."""

    def __init__(self, channels: int, groups: int, axes: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels)
        self.inner = CONVOLUTIONS[axes](channels, 3 * channels, 1)
        self.out = zero_initialised(CONVOLUTIONS[axes](channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.inner(self.norm(x)).flatten(2).chunk(3, 1)
        weights = (query.transpose(1, 2) @ key / math.sqrt(x.shape[1])).softmax(2)
        found = value @ weights.transpose(1, 2)
        return cast(Tensor, x + self.out(found.reshape(x.shape)))


def zero_initialised(layer: nn.Conv1d | nn.Conv2d) -> nn.Conv1d | nn.Conv2d:
    """The layer with a zero answer to begin with."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class PlainUNet(nn.Module):
    """x (B, given, *size), noise levels (B,) and perhaps labels (B, width) to (B, out, *size), with ``axes`` sizes.

    Each level has ``blocks`` blocks on its way down and as many on its way up, where the features of the way down stand
    beside. Means of two neighbours along each axis lead down, repeated values up, so sizes have to halve evenly.
    """

    def __init__(self, config: PlainUNetConfig, given: int, out: int, axes: int = 2) -> None:
        super().__init__()
        channels, width = config.channels, 4 * config.channels[0]
        self.axes = axes

        def blocks(first: int, size: int) -> nn.ModuleList:
            inputs = [first, *[size] * (config.blocks - 1)]
            return nn.ModuleList(ConvBlock(each, size, width, config.groups, config.dropout, axes) for each in inputs)

        self.level = FourierEmbedding(LEVEL_WIDTH)
        self.embedding = nn.Sequential(nn.Linear(LEVEL_WIDTH, width), nn.SiLU(), nn.Linear(width, width))
        self.first = CONVOLUTIONS[axes](given, channels[0], 3, padding=1)
        self.down = nn.ModuleList(blocks(channels[max(0, i - 1)], size) for i, size in enumerate(channels))
        self.attention = _Attention(channels[-1], config.groups, axes) if config.attention else nn.Identity()
        self.up = nn.ModuleList(
            blocks(size + channels[min(i + 1, len(channels) - 1)], size) for i, size in enumerate(channels)
        )
        last = zero_initialised(CONVOLUTIONS[axes](channels[0], out, 3, padding=1))
        self.last = nn.Sequential(nn.GroupNorm(config.groups, channels[0]), nn.SiLU(), last)

    def forward(self, x: Tensor, level: Tensor, labels: Tensor | None = None) -> Tensor:
        embedding = self.embedding(self.level(level))
        embedding = functional.silu(embedding if labels is None else embedding + labels)
        x = self.first(x)
        kept = []
        for number, part in enumerate(self.down):
            x = _MEANS[self.axes](x, 2) if number else x
            for block in cast(nn.ModuleList, part):
                x = block(x, embedding)
            kept.append(x)
        x = self.attention(x)
        for number in reversed(range(len(self.up))):
            for place, block in enumerate(cast(nn.ModuleList, self.up[number])):
                x = block(x if place else torch.cat([x, kept[number]], 1), embedding)
            x = functional.interpolate(x, scale_factor=2.0, mode="nearest") if number else x
        return cast(Tensor, self.last(x))


class ImageConvUNet(SpatialNetwork):
    """x (B, *in_shape) to (B, *out_shape) by ``PlainUNet``; see ``SpatialNetwork`` for sizes and conditions."""

    def core(self, config: PlainUNetConfig, given: int, out: int, embedded: bool) -> nn.Module:
        return PlainUNet(config, given, out)

    def answer(self, x: Tensor, level: Tensor, labels: Tensor | None) -> Tensor:
        return cast(Tensor, self.unet(x, level, labels))


class ConvUNet(OfMaps):
    """Builds ``ImageConvUNet`` modules for images (C, H, W) or (H, W).

    >>> from scorefold_registry import Host
    >>> unet = Host.discover().create("network:conv-unet", {"channels": [8, 8], "groups": 4})
    >>> network = unet.build((1, 8, 8), (2, 8, 8), time=True)
    >>> network(torch.zeros(4, 1, 8, 8), torch.zeros(4)).shape
    torch.Size([4, 2, 8, 8])
    """

    module = ImageConvUNet
