"""Calls of networks, and the noise from their outputs: one small function per convention.

A noised event is x = a x_0 + b z, with signal a, scale b and z standard normal. Whatever a network answers, F, the
expected noise eps-hat follows from it, and the score is -eps-hat / b.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from scorefold.data import Condition, EventScale
from scorefold.diffusion import DiffusionProcess, Schedule
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


Noise = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""(F (B, *E), x (B, *E), a, b) -> eps-hat (B, *E); a and b broadcast to events."""

Network = Callable[[Tensor, Tensor, Condition | None], Tensor]
"""(what is shown (B, *E), its time (B,), the condition) -> F (B, *E)."""


def from_epsilon(F: Tensor, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """F is the noise (Ho et al. 2020)."""
    return F


def from_x0(F: Tensor, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """F is the datum; diffusers calls it ``sample``."""
    return (x - a * F) / b


def from_v(F: Tensor, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """F is a z - b x_0 (Salimans and Ho 2022)."""
    return (b * x + a * F) / (a**2 + b**2)


def from_score(F: Tensor, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """F is the score."""
    return -b * F


def from_velocity(F: Tensor, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """F is z - x_0, the velocity of straight paths (Liu et al. 2023): with a = 1 - t, b = t it is x + (1 - t) F."""
    return (x + a * F) / (a + b)


PARAMETRISATIONS: dict[str, Noise] = {
    "epsilon": from_epsilon,
    "x0": from_x0,
    "v": from_v,
    "score": from_score,
    "velocity": from_velocity,
}


def from_edm(deviation: float, sign: float) -> Noise:
    """F corrects the best linear guess of the datum of data with this deviation s (Karras et al. 2022, eq. 7):
    x_0 = (s^2 x + sign b s sqrt(b^2 + s^2) F) / (b^2 + s^2)."""

    def noise(F: Tensor, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        spread = b**2 + deviation**2
        return b * x / spread - sign * deviation * F / spread.sqrt()

    return noise


def from_trigflow(deviation: float) -> Noise:
    """F is cos(t) z - sin(t) x_0 / s for data with the deviation s: sin(t) x / s + cos(t) F, with b = s sin(t)."""

    def noise(F: Tensor, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return b * x / deviation**2 + a * F

    return noise


def as_it_is(x: Tensor, b: Tensor) -> Tensor:
    return x


def own_time(t: Tensor, sigma: Tensor) -> Tensor:
    return t


@dataclass(frozen=True)
class Family:
    """A schedule, and how networks that were trained on it are asked.

    ``noise`` reads the answer; ``time`` makes what the network is given from t (B,) and b / a (B,); ``shown`` makes its
    input from x (B, *E) and b; ``scale`` has the units of the events.
    """

    schedule: Schedule
    noise: Noise
    time: Callable[[Tensor, Tensor], Tensor] = own_time
    shown: Callable[[Tensor, Tensor], Tensor] = as_it_is
    scale: EventScale = field(default_factory=lambda: EventScale(low=-1.0, high=1.0))

    def expected_noise(
        self, network: Network, process: DiffusionProcess, x: Tensor, t: Tensor, condition: Condition | None
    ) -> Tensor:
        """eps-hat (B, *E) at x (B, *E), t (B,)."""
        a, b = process.coefficients(x, t)
        answer = network(self.shown(x, b), self.time(t, (b / a).reshape(-1)), condition)
        return self.noise(answer, x, a, b)
