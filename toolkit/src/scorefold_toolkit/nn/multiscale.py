"""Several scales of an image: after each one, half of the channels is finished (Dinh et al. 2017)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from scorefold_toolkit.nn.bijection import Bijection
from scorefold_toolkit.nn.reshape import squeeze


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
