"""One quadric that data lie on, as nearly as any: found by least squares, with the distance from it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_ITERATIONS = 60
_POINTS = 20_000
_VISIBLE = 0.01
_FLOOR = 1e-3
"""Directions in which the data deviate by less than _VISIBLE of their spread are left out; the quadric is taken to be
known to _FLOOR of it."""


class Quadric(nn.Module):
    """The surface u^T Q u + b u = 1 in coordinates u (B, m), and how far the data are from it.

    With q = u^T Q u + b u - 1 and h the mean of |grad q|^2 over the data, the signed distance and the normal are

        d = q / r,  n = grad q / r,  r^2 = |grad q|^2 + h q^2,

    to first order those of the nearest point of the surface (Sampson 1982; Taubin 1991), and bounded far from it.
    """

    form: Tensor
    linear: Tensor
    slope: Tensor
    distance: Tensor

    def __init__(self, coordinates: int) -> None:
        super().__init__()
        self.register_buffer("form", torch.eye(coordinates) / coordinates)
        self.register_buffer("linear", torch.zeros(coordinates))
        self.register_buffer("slope", torch.tensor(4.0 / coordinates))
        self.register_buffer("distance", torch.tensor(coordinates**0.5))

    def fit(self, u: Tensor, variances: Tensor) -> None:
        """The quadric of least mean q^2 and, of several such, least size, for points u (N, m) of mean 0 whose
        coordinates have the ``variances`` (m,) and don't correlate.

        The last half of the points is not fitted: their root-mean-square d is ``distance``, which says whether there
        is a quadric or only too few points.
        """
        spread = variances.sum().sqrt()
        seen = variances > (_VISIBLE * spread) ** 2
        scale = torch.where(seen, variances, torch.ones_like(variances)).rsqrt() * seen
        fitted, held = u[: (len(u) + 1) // 2][:_POINTS], u[len(u) // 2 :][:_POINTS]
        form, linear = unit_level(fitted * scale)
        self.form.copy_(scale[:, None] * form * scale)
        self.linear.copy_(scale * linear)
        gradient = 2 * fitted @ self.form.to(u) + self.linear.to(u)
        self.slope.copy_(gradient.square().sum(1).mean())
        d, _ = self(held.to(self.form))
        self.distance.copy_(d.double().square().mean().sqrt().clamp_min(_FLOOR * spread))

    def forward(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """d (B, 1) and n (B, m)."""
        half = u @ self.form
        q = (u * (half + self.linear)).sum(1, keepdim=True) - 1
        gradient = 2 * half + self.linear
        size = (gradient.square().sum(1, keepdim=True) + self.slope * q.square()).sqrt()
        size = size.clamp_min(torch.finfo(size.dtype).tiny)
        return q / size, gradient / size


def unit_level(w: Tensor) -> tuple[Tensor, Tensor]:
    """Q (m, m), symmetric, and b (m,) of least mean (w^T Q w + b w - 1)^2 over points w (N, m).

    By conjugate gradients from 0, which tend to the smallest of several solutions and never hold the m (m + 1) / 2
    products of coordinates.
    """
    form, linear = w.new_zeros(w.shape[1], w.shape[1]), w.new_zeros(w.shape[1])
    residual = w.new_ones(len(w))

    def transposed(r: Tensor) -> tuple[Tensor, Tensor]:
        return w.mT @ (r[:, None] * w) / len(w), w.mT @ r / len(w)

    descent = transposed(residual)
    direction = descent
    size = first = descent[0].square().sum() + descent[1].square().sum()
    for _ in range(_ITERATIONS):
        if not size > 1e-20 * first:
            break
        change = ((w @ direction[0] + direction[1]) * w).sum(1)
        step = size * len(w) / change.square().sum()
        form, linear = form + step * direction[0], linear + step * direction[1]
        residual = residual - step * change
        descent = transposed(residual)
        before, size = size, descent[0].square().sum() + descent[1].square().sum()
        ratio = size / before
        direction = descent[0] + ratio * direction[0], descent[1] + ratio * direction[1]
    return form, linear
