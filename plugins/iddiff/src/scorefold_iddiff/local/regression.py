"""The slope of log-densities against the logarithm of the noise: LIDL (Tempczyk et al. 2022, arXiv 2206.14882).

The density rho of data with noise of deviation delta behaves on a k-manifold in R^D as log rho = (k - D) log delta +
O(1), so k = D + slope. The densities come from a model a level (``lidl``), or from a single score: d log rho / d log
delta is FLIPD - D at every level (``flipd``), so integrating it over the levels gives the same curve up to a constant.
"""

from __future__ import annotations

import torch
from torch import Tensor


def slope_in_log_noise(log_density: Tensor, levels: list[float]) -> tuple[Tensor, Tensor]:
    """Least-squares slopes of log-densities (L, N) against log levels, (N,), and the root-mean-square residuals (N,).

    In float64. L is at least 2.
    """
    noise = torch.tensor(levels, dtype=torch.float64).log()
    density = log_density.double().cpu()
    centred = noise - noise.mean()
    slope = centred @ (density - density.mean(0)) / centred.square().sum()
    residual = density - density.mean(0) - centred[:, None] * slope
    return slope, residual.square().mean(0).sqrt()


def integrate_over_log_noise(rates: Tensor, levels: list[float]) -> Tensor:
    """Log-densities (L, N) from their rates d log rho / d log delta (L, N), up to a constant, by trapezoids."""
    noise = torch.tensor(levels, dtype=torch.float64).log()
    rises = torch.cumulative_trapezoid(rates.double().cpu(), noise, dim=0)
    return torch.cat([torch.zeros_like(rises[:1]), rises])
