"""What the objective asks of an encoder of Gaussian data: reverse water-filling.

A direction of variance lam whose code leaves the variance kappa costs ln(lam / kappa) / 2 nats, and a data term that
falls with kappa. The best kappa, where it is below lam, is the same for all directions. The sigma2 weighting has a
largest beta: at and above it no direction is worth its code, however wide it is.
"""

from __future__ import annotations

import torch
from torch import Tensor

from scorefold.diffusion import DiffusionProcess, Isotropic, time_grid

_NODES = 4000
_RESIDUALS = torch.logspace(-6, 6, 1201, dtype=torch.float64)


def marginal_gain(process: DiffusionProcess, residual: Tensor) -> Tensor:
    """f(kappa) = E_t [a^2 s^2 kappa / (a^2 kappa + s^2)^2] over uniform times, for residual variances kappa (n,): (n,).

    It is twice kappa times the slope of the data term in kappa, which the code's price balances where f = beta. a and s
    are the signal and the scale of a process with one noise level, kappa is in units of the events squared.
    """
    times = time_grid(process, _NODES, "log-snr")
    signal, scale = (value.flatten() for value in process.coefficients(times[:, None], times))
    ratio = (signal**2 * residual.double()[:, None]) / scale**2
    values = ratio / (1 + ratio) ** 2
    integral: Tensor = torch.trapezoid(values.flip(1), times.flip(0)) / (process.t_max - process.t_min)
    return integral


def collapse_weight(process: DiffusionProcess) -> float | None:
    """The beta from which on the best code of any Gaussian data says nothing, for the sigma2 weighting.

    None for a process whose components have noise levels of their own.
    """
    if not isinstance(process, Isotropic):
        return None
    return float(marginal_gain(process, _RESIDUALS).max())


def best_residual(process: DiffusionProcess, beta: float) -> float | None:
    """kappa, the variance that the best code leaves of every coded direction: the smaller root of f(kappa) = beta.

    None where no code is worth its price, beta at or above ``collapse_weight``. Bisection, to 1e-6 of the value.
    """
    gains = marginal_gain(process, _RESIDUALS)
    top = int(gains.argmax())
    if beta >= float(gains[top]):
        return None
    low, high = -12.0, float(_RESIDUALS[top].log10())
    for _ in range(40):
        middle = (low + high) / 2
        above = float(marginal_gain(process, torch.tensor([10**middle]))[0]) > beta
        low, high = (low, middle) if above else (middle, high)
    return float(10 ** ((low + high) / 2))
