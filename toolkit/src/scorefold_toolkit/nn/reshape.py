"""Rearrangements of images that lose nothing: squeeze, the Haar transform, permutations. All have |det| = 1.

After each of several scales half of the channels is finished (Dinh et al. 2017).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn

from scorefold.errors import ConfigError, ShapeError
from scorefold_toolkit.nn.bijection import Bijection


def check_divisible(
    shape: tuple[int, ...], factor: int, what: str, fix: str = "crop or pad the events, or ask for less"
) -> None:
    """Raises ``ConfigError`` unless the height and width of (C, H, W), or the length of (C, L), are multiples of
    ``factor``.

    The error names the nearest sizes that are, and says how to ``fix`` it.
    """
    if any(size % factor for size in shape[1:]):
        below = [size // factor * factor for size in shape[1:]]
        above = [-(-size // factor) * factor for size in shape[1:]]
        nearest = [" x ".join(map(str, sizes)) for sizes in (below, above) if all(sizes)]
        images = len(shape) == 3
        raise ConfigError(
            f"{what} needs {'height and width that are multiples' if images else 'a length that is a multiple'} of "
            f"{factor}; {'images are' if images else 'signals have'} {' x '.join(map(str, shape[1:]))}",
            hint=f"the nearest sizes are {' and '.join(nearest)}: {fix}",
        )


def is_signal(shape: Sequence[int]) -> bool:
    """True if events of this shape are signals (C, L): at least 16 values, and four times as many as channels.

    Others of two axes may be images (H, W).

    >>> is_signal((3, 128)), is_signal((28, 28)), is_signal((128,))
    (True, False, False)
    """
    return len(shape) == 2 and shape[1] >= max(16, 4 * shape[0])


def squeeze(x: Tensor) -> Tensor:
    """(B, C, H, W) to (B, 4C, H/2, W/2): each 2 x 2 cell becomes channels 4c + 2 dy + dx (Dinh et al. 2017)."""
    _check_even(x)
    return rearrange(x, "b c (h dy) (w dx) -> b (c dy dx) h w", dy=2, dx=2)


def unsqueeze(z: Tensor) -> Tensor:
    """(B, 4C, H, W) to (B, C, 2H, 2W): the inverse of ``squeeze``."""
    return rearrange(z, "b (c dy dx) h w -> b c (h dy) (w dx)", dy=2, dx=2)


def haar_split(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One level of the orthonormal Haar transform of images (..., H, W): four bands (..., H/2, W/2).

    For a cell (p, q; r, s): the coarse (p+q+r+s)/2, the difference along the width (p-q+r-s)/2, along the height
    (p+q-r-s)/2, and both (p-q-r+s)/2.
    """
    _check_even(x)
    p, q = x[..., 0::2, 0::2], x[..., 0::2, 1::2]
    r, s = x[..., 1::2, 0::2], x[..., 1::2, 1::2]
    top, bottom, top_change, bottom_change = p + q, r + s, p - q, r - s
    return (
        (top + bottom) / 2,
        (top_change + bottom_change) / 2,
        (top - bottom) / 2,
        (top_change - bottom_change) / 2,
    )


def haar_merge(coarse: Tensor, along_width: Tensor, along_height: Tensor, both: Tensor) -> Tensor:
    """The images (..., 2H, 2W) of four bands (..., H, W): the inverse of ``haar_split``, and its transpose."""
    top, bottom = coarse + along_height, coarse - along_height
    top_change, bottom_change = along_width + both, along_width - both
    first = torch.stack([(top + top_change) / 2, (top - top_change) / 2], -1).flatten(-2)
    second = torch.stack([(bottom + bottom_change) / 2, (bottom - bottom_change) / 2], -1).flatten(-2)
    return torch.stack([first, second], -2).flatten(-3, -2)


def _check_even(x: Tensor) -> None:
    if x.dim() < 2 or x.shape[-1] % 2 or x.shape[-2] % 2:
        raise ShapeError(f"images of shape {tuple(x.shape)} were given; height and width must be even")


class Squeeze(Bijection):
    """Images (B, C, H, W) to (B, 4C, H/2, W/2) by ``squeeze``.

    >>> Squeeze()(torch.arange(4.0).reshape(1, 1, 2, 2))[0].flatten()
    tensor([0., 1., 2., 3.])
    """

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return squeeze(x), x.new_zeros(())

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return unsqueeze(z), z.new_zeros(())


class HaarSqueeze(Bijection):
    """Images (B, C, H, W) to (B, 4C, H/2, W/2): the four Haar bands, each of C channels, coarse first.

    >>> HaarSqueeze()(torch.ones(1, 1, 2, 2))[0].flatten()  # flat: all in the coarse band
    tensor([2., 0., 0., 0.])
    """

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return torch.cat(haar_split(x), 1), x.new_zeros(())

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        coarse, along_width, along_height, both = z.chunk(4, 1)
        return haar_merge(coarse, along_width, along_height, both), z.new_zeros(())


class Permutation(Bijection):
    """The entries of dimension 1 (features or channels) in another order: z[:, i] = x[:, order[i]].

    >>> Permutation(torch.tensor([2, 0, 1]))(torch.tensor([[10.0, 20.0, 30.0]]))[0]
    tensor([[30., 10., 20.]])
    """

    order: Tensor
    back: Tensor

    def __init__(self, order: Tensor) -> None:
        super().__init__()
        if not torch.equal(order.sort().values, torch.arange(len(order))):
            raise ShapeError(f"{order.tolist()} is not a permutation of 0 to {len(order) - 1}")
        self.register_buffer("order", order.clone())
        self.register_buffer("back", order.argsort())

    @classmethod
    def reverse(cls, features: int) -> Permutation:
        """The last entry first."""
        return cls(torch.arange(features - 1, -1, -1))

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x.index_select(1, self.order), x.new_zeros(())

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return z.index_select(1, self.back), z.new_zeros(())


class MultiScale(Bijection):
    """Images (B, C, H, W) through one bijection a level, each of which halves height and width by a squeeze of its own.

    After every level but the last the first half of the channels is a finished latent and the second half goes on.
    z packs the latents, flattened in order, into the shape of the event; ``latent_shapes`` says how. A condition
    (B, K, H, W) is squeezed once a level; (B, K, 1, 1) stays as it is.

    >>> from scorefold_toolkit.nn import ActNorm, Chain, Squeeze
    >>> flow = MultiScale([Chain([Squeeze(), ActNorm(4)]), Chain([Squeeze(), ActNorm(8)])], event_shape=(1, 4, 4))
    >>> flow.latent_shapes, flow(torch.ones(2, 1, 4, 4))[0].shape
    ([(2, 2, 2), (8, 1, 1)], torch.Size([2, 1, 4, 4]))
    """

    def __init__(self, levels: Sequence[Bijection], event_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(levels)
        self.event_shape = event_shape
        channels, height, width = event_shape
        self.latent_shapes: list[tuple[int, int, int]] = []
        for level in range(len(levels)):
            channels, height, width = 4 * channels, height // 2, width // 2
            last = level + 1 == len(levels)
            if not last:
                channels //= 2
            self.latent_shapes.append((channels, height, width))

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        latents: list[Tensor] = []
        total = x.new_zeros(())
        for level, context in zip(self.levels, self._contexts(condition), strict=True):
            x, log_det = level(x, context)
            total = total + log_det
            if len(latents) + 1 < len(self.levels):
                latent, x = x.chunk(2, 1)
                latents.append(latent)
        return self._pack([*latents, x]), total

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        sizes = [math.prod(shape) for shape in self.latent_shapes]
        parts = z.flatten(1).split(sizes, 1)
        latents = [part.unflatten(1, shape) for part, shape in zip(parts, self.latent_shapes, strict=True)]
        x, total = latents.pop(), z.new_zeros(())
        for level, context in reversed(list(zip(self._bijections(), self._contexts(condition), strict=True))):
            x, log_det = level.inverse(x, context)
            total = total + log_det
            if latents:
                x = torch.cat([latents.pop(), x], 1)
        return x, total

    def initialise(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        latents: list[Tensor] = []
        for level, context in zip(self._bijections(), self._contexts(condition), strict=True):
            x = level.initialise(x, context)
            if len(latents) + 1 < len(self.levels):
                latent, x = x.chunk(2, 1)
                latents.append(latent)
        return self._pack([*latents, x])

    def _bijections(self) -> list[Bijection]:
        levels = []
        for level in self.levels:
            assert isinstance(level, Bijection)
            levels.append(level)
        return levels

    def _contexts(self, condition: Tensor | None) -> list[Tensor | None]:
        contexts: list[Tensor | None] = []
        for _ in self.levels:
            if condition is not None and condition.shape[-2:] != (1, 1):
                condition = squeeze(condition)
            contexts.append(condition)
        return contexts

    def _pack(self, latents: list[Tensor]) -> Tensor:
        flat = torch.cat([latent.flatten(1) for latent in latents], 1)
        return flat.reshape(flat.shape[0], *self.event_shape)
