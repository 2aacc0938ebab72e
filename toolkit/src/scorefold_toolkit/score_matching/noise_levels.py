"""Noise levels to train a score at: times of a process whose noise follows a chosen distribution."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scorefold.data import EventScale
from scorefold.diffusion import DiffusionProcess, IsotropicProcess, Schedule
from scorefold.errors import ConfigError
from scorefold.random import draw_uniform
from scorefold_toolkit.config.common import (
    CosineLevels,
    LevelsConfig,
    LogitNormalLevels,
    LogNormalLevels,
    LogUniformLevels,
    MixtureLevels,
    TimeLevels,
    WeightingConfig,
)
from scorefold_toolkit.score_matching.losses import draw_times

Level = Callable[[Tensor], Tensor]
"""Times (B,) in float64 to u = ln(sigma / s) (B,), increasing."""


@dataclass(frozen=True)
class NoiseLevels:
    """Times of a process on an interval, [t_min, t_max] by default, distributed as a config says.

    ``spread`` is s, the standard deviation of a coordinate of the data. ``level`` gives u = ln(sigma / s) at times
    (B,); by default it is the mean over components of ln(scale / signal), less ln s. A distribution that reaches beyond
    the interval is cut off there.
    """

    process: DiffusionProcess
    config: LevelsConfig
    spread: float = 1.0
    interval: tuple[float, float] | None = None
    level: Level | None = None

    def times(self, count: int, *, like: Tensor, generator: torch.Generator | None) -> Tensor:
        """Random times (count,), spread evenly over the distribution, on the device and in the dtype of ``like``.

        Raises ``ConfigError`` where the process has none of the levels.
        """
        if isinstance(self.config, TimeLevels):
            ends = self.interval
            return draw_times(self.process, count, like=like, generator=generator, stratified=True, interval=ends)
        q = draw_uniform((1,), generator=generator, like=like).to(_precision(like))
        q = (q + torch.arange(count, device=like.device, dtype=q.dtype) / max(count, 1)) % 1
        low, high = self._range(q)
        u = _quantile(self.config, q, low, high)
        return self._times_of(u).to(like)

    def reweigh(
        self, losses: Tensor, t: Tensor, weighting: WeightingConfig, uncertainty: Level | None = None
    ) -> Tensor:
        """Losses (B,) at times t (B,) as they are trained, (B,).

        For ``likelihood``, a bound that is a mean over uniform times, they are corrected for the levels that were
        drawn. With ``uncertainty``, which gives v(u) as ``nn.LossUncertainty`` does, they are losses e^-v + v.
        """
        if uncertainty is not None:
            v = uncertainty(self._levels(t))
            return losses * (-v).exp() + v
        return losses * self.importance(t) if weighting.name == "likelihood" else losses

    def importance(self, t: Tensor) -> Tensor:
        """Density of uniform times near t (B,), relative to these times, (B,): the weight that makes a mean over these
        times one over uniform times.
        """
        if isinstance(self.config, TimeLevels):
            return torch.ones_like(t)
        start, end = self._ends
        exact = t.to(_precision(t))
        low, high = self._range(exact)
        step = 1e-5 * (end - start)
        before, after = (exact - step).clamp(start, end), (exact + step).clamp(start, end)
        slope = (self._levels(after) - self._levels(before)) / (after - before)
        density = _density(self.config, self._levels(exact), low, high) * slope
        return (1 / (density * (end - start))).to(t)

    @property
    def _ends(self) -> tuple[float, float]:
        return (self.process.t_min, self.process.t_max) if self.interval is None else self.interval

    def _times_of(self, u: Tensor) -> Tensor:
        """The times with these levels (B,): in closed form for one schedule, else by bisection, which asks 40 times."""
        start, end = self._ends
        if self._schedule is not None:
            return self._schedule.time_at(self.spread * u.exp()).clamp(start, end)
        return _invert(self._levels, u, start, end)

    @property
    def _schedule(self) -> Schedule | None:
        """The only schedule of the process, whose levels these are, or None."""
        process = self.process
        return process.schedule if self.level is None and isinstance(process, IsotropicProcess) else None

    def _range(self, like: Tensor) -> tuple[float, float]:
        """The levels at both ends. One schedule has no tensors, and on the CPU no training step waits for a device."""
        device = like.device if self._schedule is None else "cpu"
        low, high = self._levels(torch.tensor(self._ends, dtype=like.dtype, device=device)).tolist()
        return low, high

    def _levels(self, t: Tensor) -> Tensor:
        if self.level is not None:
            return self.level(t)
        log_snr = self.process.log_snr(t)
        mean = log_snr if log_snr.dim() == 1 else log_snr.flatten(1).mean(1)
        return -mean / 2 - math.log(self.spread)


def _precision(like: Tensor) -> torch.dtype:
    return torch.float32 if like.device.type == "mps" else torch.float64


def _quantile(config: Any, q: Tensor, low: float, high: float) -> Tensor:
    """The u in [low, high] below which a share q (B,) of the distribution, cut off at low and high, lies."""
    if isinstance(config, MixtureLevels):
        uniform = q < config.share
        parts = (LogUniformLevels(low=config.low, high=config.high), q / config.share)
        rest = (LogNormalLevels(mean=config.mean, std=config.std), (q - config.share) / (1 - config.share))
        drawn = [_quantile(part, share.clamp(0, 1), low, high) for part, share in (parts, rest)]
        return torch.where(uniform, drawn[0], drawn[1])
    if isinstance(config, LogUniformLevels):
        low, high = _within(config, low, high)
        return low + (high - low) * q
    start, end = (_share_below(config, q.new_tensor(edge)) for edge in (low, high))
    share = start + (end - start) * q
    if isinstance(config, CosineLevels):
        u = (math.pi / 2 * share).tan().log()
    else:
        u = config.mean + config.std * torch.special.ndtri(share)
    return u.clamp(low, high)


def _density(config: Any, u: Tensor, low: float, high: float) -> Tensor:
    """The density of that distribution at u (B,)."""
    if isinstance(config, MixtureLevels):
        uniform = _density(LogUniformLevels(low=config.low, high=config.high), u, low, high)
        normal = _density(LogNormalLevels(mean=config.mean, std=config.std), u, low, high)
        return config.share * uniform + (1 - config.share) * normal
    if isinstance(config, LogUniformLevels):
        low, high = _within(config, low, high)
        return ((u >= low) & (u <= high)).to(u) / (high - low)
    start, end = (_share_below(config, u.new_tensor(edge)) for edge in (low, high))
    if isinstance(config, CosineLevels):
        whole = u.cosh().reciprocal() / math.pi
    else:
        z = (u - config.mean) / config.std
        whole = (-(z**2) / 2).exp() / (config.std * math.sqrt(2 * math.pi))
    density: Tensor = whole / (end - start)
    return density


def _share_below(config: CosineLevels | LogNormalLevels | LogitNormalLevels, u: Tensor) -> Tensor:
    """The distribution function at u."""
    if isinstance(config, CosineLevels):
        return u.exp().atan() * (2 / math.pi)
    share: Tensor = torch.special.ndtr((u - config.mean) / config.std)
    return share


def _within(config: LogUniformLevels, low: float, high: float) -> tuple[float, float]:
    """The part of [low, high] that the config names. Raises ``ConfigError`` where it names none of it."""
    least = low if config.low is None else max(low, math.log(config.low))
    greatest = high if config.high is None else min(high, math.log(config.high))
    if least >= greatest:
        raise ConfigError(
            f"noise levels from {config.low or 0:g} to {config.high or math.inf:g} times the data's deviation were "
            f"given; the process has {math.exp(low):.3g} to {math.exp(high):.3g}",
            hint="give low and high within that, or a process with other noise",
        )
    return least, greatest


def _invert(level: Level, u: Tensor, start: float, end: float) -> Tensor:
    """The times in [start, end] with these levels (B,), by bisection: it serves any process."""
    low, high = torch.full_like(u, start), torch.full_like(u, end)
    for _ in range(40):
        middle = (low + high) / 2
        above = level(middle) > u
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return (low + high) / 2


COVERING = "set process: {name: ve, relative: true}, or scale the data"
"""The fix of ``short_noise``."""


def short_noise(process: DiffusionProcess, scale: EventScale, event_shape: tuple[int, ...]) -> tuple[str, ...]:
    """The warning that a process ends at a noise below the root-mean-square distance of its data from their mean; none
    where the noise covers the data, and for processes of several noise levels.

    >>> from scorefold.diffusion import VE
    >>> short_noise(VE(sigma_max=50.0), EventScale(std=1.0), (16,))
    ()
    >>> short_noise(VE(sigma_max=50.0), EventScale(std=50.0), (16,))[0][:68]
    'the noise of this score ends at 50, and its data lie 200 from their '
    """
    if not isinstance(process, IsotropicProcess):
        return ()
    signal, noise = map(float, process.schedule.signal_scale(torch.tensor(process.t_max, dtype=torch.float64)))
    reach = signal * scale.spread(event_shape)
    if reach <= noise:
        return ()
    return (
        f"the noise of this score ends at {noise:.3g}, and its data lie {reach:.3g} from their mean: samples may be "
        f"too narrow. To fix this, {COVERING}",
    )
