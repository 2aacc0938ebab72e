"""Schedules: signal(t) and scale(t) of x_t = signal x_0 + scale z, elementwise in parameters of any shape.

A parameter is a float, or a tensor that broadcasts with events (one value a component, ``(*E)``); every method takes
times t that broadcast against the parameters and returns tensors of the broadcast shape. Beyond its ``t_end`` a
schedule keeps the values that it has there.

>>> schedules = (GeometricVE(), EDM(), LinearVP(), LinearSubVP(), LinearLogSNR(), Cosine())
>>> [round(float(schedule.log_snr(torch.tensor(0.4))), 1) for schedule in schedules]
[2.4, 0.1, -1.4, -1.2, 2.0, 0.6]
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from scorefold.errors import ConfigError

Value = float | Tensor


def _log(value: Value) -> Value:
    return value.log() if isinstance(value, Tensor) else math.log(value)


def _holds(condition: bool | Tensor) -> bool:
    return bool(torch.as_tensor(condition).all())


class Schedule(nn.Module, ABC):
    """Noise of one component, or of each component of an event, over time.

    Must: ``signal_scale``, ``rates``, ``log_snr``, ``time_at``, and set ``t_min``, ``t_end`` and ``prior_scale``.

    >>> schedule: Schedule = Cosine()
    >>> t = schedule.time_at(torch.tensor([1.0]))  # where noise and signal are equal
    >>> [round(float(value), 3) for value in schedule.signal_scale(t)]
    [0.707, 0.707]
    """

    t_min: float
    t_end: Value
    prior_scale: Value

    @abstractmethod
    def signal_scale(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(signal, scale) at t."""

    @abstractmethod
    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(a, g) of the equation dx = a x dt + g dw that has this kernel: a = d log signal / dt, g >= 0."""

    @abstractmethod
    def log_snr(self, t: Tensor) -> Tensor:
        """log(signal^2 / scale^2) at t, decreasing in t."""

    @abstractmethod
    def time_at(self, noise_to_signal: Tensor) -> Tensor:
        """The time at which scale / signal takes this value."""

    def held(self, t: Tensor) -> Tensor:
        """t, and t_end where that is over."""
        end = self.t_end
        return torch.minimum(t, end) if isinstance(end, Tensor) else t.clamp_max(end)

    def keep(self, **values: Value) -> None:
        """Set parameters: tensors become buffers, numbers stay plain floats (exact in any dtype, on any device)."""
        for name, value in values.items():
            if isinstance(value, Tensor) and value.dim() > 0:
                self.register_buffer(name, value)
            else:
                setattr(self, name, float(value))


class GeometricVE(Schedule):
    """Variance exploding (Song et al. 2021, eq. 9): signal 1, scale sigma_min (sigma_max / sigma_min)^t on [0, 1].

    The kernel's variance is sigma(t)^2, as everyone takes it, and not sigma(t)^2 - sigma(0)^2: the distribution at t =
    0 is the data with noise sigma_min. Raises ``ConfigError`` unless 0 < sigma_min < sigma_max.
    """

    sigma_min: Value
    sigma_max: Value
    log_ratio: Value

    def __init__(self, sigma_min: Value = 0.01, sigma_max: Value = 50.0, *, t_min: float = 0.0) -> None:
        super().__init__()
        if not (_holds(sigma_min > 0) and _holds(sigma_max > sigma_min)):
            raise ConfigError(f"sigma_min = {sigma_min}, sigma_max = {sigma_max}; expected 0 < sigma_min < sigma_max")
        log_min, log_max = _log(sigma_min), _log(sigma_max)
        self.keep(sigma_min=sigma_min, sigma_max=sigma_max, log_ratio=log_max - log_min)
        self.t_min, self.t_end, self.prior_scale = t_min, 1.0, self.sigma_max

    def signal_scale(self, t: Tensor) -> tuple[Tensor, Tensor]:
        scale = self.sigma_min * torch.exp(self.log_ratio * self.held(t))
        return torch.ones_like(scale), scale

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        scale = self.signal_scale(t)[1]
        return torch.zeros_like(scale), scale * (2 * self.log_ratio) ** 0.5

    def log_snr(self, t: Tensor) -> Tensor:
        return -2 * (self.log_ratio * self.held(t) + _log(self.sigma_min))

    def time_at(self, noise_to_signal: Tensor) -> Tensor:
        return (noise_to_signal.log() - _log(self.sigma_min)) / self.log_ratio


class LinearVP(Schedule):
    """Variance preserving with beta linear in t on [0, 1] (Song et al. 2021, eq. 11).

    With B = int_0^t beta: signal e^{-B/2}, scale sqrt(1 - e^{-B}). Raises ``ConfigError`` for betas not above 0.
    """

    beta_min: Value
    beta_max: Value

    def __init__(self, beta_min: Value = 0.1, beta_max: Value = 20.0, *, t_min: float = 1e-5) -> None:
        super().__init__()
        if not (_holds(beta_min > 0) and _holds(beta_max > 0)):
            raise ConfigError(f"beta_min = {beta_min} and beta_max = {beta_max}; expected both above 0")
        self.keep(beta_min=beta_min, beta_max=beta_max)
        self.t_min, self.t_end, self.prior_scale = t_min, 1.0, 1.0

    def signal_scale(self, t: Tensor) -> tuple[Tensor, Tensor]:
        total = self._integral(t)
        return torch.exp(-total / 2), (-torch.expm1(-total)).sqrt()

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        beta = self._beta(t)
        return -beta / 2, beta.sqrt()

    def log_snr(self, t: Tensor) -> Tensor:
        return -torch.expm1(self._integral(t)).log()

    def time_at(self, noise_to_signal: Tensor) -> Tensor:
        return self._time_of(torch.log1p(noise_to_signal**2))

    def _beta(self, t: Tensor) -> Tensor:
        return self.beta_min + self.held(t) * (self.beta_max - self.beta_min)

    def _integral(self, t: Tensor) -> Tensor:
        t = self.held(t)
        return t * self.beta_min + t**2 * (self.beta_max - self.beta_min) / 2

    def _time_of(self, total: Tensor) -> Tensor:
        """The t with int_0^t beta = total: the stable form of the quadratic's root, which also serves constant beta."""
        low, high = self.beta_min, self.beta_max
        return 2 * total / (low + (low**2 + 2 * (high - low) * total).sqrt())


class LinearSubVP(LinearVP):
    """Sub-VP with beta linear in t on [0, 1] (Song et al. 2021, eq. 12): the signal of VP, scale 1 - e^{-B}.

    Raises ``ConfigError`` unless both betas are above 0.
    """

    def __init__(self, beta_min: Value = 0.1, beta_max: Value = 20.0, *, t_min: float = 1e-3) -> None:
        super().__init__(beta_min, beta_max, t_min=t_min)

    def signal_scale(self, t: Tensor) -> tuple[Tensor, Tensor]:
        total = self._integral(t)
        return torch.exp(-total / 2), -torch.expm1(-total)

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        beta = self._beta(t)
        return -beta / 2, (beta * -torch.expm1(-2 * self._integral(t))).sqrt()

    def log_snr(self, t: Tensor) -> Tensor:
        return -2 * (2 * torch.sinh(self._integral(t) / 2)).log()

    def time_at(self, noise_to_signal: Tensor) -> Tensor:
        return self._time_of(2 * torch.asinh(noise_to_signal / 2))


class LinearLogSNR(Schedule):
    """Variance preserving with a log-SNR that falls linearly from lam_max at t_min to lam_min at t_end.

    signal^2 = sigmoid(lam), scale^2 = sigmoid(-lam) (Batzolis et al. 2022, the multi-scale experiments). ``t_end`` may
    differ from component to component; a component whose time has run out stands still. Raises ``ConfigError`` unless
    lam_min < lam_max and 0 <= t_min < t_end.
    """

    lam_max: Value
    lam_min: Value
    t_end: Value

    def __init__(
        self, lam_max: Value = 10.0, lam_min: Value = -10.0, t_end: Value = 1.0, *, t_min: float = 1e-3
    ) -> None:
        super().__init__()
        if not (_holds(lam_min < lam_max) and t_min >= 0 and _holds(t_end > t_min)):
            raise ConfigError(
                f"lam_max = {lam_max}, lam_min = {lam_min}, t_min = {t_min}, t_end = {t_end}; "
                "expected lam_min < lam_max and 0 <= t_min < t_end"
            )
        self.keep(lam_max=lam_max, lam_min=lam_min, t_end=t_end)
        self.t_min, self.prior_scale = t_min, 1.0

    def signal_scale(self, t: Tensor) -> tuple[Tensor, Tensor]:
        lam = self.log_snr(t)
        return torch.sigmoid(lam).sqrt(), torch.sigmoid(-lam).sqrt()

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        noise_rate = torch.sigmoid(-self.log_snr(t)) * self.slope
        return -noise_rate / 2, noise_rate.sqrt()

    def log_snr(self, t: Tensor) -> Tensor:
        return self.lam_max - self.slope * (self.held(t) - self.t_min)

    def time_at(self, noise_to_signal: Tensor) -> Tensor:
        return self.t_min + (self.lam_max + 2 * noise_to_signal.log()) / self.slope

    @property
    def slope(self) -> Value:
        """-d lam / dt."""
        return (self.lam_max - self.lam_min) / (self.t_end - self.t_min)


class Cosine(Schedule):
    """Variance preserving with signal cos(a) and scale sin(a), the angle a linear in t on [0, 1].

    The schedule of Nichol and Dhariwal (2021), cut so that the log-SNR -2 ln tan(a) runs from lam_max to lam_min; the
    uncut one has no noise at one end and no signal at the other. Raises ``ConfigError`` unless lam_min < lam_max.
    """

    first: Value
    turn: Value

    def __init__(self, lam_max: Value = 10.0, lam_min: Value = -10.0) -> None:
        super().__init__()
        if not _holds(lam_min < lam_max):
            raise ConfigError(f"lam_max = {lam_max}, lam_min = {lam_min}; expected lam_min < lam_max")
        first, last = _angle_of(lam_max), _angle_of(lam_min)
        self.keep(first=first, turn=last - first)
        self.t_min, self.t_end, self.prior_scale = 0.0, 1.0, 1.0

    def signal_scale(self, t: Tensor) -> tuple[Tensor, Tensor]:
        angle = self.angle(t)
        return angle.cos(), angle.sin()

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        pull = self.angle(t).tan() * self.turn
        return -pull, (2 * pull).sqrt()

    def log_snr(self, t: Tensor) -> Tensor:
        return -2 * self.angle(t).tan().log()

    def time_at(self, noise_to_signal: Tensor) -> Tensor:
        return (noise_to_signal.atan() - self.first) / self.turn

    def angle(self, t: Tensor) -> Tensor:
        """a(t), in radians."""
        return self.first + self.turn * self.held(t)


class EDM(Schedule):
    """Variance exploding: signal 1, scale^(1 / rho) linear in t from sigma_min to sigma_max on [0, 1].

    It is the process of Karras et al. (2022) with another clock: uniform steps in t are the steps of their eq. 5.
    With rho = 1 the scale is linear in t. Raises ``ConfigError`` unless 0 < sigma_min < sigma_max and rho > 0.
    """

    first: Value
    rise: Value
    rho: Value

    def __init__(self, sigma_min: Value = 0.002, sigma_max: Value = 80.0, rho: float = 7.0) -> None:
        super().__init__()
        if not (_holds(sigma_min > 0) and _holds(sigma_max > sigma_min) and rho > 0):
            raise ConfigError(
                f"sigma_min = {sigma_min}, sigma_max = {sigma_max}, rho = {rho}; expected 0 < sigma_min < sigma_max "
                "and rho > 0"
            )
        first, last = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
        self.keep(first=first, rise=last - first, rho=rho)
        self.t_min, self.t_end, self.prior_scale = 0.0, 1.0, sigma_max

    def signal_scale(self, t: Tensor) -> tuple[Tensor, Tensor]:
        scale = self._root(t) ** self.rho
        return torch.ones_like(scale), scale

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        root = self._root(t)
        return torch.zeros_like(root), (2 * self.rho * self.rise * root ** (2 * self.rho - 1)).sqrt()

    def log_snr(self, t: Tensor) -> Tensor:
        return -2 * self.rho * self._root(t).log()

    def time_at(self, noise_to_signal: Tensor) -> Tensor:
        return (noise_to_signal ** (1 / self.rho) - self.first) / self.rise

    def _root(self, t: Tensor) -> Tensor:
        """scale^(1 / rho)."""
        return self.first + self.rise * self.held(t)


def _angle_of(lam: Value) -> Value:
    """The angle whose cosine and sine are signal and scale at a log-SNR."""
    if isinstance(lam, Tensor):
        return torch.exp(-lam / 2).atan()
    return math.atan(math.exp(-lam / 2))
