"""From images to vectors and back: the down path of a U-Net with a linear head, and its mirror image.

The down path is an encoder of Batzolis et al. (2023), after Ho et al. (2020) and Dhariwal and Nichol (2021). All of it
is smooth and written out, attention too: an encoder whose gradient is part of a loss is differentiated twice, and fused
attention has no second derivative. Normalisation is by groups of channels, so that no event sees another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from scorefold.data import Condition, ConditionSpec, TensorSpec
from scorefold.errors import ConfigError
from scorefold_scorevae.config import ConvDecoderConfig, PathConfig
from scorefold_toolkit.nn import (
    ConditionMap,
    ConditionVector,
    FourierEmbedding,
    ModuleNetwork,
    named_parts,
    named_specs,
)

_LEVEL_WIDTH = 32

Shape = tuple[int, ...]
Size = tuple[int, int]


class DownPath(nn.Module):
    """x (B, *in_shape), images, to (B, *out_shape): levels of residual blocks with stride-2 convolutions between them,
    two blocks at the coarsest size, and a linear layer. A level of odd size is halved upwards.

    The noise level and conditions are embedded and enter every block; conditions that are images are laid beside x.
    """

    def __init__(
        self, config: PathConfig, in_shape: Shape, out_shape: Shape, *, time: bool, condition: ConditionSpec | None
    ) -> None:
        super().__init__()
        self.out_shape = tuple(out_shape)
        size: Size = (in_shape[-2], in_shape[-1])
        self.context = Context(config.channels[0], size, time=time, condition=condition)
        width, channels = self.context.width, config.channels
        self.first = nn.Conv2d(_channels(in_shape) + self.context.beside, channels[0], 3, padding=1)
        self.levels = nn.ModuleList()
        before = channels[0]
        for level, after in enumerate(channels):
            down = nn.Conv2d(before, before, 3, stride=2, padding=1) if level else nn.Identity()
            blocks = _blocks(config, before, after, width, attends=level in config.attention)
            self.levels.append(nn.ModuleList([down, *blocks]))
            before = after
        self.middle = nn.ModuleList(_middle(config, width))
        self.norm = nn.GroupNorm(config.groups, before)
        self.head = nn.Linear(before * math.prod(_sizes(size, len(channels))[-1]), math.prod(out_shape))

    def forward(self, x: Tensor, t: Tensor | None = None, condition: Condition | None = None) -> Tensor:
        context, beside = self.context(x, t, condition)
        image = _as_image(x)
        h: Tensor = self.first(image if beside is None else torch.cat([image, beside], 1))
        for level in self.levels:
            assert isinstance(level, nn.ModuleList)
            down, *blocks = level
            h = _through(blocks, down(h), context)
        h = _through(self.middle, h, context)
        answer: Tensor = self.head(functional.silu(self.norm(h)).flatten(1))
        return answer.reshape(-1, *self.out_shape)


class UpPath(nn.Module):
    """z (B, *in_shape) to images (B, *out_shape): a linear layer, two blocks at the coarsest size, and levels of
    residual blocks, each brought to twice its size by the nearest pixel and a convolution.

    The noise level and conditions are embedded and enter every block; conditions that are images are laid beside the
    finest level.
    """

    def __init__(
        self, config: PathConfig, in_shape: Shape, out_shape: Shape, *, time: bool, condition: ConditionSpec | None
    ) -> None:
        super().__init__()
        self.out_shape = tuple(out_shape)
        size: Size = (out_shape[-2], out_shape[-1])
        self.context = Context(config.channels[0], size, time=time, condition=condition)
        width, channels = self.context.width, config.channels
        self.sizes = _sizes(size, len(channels))
        before = channels[-1]
        self.first = nn.Linear(math.prod(in_shape), before * math.prod(self.sizes[-1]))
        self.middle = nn.ModuleList(_middle(config, width))
        self.levels = nn.ModuleList()
        for level, after in reversed(list(enumerate(channels))):
            up = nn.Identity() if level == len(channels) - 1 else nn.Conv2d(before, before, 3, padding=1)
            blocks = _blocks(config, before, after, width, attends=level in config.attention)
            self.levels.append(nn.ModuleList([up, *blocks]))
            before = after
        self.norm = nn.GroupNorm(config.groups, before)
        self.head = nn.Conv2d(before + self.context.beside, _channels(out_shape), 3, padding=1)

    def forward(self, x: Tensor, t: Tensor | None = None, condition: Condition | None = None) -> Tensor:
        context, beside = self.context(x, t, condition)
        h: Tensor = self.first(x.flatten(1))
        h = _through(self.middle, h.unflatten(1, (-1, *self.sizes[-1])), context)
        for level, size in zip(self.levels, reversed(self.sizes), strict=True):
            assert isinstance(level, nn.ModuleList)
            up, *blocks = level
            h = h if h.shape[-2:] == size else functional.interpolate(h, size, mode="nearest")
            h = _through(blocks, up(h), context)
        h = functional.silu(self.norm(h))
        answer: Tensor = self.head(h if beside is None else torch.cat([h, beside], 1))
        return answer.reshape(-1, *self.out_shape)


class ConvPath(nn.Module):
    """z (B, *in_shape) to images (B, *out_shape): a linear layer to the coarsest size, and for each level a transposed
    convolution to twice the size and a convolution, each followed by GELU; the last one has nothing behind it.

    With channels (c, 2c) and images of 32 pixels, or (c, 2c, 4c) and 64, it is the decoder of the authors' code. The
    noise level and conditions are embedded and added to every pixel of the coarsest size.
    """

    def __init__(
        self,
        config: ConvDecoderConfig,
        in_shape: Shape,
        out_shape: Shape,
        *,
        time: bool,
        condition: ConditionSpec | None,
    ) -> None:
        super().__init__()
        self.out_shape = tuple(out_shape)
        size: Size = (out_shape[-2], out_shape[-1])
        self.context = Context(config.channels[0], size, time=time, condition=condition)
        self.sizes = _sizes(size, len(config.channels) + 2)
        widths = (config.channels[-1], *reversed(config.channels), _channels(out_shape))
        self.first = nn.Linear(math.prod(in_shape), widths[0] * math.prod(self.sizes[-1]))
        self.from_context = nn.Linear(self.context.width, widths[0]) if self.context.width else None
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(before, after, 3, stride=2, padding=1) for before, after in pairwise(widths)
        )
        self.flats = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for width in widths[1:-1])

    def forward(self, x: Tensor, t: Tensor | None = None, condition: Condition | None = None) -> Tensor:
        context, _ = self.context(x, t, condition)
        h: Tensor = self.first(x.flatten(1)).unflatten(1, (-1, *self.sizes[-1]))
        if self.from_context is not None and context is not None:
            h = h + self.from_context(context)[:, :, None, None]
        h = functional.gelu(h)
        finer = list(reversed(self.sizes[:-1]))
        for up, flat, size in zip(self.ups, self.flats, finer, strict=False):
            h = functional.gelu(flat(functional.gelu(_upwards(up, h, size))))
        return _upwards(self.ups[-1], h, finer[-1]).reshape(-1, *self.out_shape)


def _upwards(up: nn.Module, h: Tensor, size: Size) -> Tensor:
    answer: Tensor = up(h, output_size=list(size))
    return answer


class Context(nn.Module):
    """Input of every block: noise level and condition as one vector (B, width), and images (B, beside, H, W)."""

    def __init__(self, channels: int, size: Size, *, time: bool, condition: ConditionSpec | None) -> None:
        super().__init__()
        self.spec = condition
        specs = named_specs(condition)
        self.images = {name: spec for name, spec in specs.items() if _is_image(spec)}
        self.others = {name: spec for name, spec in specs.items() if name not in self.images}
        self.width = 4 * channels if time or self.others else 0
        self.level = FourierEmbedding(_LEVEL_WIDTH) if time else None
        self.from_level = nn.Linear(_LEVEL_WIDTH, self.width) if time else None
        self.vector = ConditionVector(self.others)
        self.from_vector = nn.Linear(self.vector.width, self.width) if self.others else None
        self.mixed = nn.Linear(self.width, self.width) if self.width else None
        self.map = ConditionMap(self.images, size)
        self.beside = self.map.width

    def forward(self, x: Tensor, t: Tensor | None, condition: Condition | None) -> tuple[Tensor | None, Tensor | None]:
        parts = named_parts(self.spec, condition)
        beside = self.map(_only(parts, self.images), x)
        total: Tensor | None = None
        if self.level is not None and self.from_level is not None:
            if t is None:
                raise ConfigError("the network was built with a time and got none")
            total = self.from_level(self.level(t))
        if self.from_vector is not None:
            term: Tensor = self.from_vector(self.vector(_only(parts, self.others), x))
            total = term if total is None else total + term
        if total is None or self.mixed is None:
            return None, beside
        return functional.silu(self.mixed(functional.silu(total))), beside


class PathBlock(nn.Module):
    """h + W2 a(n(W1 a(n(h)) + V c)) on (B, channels, H, W), with convolutions W, group norms n and a context c
    (B, width) or none; a 1x1 convolution brings h to another number of channels."""

    def __init__(self, config: PathConfig, before: int, after: int, width: int) -> None:
        super().__init__()
        self.norm_first = nn.GroupNorm(config.groups, before)
        self.first = nn.Conv2d(before, after, 3, padding=1)
        self.from_context = nn.Linear(width, after) if width else None
        self.norm_second = nn.GroupNorm(config.groups, after)
        self.dropout = nn.Dropout(config.dropout)
        self.second = nn.Conv2d(after, after, 3, padding=1)
        self.skip = nn.Identity() if before == after else nn.Conv2d(before, after, 1)

    def forward(self, h: Tensor, context: Tensor | None) -> Tensor:
        inner = self.first(functional.silu(self.norm_first(h)))
        if self.from_context is not None and context is not None:
            inner = inner + self.from_context(context)[:, :, None, None]
        change: Tensor = self.second(self.dropout(functional.silu(self.norm_second(inner))))
        kept: Tensor = self.skip(h)
        return kept + change


class Attention(nn.Module):
    """h + W softmax(Q K^T / sqrt(channels)) V over the pixels of (B, channels, H, W), written out."""

    def __init__(self, config: PathConfig, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(config.groups, channels)
        self.asked = nn.Linear(channels, 3 * channels)
        self.last = nn.Linear(channels, channels)

    def forward(self, h: Tensor, context: Tensor | None) -> Tensor:
        pixels = self.norm(h).flatten(2).transpose(1, 2)
        query, key, value = self.asked(pixels).chunk(3, dim=2)
        weights = (query @ key.transpose(1, 2) / math.sqrt(h.shape[1])).softmax(2)
        change: Tensor = self.last(weights @ value)
        return h + change.transpose(1, 2).reshape(h.shape)


def _blocks(config: PathConfig, before: int, after: int, width: int, *, attends: bool) -> list[nn.Module]:
    """The blocks of one level, each followed by attention where the level attends."""
    found: list[nn.Module] = []
    for place in range(config.blocks):
        found.append(PathBlock(config, after if place else before, after, width))
        if attends:
            found.append(Attention(config, after))
    return found


def _middle(config: PathConfig, width: int) -> list[nn.Module]:
    """The two blocks at the coarsest size."""
    channels = config.channels[-1]
    first, second = (PathBlock(config, channels, channels, width) for _ in range(2))
    return [first, Attention(config, channels), second] if config.middle_attention else [first, second]


def _through(blocks: nn.ModuleList | list[nn.Module], h: Tensor, context: Tensor | None) -> Tensor:
    for block in blocks:
        h = block(h, context)
    return h


def _sizes(size: Size, levels: int) -> list[Size]:
    """The sizes of the levels, the finest first; an odd size is halved upwards, as a stride-2 convolution does."""
    sizes = [size]
    for _ in range(levels - 1):
        height, width = sizes[-1]
        sizes.append((-(-height // 2), -(-width // 2)))
    return sizes


def _only(parts: Mapping[str, Tensor], specs: Mapping[str, TensorSpec]) -> Condition | None:
    return {name: parts[name] for name in specs} or None


def _is_image(spec: TensorSpec) -> bool:
    return len(spec.shape) == 3 and spec.classes is None


def _channels(shape: Shape) -> int:
    return shape[0] if len(shape) == 3 else 1


def _as_image(x: Tensor) -> Tensor:
    """(B, C, H, W), with one channel where x is (B, H, W)."""
    return x[:, None] if x.dim() == 3 else x


def _check_image(what: str, way: str, shape: Shape) -> None:
    if len(shape) not in (2, 3) or math.prod(shape) < 1:
        raise ConfigError(
            f"{what} takes images (C, H, W) or (H, W); the shape of what goes {way} is {tuple(shape)}",
            hint="use network:mlp for vectors",
        )


class HalfUNet(ModuleNetwork):
    """Builds ``DownPath`` modules: images (C, H, W) or (H, W) of any size to any shape, mostly a vector (k,).

    >>> from scorefold_registry import Host
    >>> half = Host.discover().create("network:half-unet", {"channels": [8, 16], "blocks": 1, "groups": 4})
    >>> half.build((1, 8, 8), (3,))(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 3])
    """

    module = DownPath

    def check(self, in_shape: Shape, out_shape: Shape, condition: ConditionSpec | None) -> None:
        _check_image("a half U-Net", "in", in_shape)


class MirrorDecoder(ModuleNetwork):
    """Builds ``UpPath`` modules: any shape, mostly a vector (k,), to images (C, H, W) or (H, W) of any size.

    >>> from scorefold_registry import Host
    >>> mirror = Host.discover().create("network:mirror-decoder", {"channels": [8, 16], "blocks": 1, "groups": 4})
    >>> mirror.build((3,), (1, 8, 8))(torch.zeros(2, 3)).shape
    torch.Size([2, 1, 8, 8])
    """

    module = UpPath

    def check(self, in_shape: Shape, out_shape: Shape, condition: ConditionSpec | None) -> None:
        _check_image("a mirror decoder", "out", out_shape)


class ConvDecoder(ModuleNetwork):
    """Builds ``ConvPath`` modules: any shape, mostly a vector (k,), to images (C, H, W) or (H, W) of any size.

    >>> from scorefold_registry import Host
    >>> small = Host.discover().create("network:conv-decoder", {"channels": [8, 16]})
    >>> small.build((3,), (1, 8, 8))(torch.zeros(2, 3)).shape
    torch.Size([2, 1, 8, 8])
    """

    module = ConvPath

    def check(self, in_shape: Shape, out_shape: Shape, condition: ConditionSpec | None) -> None:
        _check_image("a decoder of convolutions", "out", out_shape)
        if any(_is_image(spec) for spec in named_specs(condition).values()):
            raise ConfigError("network:conv-decoder takes no condition of images", hint="use network:mirror-decoder")
