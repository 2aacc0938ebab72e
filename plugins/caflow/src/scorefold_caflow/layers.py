"""Layers of image flows beside those of ``scorefold.nn``: the injector, Haar bands in order of detail."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scorefold.nn import Bijection, haar_merge, haar_split


class AffineInjector(Bijection):
    """z = x exp(s) + t on all channels, with s and t from the condition alone (Lugmayr et al. 2020).

    ``conditioner(condition)`` gives (B, 2 C, H, W): raw log-scales, then shifts. Log-scales are s = bound tanh(raw).
    """

    bound: Tensor

    def __init__(self, conditioner: nn.Module, *, bound: float = 1.0) -> None:
        super().__init__()
        self.conditioner = conditioner
        self.register_buffer("bound", torch.tensor(bound), persistent=False)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_scale, shift = self._scale_and_shift(condition)
        return torch.addcmul(shift, x, log_scale.exp()), log_scale.flatten(1).sum(1)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_scale, shift = self._scale_and_shift(condition)
        return (z - shift) * (-log_scale).exp(), -log_scale.flatten(1).sum(1)

    def _scale_and_shift(self, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        raw, shift = self.conditioner(condition).chunk(2, 1)
        return self.bound * raw.tanh(), shift


class HaarBands(Bijection):
    """Images (B, C, H, W) to (B, 4C, H/2, W/2): the four Haar bands, each of C channels, the finest first.

    The first half of the channels is detail and the last quarter the coarse picture, so that what a scale finishes
    first is the detail. Orthonormal.
    """

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return torch.cat(haar_split(x)[::-1], 1), x.new_zeros(())

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        both, along_height, along_width, coarse = z.chunk(4, 1)
        return haar_merge(coarse, along_width, along_height, both), z.new_zeros(())
