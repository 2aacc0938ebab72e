"""The schedules of published models that are not core's: a table of timesteps, and a circle."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scorefold.diffusion import Schedule
from scorefold.errors import ConfigError


class DiscreteVP(Schedule):
    """signal^2 = alphas_cumprod at integer t, log-SNR linear in t between; scale^2 = 1 - signal^2 (Ho et al. 2020).

    t is the timestep, from 0 to T - 1. ``alphas_cumprod`` (T,) falls strictly within (0, 1). Zeros at its end, as
    schedules with zero terminal SNR have, are left out: there is no signal and no score. Raises ``ConfigError`` for any
    other table.

    >>> signal, scale = DiscreteVP(torch.tensor([0.9, 0.36])).signal_scale(torch.tensor([1.0]))
    >>> round(float(signal), 3), round(float(scale), 3)
    (0.6, 0.8)
    """

    def __init__(self, alphas_cumprod: Tensor) -> None:
        super().__init__()
        given = alphas_cumprod.double()
        alpha = given[: int(given.nonzero().max()) + 1] if bool((given != 0).any()) else given[:0]
        if not bool(((alpha > 0) & (alpha < 1)).all()) or not bool((alpha[1:] < alpha[:-1]).all()) or len(alpha) < 2:
            raise ConfigError(
                "the scheduler's alphas_cumprod does not fall strictly within (0, 1): its log-SNR is not finite",
                hint="check its betas: each lies within (0, 1)",
            )
        # A plain tensor, not a buffer: it belongs to the folder's scheduler, not to the model's weights.
        self.table = torch.log(alpha) - torch.log1p(-alpha)
        self.t_min, self.t_end, self.prior_scale = 0.0, float(len(alpha) - 1), 1.0

    def signal_scale(self, t: Tensor) -> tuple[Tensor, Tensor]:
        log_snr = self._interpolate(t)[0]
        return torch.sigmoid(log_snr).sqrt().to(t.dtype), torch.sigmoid(-log_snr).sqrt().to(t.dtype)

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        log_snr, slope = self._interpolate(t)
        beta = -torch.sigmoid(-log_snr) * slope
        return (-beta / 2).to(t.dtype), beta.sqrt().to(t.dtype)

    def log_snr(self, t: Tensor) -> Tensor:
        return self._interpolate(t)[0].to(t.dtype)

    def time_at(self, noise_to_signal: Tensor) -> Tensor:
        table = self.table.to(noise_to_signal.device)
        log_snr = -2 * noise_to_signal.double().log()
        left = (torch.searchsorted(-table, -log_snr, right=True) - 1).clamp(0, len(table) - 2)
        t = left + (log_snr - table[left]) / (table[left + 1] - table[left])
        return t.to(noise_to_signal.dtype)

    def _interpolate(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """log-SNR and its slope at t, in float64."""
        table = self.table.to(t.device)
        left = t.floor().long().clamp(0, len(table) - 2)
        weight = t.double() - left
        return table[left] * (1 - weight) + table[left + 1] * weight, table[left + 1] - table[left]


class TrigFlow(Schedule):
    """x_t = cos(t) x_0 + s sin(t) z: signal cos t, scale s sin t, on [t_min, t_end] inside (0, pi / 2) (Lu and Song
    2025). s is the deviation of the data, in whose units the noise is.

    >>> signal, scale = TrigFlow(0.5).signal_scale(torch.tensor([math.pi / 6]))
    >>> round(float(signal), 4), round(float(scale), 4)
    (0.866, 0.25)
    """

    deviation: float

    def __init__(self, deviation: float = 1.0, *, t_min: float = 1e-3, t_end: float = math.pi / 2 - 1e-3) -> None:
        super().__init__()
        self.keep(deviation=deviation)
        self.t_min, self.t_end, self.prior_scale = t_min, t_end, deviation

    def signal_scale(self, t: Tensor) -> tuple[Tensor, Tensor]:
        t = self.held(t)
        return t.cos(), self.deviation * t.sin()

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        slope = self.held(t).tan()
        return -slope, self.deviation * (2 * slope).sqrt()

    def log_snr(self, t: Tensor) -> Tensor:
        return -2 * (self.held(t).tan().log() + math.log(self.deviation))

    def time_at(self, noise_to_signal: Tensor) -> Tensor:
        return (noise_to_signal / self.deviation).atan()
