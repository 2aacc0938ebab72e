"""The data term of the evidence lower bound: how far the score given a code is from that of the noise that was added.

Batzolis, Stanczuk and Schönlieb (2023); in errors of the noise, which stay finite at small times.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from scorefold.diffusion import DiffusionProcess, Isotropic
from scorefold.errors import ConfigError
from scorefold.interfaces import Progress
from scorefold.random import draw_normal, draw_uniform
from scorefold_scorevae.scorevae.config import DiffusedLossConfig
from scorefold_toolkit.config.common import LogNormalLevels
from scorefold_toolkit.score_matching.losses import draw_times, weighted_square
from scorefold_toolkit.score_matching.noise_levels import NoiseLevels


@dataclass(frozen=True)
class Diffused:
    """Events x (B, *E) at times t (B,), the noise (B, *E) that is in them."""

    x: Tensor
    t: Tensor
    noise: Tensor


def diffuse(
    process: DiffusionProcess, x0: Tensor, config: DiffusedLossConfig, generator: torch.Generator | None, spread: float
) -> Diffused:
    """Events x0 (B, *E) at one random time each, as the loss draws them (``config.times``, and for the weighting edm
    ``config.noise_levels`` beside ``spread``, the deviation of a coordinate)."""
    if config.weighting == "edm":
        levels = NoiseLevels(process, config.noise_levels or LogNormalLevels(), spread)
        t = levels.times(len(x0), like=x0, generator=generator)
    elif config.times == "log-snr":
        t = level_times(process, x0, generator)
    else:
        t = draw_times(process, len(x0), like=x0, generator=generator, stratified=True)
    noise = draw_normal(tuple(x0.shape), generator=generator, like=x0)
    return Diffused(process.perturb(x0, t, noise), t, noise)


def data_term(
    process: DiffusionProcess, point: Diffused, expected_noise: Tensor, config: DiffusedLossConfig, spread: float
) -> Tensor:
    """The data term of each event, (B,), from the noise (B, *E) that the model expects in it.

    - ``sigma2``: 1/2 ||eps-hat - eps||^2, summed over the event, its mean over uniform times.
    - ``edm``: the same, each square times 1 + r^2 with r the noise-to-signal ratio over ``spread``, its mean over
      log-normal levels: half the squared error of the event in units of spread^2 at high noise (Karras et al. 2022).
    - ``likelihood``: an unbiased draw of 1/2 int g^2 ||s - s*||^2 dt over [t_min, t_max]. With times uniform in the
      log-SNR lam it is 1/2 (lam_max - lam_min) ||eps-hat - eps||^2, since g^2 / scale^2 = -d lam / dt.
    """
    residual = expected_noise - point.noise
    if config.weighting == "edm":
        mean = weighted_square(process, residual, point.x, point.t, "edm", spread=spread)
        return mean * residual[0].numel() / 2
    square = weighted_square(process, residual, point.x, point.t, "sigma2") / 2
    if config.weighting == "sigma2":
        return square
    if config.times == "log-snr":
        return log_snr_range(process) * square
    length = process.t_max - process.t_min
    return length * weighted_square(process, residual, point.x, point.t, "likelihood")


def level_times(process: DiffusionProcess, like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Times (B,) uniform in the log-SNR, spread evenly from one random offset, for events ``like`` (B, *E).

    Raises ``ConfigError`` for a process whose components have levels of their own.
    """
    if not isinstance(process, Isotropic):
        raise ConfigError(
            f"times uniform in the log-SNR need one level for all components; {type(process).__name__} has several",
            hint="times: stratified",
        )
    count = len(like)
    u = draw_uniform((1,), generator=generator, like=like).double()
    u = (u + torch.arange(count, device=like.device, dtype=torch.float64) / max(count, 1)) % 1
    high, low = _log_snr_ends(process)
    return process.time_at((-(low + (high - low) * u) / 2).exp()).clamp(process.t_min, process.t_max).to(like)


def log_snr_range(process: DiffusionProcess) -> float:
    """lam_max - lam_min of a process with one noise level."""
    high, low = _log_snr_ends(process)
    return high - low


def _log_snr_ends(process: DiffusionProcess) -> tuple[float, float]:
    high, low = process.log_snr(torch.tensor([process.t_min, process.t_max], dtype=torch.float64)).tolist()
    return high, low


def warmed_up(share: float, progress: Progress, *, training: bool) -> float:
    """Share of a weight at a step, if it rises from 0 over a share of the training.

    All of it outside training, so that held-out losses can be compared.
    """
    rise = share * progress.total
    return min(1.0, (progress.step + 1) / rise) if training and rise > 0 else 1.0


def normal_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, e^log_variance) || N(0, I)) in nats of each coordinate, with the shape of the mean."""
    kl: Tensor = (mean**2 + log_variance.exp() - 1 - log_variance) / 2
    return kl
