"""Metrics of manifolds whose distances and curvature are known, as functions of points."""

from __future__ import annotations

import torch
from torch import Tensor


def of_normals(x: Tensor) -> Tensor:
    """Fisher's metric of N(mu, s^2) by (mu, s): (dmu^2 + 2 ds^2) / s^2."""
    return torch.diag_embed(torch.stack([x[:, 1] ** -2, 2 * x[:, 1] ** -2], 1))


def of_covariances(x: Tensor) -> Tensor:
    """The metric tr(P^-1 dP P^-1 dP) of matrices P = [[a, b], [b, c]] by (a, b, c)."""
    a, b, c = x.unbind(1)
    inverse = torch.stack([c, -b, -b, a], 1).unflatten(1, (2, 2)) / (a * c - b * b)[:, None, None]
    basis = torch.tensor([[[1, 0], [0, 0]], [[0, 1], [1, 0]], [[0, 0], [0, 1]]], dtype=x.dtype)
    moved = inverse[:, None] @ basis
    return torch.einsum("nimk,njkm->nij", moved, moved)


def ball(x: Tensor) -> Tensor:
    """Poincare's ball, of curvature -1."""
    return (2 / (1 - x.square().sum(1))).square()[:, None, None] * torch.eye(x.shape[1], dtype=x.dtype)


def globe(x: Tensor) -> Tensor:
    """The unit sphere by (colatitude, longitude)."""
    return torch.diag_embed(torch.stack([torch.ones_like(x[:, 0]), x[:, 0].sin() ** 2], 1))


def tube(x: Tensor) -> Tensor:
    """The torus of radii 2 and 1 by (longitude, angle of the tube)."""
    return torch.diag_embed(torch.stack([(2 + x[:, 1].cos()) ** 2, torch.ones_like(x[:, 0])], 1))
