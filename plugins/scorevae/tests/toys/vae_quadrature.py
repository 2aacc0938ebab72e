"""Means over times and normal draws by quadrature."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor


def times(low: float, high: float = 1.0, nodes: int = 60) -> tuple[Tensor, Tensor]:
    """Times in [low, high] and weights, (nodes,) each, that sum to 1: Gauss-Legendre in the cube root, dense at low."""
    u, w = (torch.tensor(part, dtype=torch.float64) for part in np.polynomial.legendre.leggauss(nodes))
    u = (u + 1) / 2
    return low + (high - low) * u**3, w / 2 * 3 * u**2


def normal(nodes: int) -> tuple[Tensor, Tensor]:
    """Points and weights, (nodes,) each, for means of polynomials of a standard normal (Gauss-Hermite)."""
    points, weights = np.polynomial.hermite_e.hermegauss(nodes)
    return torch.tensor(points), torch.tensor(weights / np.sqrt(2 * np.pi))


def signs(dimension: int) -> Tensor:
    """(2^D, D): points of equal weight that give the mean of a quadratic function of D standard normals exactly."""
    return torch.tensor(list(itertools.product((-1.0, 1.0), repeat=dimension)), dtype=torch.float64)


def dense_normal(nodes: int = 801, reach: float = 8.0) -> tuple[Tensor, Tensor]:
    """Points and weights, (nodes,) each, for means over a normal of functions with narrow features (trapezoid)."""
    points = torch.linspace(-reach, reach, nodes, dtype=torch.float64)
    weights = (-(points**2) / 2).exp() / np.sqrt(2 * np.pi) * 2 * reach / (nodes - 1)
    return points, weights
