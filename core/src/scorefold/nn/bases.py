"""Base laws of flows."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from scorefold.numerics import draw_normal


class StandardNormal(nn.Module):
    """N(0, I) on latents of any shape."""

    centre: float = 0.0

    def log_prob(self, z: Tensor) -> Tensor:
        """The log-density at z (B, *E): (B,)."""
        flat = z.flatten(1)
        return -0.5 * flat.square().sum(1) - 0.5 * math.log(2 * math.pi) * flat.shape[1]

    def sample(self, shape: tuple[int, ...], *, generator: torch.Generator | None, like: Tensor) -> Tensor:
        """Draws of a shape (B, *E), on the device and in the dtype of ``like``."""
        return draw_normal(shape, generator=generator, like=like)


class DiagonalNormal(nn.Module):
    """N(mean, diag(exp(2 log_std))) with a learned mean and log-deviation for each coordinate of one event
    shape."""

    def __init__(self, event_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(event_shape))
        self.log_std = nn.Parameter(torch.zeros(event_shape))

    @property
    def centre(self) -> Tensor:
        """The mean, which a temperature draws samples towards."""
        return self.mean

    def log_prob(self, z: Tensor) -> Tensor:
        """The log-density at z (B, *E): (B,)."""
        flat = ((z - self.mean) * (-self.log_std).exp()).flatten(1)
        constant = self.log_std.sum() + 0.5 * math.log(2 * math.pi) * flat.shape[1]
        return -0.5 * flat.square().sum(1) - constant

    def sample(self, shape: tuple[int, ...], *, generator: torch.Generator | None, like: Tensor) -> Tensor:
        """Draws of a shape (B, *E), on the device and in the dtype of ``like``."""
        return self.mean + self.log_std.exp() * draw_normal(shape, generator=generator, like=like)
