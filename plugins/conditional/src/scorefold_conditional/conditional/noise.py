"""The noise on a condition while a score is sampled."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from scorefold.diffusion import Schedule, expand
from scorefold.random import draw_normal

ConditionNoiseName = Literal["fresh", "path", "frozen"]


class ConditionNoise:
    """y_t = a(t) y + b(t) e_t for one condition at a sequence of times, with e_t standard normal at each.

    ``fresh`` draws e_t anew at every call (Batzolis et al. 2021), also at the same time. ``frozen`` draws it once.
    ``path`` follows one trajectory of the condition's diffusion: given e at the last call, of log-SNR lam', e_t is
    rho e + sqrt(1 - rho^2) z with rho = exp(-|lam - lam'| / 2). Backwards in time that is the bridge
    p(y_t | y, y_t'), forwards the transition p(y_t | y_t'), in any process with a signal and a scale, and at an equal
    time it is the same y_t.
    """

    def __init__(self, name: ConditionNoiseName, generator: torch.Generator | None) -> None:
        self.name = name
        self.generator = generator
        self._noise: Tensor | None = None
        self._log_snr: Tensor | None = None

    def at(self, y: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
        """y_t for y (B, *shape) at t (B,)."""
        signal, scale = schedule.signal_scale(t)
        return expand(signal, y) * y + expand(scale, y) * self._standard(y, schedule.log_snr(t))

    def _standard(self, y: Tensor, log_snr: Tensor) -> Tensor:
        """e_t, of the shape of y. A path or a frozen draw begins anew where the number of rows changes."""
        known, before = self._noise, self._log_snr
        if self.name == "fresh" or known is None or known.shape != y.shape:
            known = draw_normal(tuple(y.shape), generator=self.generator, like=y)
        elif self.name == "path" and before is not None:
            distance = expand((log_snr - before).abs(), y)
            z = draw_normal(tuple(y.shape), generator=self.generator, like=y)
            known = torch.exp(-distance / 2) * known + (-torch.expm1(-distance)).sqrt() * z
        if self.name != "fresh":
            self._noise = known
        if self.name == "path":
            self._log_snr = log_snr
        return known
