"""The condition's own diffusion: the event's schedule at another speed, and how that speed falls in training."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from scorefold.diffusion import GeometricVE, LinearSubVP, Schedule
from scorefold.diffusion.schedules import EDM, Value
from scorefold.errors import ConfigError


def condition_schedule(event: Schedule, speed: Value) -> Schedule:
    """The diffusion of a condition at speed r in (0, 1], beside events that diffuse by a schedule.

    Where the signal stays 1 (ve, edm) the condition's noise rises from the same sigma_min to r sigma_max, in the same
    units as the event's; where it falls (vp, sub-vp, cosine, log-snr) the condition's beta is r times the event's. At
    r = 1 it is the event's schedule. ``speed`` may be (B,), one a point. Raises ``ConfigError`` where r sigma_max is
    not above sigma_min.
    """
    try:
        match event:
            case GeometricVE():
                return GeometricVE(event.sigma_min, speed * event.sigma_max, t_min=event.t_min)
            case EDM():
                low, high = event.first**event.rho, (event.first + event.rise) ** event.rho
                return EDM(low, speed * high, float(event.rho))
    except ConfigError as error:
        raise ConfigError(
            f"a condition of speed {speed} would diffuse no further than it starts: {error.message}",
            hint="choose a larger condition_speed, or 0 for a clean condition (estimator: cde)",
        ) from error
    return Slowed(event, speed)


class Slowed(Schedule):
    """A schedule whose signal is e^{-B/2} with B = int beta, at a beta r times as large.

    The scale is sqrt(1 - e^{-B}), or 1 - e^{-B} where the schedule is sub-VP. B is read off the log-SNR, where no
    digits are lost.
    """

    speed: Value

    def __init__(self, schedule: Schedule, speed: Value) -> None:
        super().__init__()
        self.schedule = schedule
        self.sub = isinstance(schedule, LinearSubVP)
        self.keep(speed=speed)
        self.t_min, self.t_end, self.prior_scale = schedule.t_min, schedule.t_end, 1.0

    def signal_scale(self, t: Tensor) -> tuple[Tensor, Tensor]:
        total = self._total(t)
        variance = -torch.expm1(-total)
        return torch.exp(-total / 2), variance if self.sub else variance.sqrt()

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        drift = self.speed * self.schedule.rates(t)[0]
        beta = -2 * drift
        return drift, (beta * -torch.expm1(-2 * self._total(t)) if self.sub else beta).sqrt()

    def log_snr(self, t: Tensor) -> Tensor:
        total = self._total(t)
        return -2 * (2 * torch.sinh(total / 2)).log() if self.sub else -torch.expm1(total).log()

    def time_at(self, noise_to_signal: Tensor) -> Tensor:
        if self.sub:
            return self.schedule.time_at(2 * torch.sinh(torch.asinh(noise_to_signal / 2) / self.speed))
        return self.schedule.time_at(torch.expm1(torch.log1p(noise_to_signal**2) / self.speed).sqrt())

    def _total(self, t: Tensor) -> Tensor:
        """B(t), the integral of the slowed beta from 0."""
        log_snr = self.schedule.log_snr(t)
        whole = 2 * torch.asinh(torch.exp(-log_snr / 2) / 2) if self.sub else functional.softplus(-log_snr)
        return self.speed * whole


def annealed_speed(target: float, step: int, steps: int) -> float:
    """The speed at a step of training that falls from 1 to ``target`` over ``steps`` steps, and stays there.

    1 / r is linear in the step: r = M r_t / (n (1 - r_t) + M r_t) at step n of M, which is the published
    s(n) = M s_t s_0 / (n (s_0 - s_t) + M s_t) for s = r s_0, but for staying at the target after M steps.
    """
    if step >= steps:
        return target
    return steps * target / (step * (1 - target) + steps * target)
