"""Charts of surfaces whose geodesics are known, and decoders that are wrong in one way each."""

from __future__ import annotations

import torch
from torch import Tensor


def sphere(u: Tensor) -> Tensor:
    """The unit sphere from the plane, stereographically: (B, 2) to (B, 3)."""
    square = u.square().sum(1, keepdim=True)
    return torch.cat([2 * u, square - 1], 1) / (1 + square)


def torus(angles: Tensor) -> Tensor:
    """The torus of radii 2 and 1 from (longitude, angle of the tube): (B, 2) to (B, 3)."""
    around, tube = angles.unbind(1)
    radius = 2 + tube.cos()
    return torch.stack([radius * around.cos(), radius * around.sin(), tube.sin()], 1)


def flat(z: Tensor) -> Tensor:
    """The first unit alone: the second changes nothing."""
    return torch.cat([z[:, :1], 2 * z[:, :1]], 1)


def drawing(z: Tensor) -> Tensor:
    return z + torch.rand_like(z)


def one(z: Tensor) -> Tensor:
    return z[:1]


def wall(z: Tensor) -> Tensor:
    """A plane with a hill so steep that geodesics around it are not found from a straight line through it."""
    return torch.cat([z, 30 * torch.exp(-50 * z.square().sum(1, keepdim=True))], 1)
