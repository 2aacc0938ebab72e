"""The speeds of bands: a process whose bands run through one schedule, each until an end of its own.

Batzolis et al. 2022, section 2. Band i is (nearly) noise from T_i on; between T_{i-1} and T_i the bands i, i + 1, ...
diffuse together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from scorefold.config import LogSNRConfig
from scorefold.diffusion import LinearLogSNR, PerComponent, build_schedule
from scorefold.errors import ConfigError
from scorefold_nonuniform.bands.coefficients import Bands
from scorefold_nonuniform.config import BandedConfig
from scorefold_toolkit.rotated import Rotated, Stretched

_SHORTEST = 0.01


def banded_process(config: BandedConfig, bands: Bands, *, deviation: float, unit: float | None = None) -> Rotated:
    """The process of a config on events whose coefficients have these bands.

    ``deviation`` is the standard deviation of the data. log-SNRs are relative to ``unit``, which is ``deviation``
    unless given.

    Raises ``ConfigError`` for a number of ends that is not the number of bands, for one not above t_min, and for data
    of no deviation.
    """
    if deviation <= 0:
        raise ConfigError(
            "the data are one point: their deviation is 0, and bands have nothing to diffuse",
            hint="give data that vary",
        )
    ends = band_ends(config.ends, len(bands))
    t_min = getattr(config.process, "t_min", 0.0)
    if ends[0] <= t_min:
        raise ConfigError(f"the first band ends at {ends[0]:g}, and the process begins at t_min = {t_min:g}")
    if isinstance(config.process, LogSNRConfig):
        offset = 2 * math.log(deviation if unit is None else unit)
        parameters = {
            "lam_max": torch.full((len(bands),), config.process.lam_max - offset),
            "lam_min": torch.full((len(bands),), config.process.lam_min - offset),
            "t_end": torch.tensor(ends),
        }
        schedule = LinearLogSNR(**parameters, t_min=config.process.t_min)
        return Rotated(PerComponent(bands.event_shape, schedule, blocks=bands.index), bands.transform)
    spread = deviation * math.sqrt(math.prod(bands.event_shape))
    blocks = [
        (bands.index == band, Stretched(build_schedule(config.process, spread=spread, deviation=deviation), end))
        for band, end in enumerate(ends)
    ]
    return Rotated(PerComponent(bands.event_shape, blocks), bands.transform)


def band_ends(ends: Sequence[float] | None, count: int) -> list[float]:
    """The times T_1, ..., T_n at which bands end, (i / n by default). Raises ``ConfigError`` for another number."""
    if ends is None:
        return [(band + 1) / count for band in range(count)]
    if len(ends) != count:
        raise ConfigError(
            f"there are {len(ends)} ends, {', '.join(f'{end:g}' for end in ends)}, and {count} bands",
            hint=f"give {count} ends, the finest band's first and the last 1, or leave them out",
        )
    return list(ends)


def boundary_cost(lam: Tensor, energy: Tensor, *, matched: bool) -> Tensor:
    """A bound on the nats lost where a band of log-SNR lam (...) is replaced by independent noise: (...).

    With a = signal, b = scale: KL(p(d_t, rest_t) || q(d_t) p(rest_t)) <= E KL(p(d_t | d_0) || q(d_t)), as the rest is
    drawn from d_0's company without d_t. For q = N(0, 1) that is 1/2 sum (a^2 e + b^2 - 1 - ln b^2) with energies
    e = E d_0^2, and for q = N(a mean, a^2 e + b^2) with variances e it is 1/2 sum ln(1 + e^lam e). Both hold for any
    distribution of the data, and grow with lam. ``energy`` holds the e of the band's coefficients (K,).
    """
    lam = lam[..., None]
    if matched:
        return torch.log1p(lam.exp() * energy).sum(-1) / 2
    signal, noise = torch.sigmoid(lam), torch.sigmoid(-lam)
    return (signal * energy + noise - 1 - noise.log()).sum(-1) / 2


def noisiest(energy: Tensor, nats: float, *, matched: bool) -> float:
    """The largest log-SNR whose ``boundary_cost`` is at most so many nats, by bisection."""
    low, high = -200.0, 200.0
    for _ in range(100):
        middle = (low + high) / 2
        if float(boundary_cost(energy.new_tensor(middle), energy, matched=matched)) <= nats:
            low = middle
        else:
            high = middle
    return low


def spend_budget(schedule: LinearLogSNR, levels: Sequence[float], *, sets: str) -> None:
    """Lets each band end at its log-SNR in ``levels``, in place, the finest first.

    ``sets`` is ``noise``: it ends when it did, or ``ends``: it falls as fast as it did and ends that much sooner (or
    later), ends being kept a hundredth apart and then the whole stretched so that the last is 1.
    Raises ``ConfigError`` for a level above the one that the band starts from.
    """
    wanted = torch.tensor(levels, dtype=torch.float64)
    lam_max, t_end = schedule.lam_max, schedule.t_end
    assert isinstance(lam_max, Tensor)
    assert isinstance(t_end, Tensor)
    if bool((wanted >= lam_max.double().cpu()).any()):
        raise ConfigError(
            f"bands that end at log-SNRs {[round(level, 2) for level in levels]} meet the budget, and start from "
            f"{float(lam_max.max()):.3g}",
            hint="lower boundary_kl: bands that start as noise would be drawn and not learned",
        )
    if sets == "ends":
        slope = torch.as_tensor(schedule.slope).double().cpu()
        ends = (schedule.t_min + (lam_max.double().cpu() - wanted) / slope).tolist()
        for band in range(1, len(ends)):
            ends[band] = max(ends[band], ends[band - 1] + _SHORTEST)
        wanted = lam_max.double().cpu() - slope * (torch.tensor(ends, dtype=torch.float64) - schedule.t_min)
        stretch = (1 - schedule.t_min) / (ends[-1] - schedule.t_min)
        t_end.copy_(schedule.t_min + stretch * (torch.tensor(ends, dtype=torch.float64) - schedule.t_min))
    lam_min = schedule.lam_min
    assert isinstance(lam_min, Tensor)
    lam_min.copy_(wanted)
