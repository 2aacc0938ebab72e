"""The straight path of rectified flow as a diffusion."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scorefold.diffusion import Schedule


class Rectified(Schedule):
    """x_t = (1 - t) x_0 + s t z: signal 1 - t, scale s t, on [t_min, t_end] inside (0, 1) (Liu et al. 2023).

    s is the deviation of the data, in whose units the noise is. The diffusion with these marginals has the drift
    -x / (1 - t) and the dispersion s sqrt(2 t / (1 - t)), so its probability flow is the flow that matching learns.

    >>> path = Rectified(2.0)
    >>> path.signal_scale(torch.tensor([0.25]))
    (tensor([0.7500]), tensor([0.5000]))
    """

    deviation: float

    def __init__(self, deviation: float = 1.0, *, t_min: float = 1e-3, t_end: float = 0.999) -> None:
        super().__init__()
        self.keep(deviation=deviation)
        self.t_min, self.t_end, self.prior_scale = t_min, t_end, deviation * math.hypot(t_end, 1 - t_end)

    def signal_scale(self, t: Tensor) -> tuple[Tensor, Tensor]:
        t = self.held(t)
        return 1 - t, self.deviation * t

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        t = self.held(t)
        return -1 / (1 - t), self.deviation * (2 * t / (1 - t)).sqrt()

    def log_snr(self, t: Tensor) -> Tensor:
        return -2 * (torch.logit(self.held(t)) + math.log(self.deviation))

    def time_at(self, noise_to_signal: Tensor) -> Tensor:
        ratio = noise_to_signal / self.deviation
        return ratio / (1 + ratio)
