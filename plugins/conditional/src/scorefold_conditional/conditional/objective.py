"""The joint denoising loss of an event and its condition, each diffused at its own speed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from scorefold.diffusion import Schedule, expand
from scorefold.random import draw_normal
from scorefold_toolkit.config.common import WeightingConfig
from scorefold_toolkit.score_matching.losses import as_weighting, noise_weight


@dataclass(frozen=True)
class ConditionBlock:
    """One diffused tensor: the residual eps-hat - z (B, *shape) of its noise at times t (B,), and its schedule.

    ``spread`` is the standard deviation of its clean coordinates. ``weight`` (B,) scales the rows of the block, 0 for
    those that were not shown.
    """

    residual: Tensor
    schedule: Schedule
    spread: float | Tensor = 1.0
    weight: Tensor | None = None


def joint_loss(blocks: Mapping[str, ConditionBlock], t: Tensor, weighting: WeightingConfig | str) -> dict[str, Tensor]:
    """The loss of each point by block, (B,): the loss is their sum.

    With s - s* = -(eps-hat - z) / b for each block,

    - ``likelihood``: 1/2 g^2 ||s - s*||^2, each block with its own dispersion g, which is 1/2 ||G^T (s - s*)||^2 for
      the joint diffusion with G = diag(g_x, g_y); its integral over time bounds the joint negative log-likelihood up
      to a constant (Batzolis et al. 2021, theorem 2).
    - ``sigma2``: ||eps-hat - z||^2.
    - all others: the same, times ``noise_weight`` at the block's own noise over its spread, over the number of
      coordinates of all blocks together, so that the sum is a mean.
    """
    weighting = as_weighting(weighting)
    coordinates = sum(block.residual[:1].numel() for block in blocks.values())
    losses = {}
    for name, block in blocks.items():
        signal, scale = block.schedule.signal_scale(t)
        if weighting.name == "likelihood":
            factor = (block.schedule.rates(t)[1] / scale) ** 2 / 2
        else:
            factor = noise_weight(weighting, scale / (signal * block.spread))
        squares = (expand(factor, block.residual) * block.residual**2)[..., None].flatten(1).sum(1)
        loss = squares if weighting.sums else squares / max(1, coordinates)
        losses[name] = loss if block.weight is None else block.weight * loss
    return losses


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
