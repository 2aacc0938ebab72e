"""U-Nets of images and signals: any size, with classes, vectors and maps as conditions. Signals (C, L) also have a
stack of dilated convolutions."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from scorefold.data import Condition, ConditionSpec, TensorSpec
from scorefold.errors import ConfigError
from scorefold_standard.config import PlainUNetConfig, SignalConvConfig, SignalUNetConfig, UNetConfig
from scorefold_standard.networks.mlp import ConditionEmbedding
from scorefold_toolkit.libraries import library
from scorefold_toolkit.nn import FourierEmbedding, ModuleNetwork, named_parts, named_specs


class SpatialNetwork(nn.Module, ABC):
    """x (B, *in_shape) to (B, *out_shape) by a network along the last axes of an event: two of images, one of signals.

    Conditions with the size of the event are concatenated to it as channels; classes and other tensors are embedded and
    added to the embedding of the noise level. Sizes that are no multiples of ``multiple`` are padded at the end of each
    axis by repeating its last value, and cut again.
    """

    axes: ClassVar[int] = 2
    """Number of axes behind the channels: 2 of images (C, H, W), 1 of signals (C, L)."""

    def __init__(
        self,
        config: Any,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        *,
        time: bool = False,
        condition: ConditionSpec | None = None,
    ) -> None:
        super().__init__()
        self.out_shape = tuple(out_shape)
        self.time = time
        self.spec = condition
        size = tuple(in_shape[-self.axes :])
        specs = named_specs(condition)
        self.maps = {name: spec for name, spec in specs.items() if self._is_map(spec, size)}
        others = {name: spec for name, spec in specs.items() if name not in self.maps}
        multiple = self.multiple(config)
        self.padding = [end for length in reversed(size) for end in (0, -length % multiple)]
        given = self._channels(in_shape) + sum(self._channels(spec.shape) for spec in self.maps.values())
        self.unet = self.core(config, given, self._channels(out_shape), bool(others))
        self.embedding = ConditionEmbedding(others, self.width(config)) if others else None

    def multiple(self, config: Any) -> int:
        """The number that the size of an event has to be a multiple of: each level but the finest halves it."""
        return int(2 ** (len(config.channels) - 1))

    def width(self, config: Any) -> int:
        """Length of the embedding of noise levels and conditions."""
        return int(4 * config.channels[0])

    @abstractmethod
    def core(self, config: Any, given: int, out: int, embedded: bool) -> nn.Module:
        """The network on ``given`` and ``out`` channels; ``embedded`` says that conditions come as vectors (B, width)
        besides."""

    @abstractmethod
    def answer(self, x: Tensor, level: Tensor, labels: Tensor | None) -> Tensor:
        """Output of ``core`` for padded events (B, given, *size), log noise levels (B,) and embedded conditions."""

    def forward(self, x: Tensor, t: Tensor | None = None, condition: Condition | None = None) -> Tensor:
        if self.time and t is None:
            raise ConfigError("the network was built with a time and got none")
        tensors = named_parts(self.spec, condition)
        event = self._with_channels(x)
        channels = [event, *(self._with_channels(tensors[name]).to(event.dtype) for name in self.maps)]
        padded = functional.pad(torch.cat(channels, dim=1), self.padding, mode="replicate")
        labels = None if self.embedding is None else self.embedding(tensors)
        level = x.new_zeros(x.shape[0]) if t is None else t.expand(x.shape[0])
        out = self.answer(padded, level, labels)
        for axis, length in enumerate(event.shape[2:], start=2):
            out = out.narrow(axis, 0, length)
        return out.reshape(-1, *self.out_shape)

    def _is_map(self, spec: TensorSpec, size: tuple[int, ...]) -> bool:
        shaped = len(spec.shape) in (self.axes, self.axes + 1)
        return spec.classes is None and shaped and tuple(spec.shape[-self.axes :]) == size

    def _channels(self, shape: tuple[int, ...]) -> int:
        return shape[0] if len(shape) > self.axes else 1

    def _with_channels(self, x: Tensor) -> Tensor:
        """(B, C, *size), with one channel where x is (B, *size)."""
        return x[:, None] if x.dim() == 1 + self.axes else x


class OfMaps(ModuleNetwork):
    """Builds modules for events that keep their size: images (C, H, W) or (H, W), signals (C, L) or (L,)."""

    takes: ClassVar[str] = "images (C, H, W) or (H, W)"

    def check(self, in_shape: tuple[int, ...], out_shape: tuple[int, ...], condition: ConditionSpec | None) -> None:
        axes = type(self).module.axes  # type: ignore[attr-defined]
        for name, shape in (("in", in_shape), ("out", out_shape)):
            if len(shape) not in (axes, axes + 1):
                raise ConfigError(
                    f"this network takes {self.takes}; the shape of what goes {name} is {tuple(shape)}",
                    hint="leave network out, which chooses one by the shape, or use network:mlp for vectors",
                )
        if in_shape[-axes:] != out_shape[-axes:]:
            raise ConfigError(
                f"this network keeps the size of an event; asked for {in_shape[-axes:]} in and {out_shape[-axes:]} out"
            )


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
