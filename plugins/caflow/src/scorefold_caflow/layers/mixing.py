"""Layers of image flows next to those of the toolkit: normalisation and mixing at once, the injector, Haar bands in
order of detail."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from scorefold_toolkit.nn import ActNorm, Bijection, Householder, LULinear, haar_merge, haar_split
from scorefold_toolkit.nn.coupling import bounded


class Mixing(Bijection):
    """z = A (exp(s) x + b) at every pixel: a normalisation and a mixing of channels, as one matrix and one shift."""

    def __init__(self, channels: int, linear: LULinear | Householder) -> None:
        super().__init__()
        self.norm = ActNorm(channels)
        self.linear = linear

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        matrix = self.linear.matrix()
        z = at_pixels(x, matrix * self.norm.log_scale.exp(), matrix @ self.norm.shift)
        return z, self._log_det(x)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        back = (-self.norm.log_scale).exp()
        x = at_pixels(z, back[:, None] * self.linear.inverse_matrix(), -back * self.norm.shift)
        return x, -self._log_det(z)

    def initialise(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        self.norm.initialise(x)
        return super().initialise(x, condition)

    def _log_det(self, x: Tensor) -> Tensor:
        return (self.norm.log_scale.sum() + self.linear.log_abs_det()) * (x.shape[2] * x.shape[3])


def channels_last(x: Tensor) -> Tensor:
    """Images (B, C, H, W) with a pixel's channels side by side in memory, which convolutions and products are faster
    on."""
    return x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


def at_pixels(x: Tensor, matrix: Tensor, shift: Tensor) -> Tensor:
    """matrix (K, C) times the channels of x (B, C, H, W), plus shift (K,)."""
    return functional.linear(x.permute(0, 2, 3, 1), matrix, shift).permute(0, 3, 1, 2)


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
        return x * log_scale.exp() + shift, log_scale.sum((1, 2, 3))

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_scale, shift = self._scale_and_shift(condition)
        return (z - shift) * (-log_scale).exp(), -log_scale.sum((1, 2, 3))

    def _scale_and_shift(self, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        raw, shift = self.conditioner(condition).chunk(2, 1)
        return bounded(raw, self.bound), shift


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
