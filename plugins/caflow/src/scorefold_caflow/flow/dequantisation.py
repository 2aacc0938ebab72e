"""Variational dequantisation: the noise within a level comes from a flow given the image (Ho et al. 2019)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from scorefold.random import draw_normal
from scorefold_toolkit.nn import (
    AffineCoupling,
    Chain,
    ConvConditioner,
    LULinear,
    Squeeze,
    StandardNormal,
    coupling_halves,
)

_STEPS = 4


class Dequantiser(nn.Module):
    """The distribution q(u | x) of noise u in (0, 1) for images x (B, C, H, W) brought to unit size: u = sigmoid(f(e;
    x)), e normal.

    It starts as sigmoid of a normal distribution mixed over the pixels of a cell.
    """

    def __init__(self, shape: tuple[int, ...], hidden: int) -> None:
        super().__init__()
        channels = 4 * shape[0]
        self.squeeze = Squeeze()
        kept, moved = coupling_halves(channels, False)
        self.steps = Chain(
            layer
            for _ in range(_STEPS)
            for layer in (
                LULinear(channels),
                AffineCoupling(channels, ConvConditioner(kept, 2 * moved, hidden, condition=channels), bound=1.0),
            )
        )
        self.base = StandardNormal()

    def draw(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """u (B, C, H, W), and log q(u | x) (B,)."""
        noise = draw_normal(tuple(x.shape), generator=generator, like=x)
        raw, log_det = self.steps(self.squeeze(noise)[0], self.squeeze(x)[0])
        raw = self.squeeze.inverse(raw)[0]
        return raw.sigmoid(), self.base.log_prob(noise) - log_det - _log_slope(raw)

    def log_prob(self, u: Tensor, x: Tensor) -> Tensor:
        """log q(u | x), (B,), of noise u (B, C, H, W) in (0, 1)."""
        raw = u.log() - torch.log1p(-u)
        noise, log_det = self.steps.inverse(self.squeeze(raw)[0], self.squeeze(x)[0])
        return self.base.log_prob(noise) + log_det - _log_slope(raw)


def _log_slope(raw: Tensor) -> Tensor:
    """log |det d sigmoid(raw) / d raw|, (B,)."""
    slope: Tensor = functional.logsigmoid(raw) + functional.logsigmoid(-raw)
    return slope.flatten(1).sum(1)
