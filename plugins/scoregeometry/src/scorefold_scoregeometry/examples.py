"""Metrics to try ``geometry:metric`` with, and to copy."""

from __future__ import annotations

import torch
from torch import Tensor


def paraboloid(x: Tensor) -> Tensor:
    """G = I + x x^T (B, D, D): the metric of the graph of |x|^2 / 2."""
    return torch.eye(x.shape[1], dtype=x.dtype, device=x.device) + x[:, :, None] * x[:, None]


def half_plane(x: Tensor) -> Tensor:
    """G = I / y^2 (B, D, D) with y the last coordinate: Poincare's half plane."""
    return torch.eye(x.shape[1], dtype=x.dtype, device=x.device) * x[:, -1, None, None] ** -2


def normal(x: Tensor) -> Tensor:
    """The log-density of a standard normal distribution but for its constant, (B,)."""
    return -0.5 * x.square().sum(1)
