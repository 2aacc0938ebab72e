"""From events in their units to those of the flow: dequantised, and standardised or the logit of data with bounds."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from scorefold.data import EventScale
from scorefold.errors import ConfigError
from scorefold.random import draw_normal
from scorefold_toolkit.nn import (
    AffineCoupling,
    Bijection,
    Chain,
    ConvConditioner,
    LULinear,
    Squeeze,
    StandardNormal,
    coupling_halves,
)


class Standardise(Bijection):
    """(x - mean) / std. Raises ``ConfigError`` unless the deviation is a finite number above 0."""

    def __init__(self, scale: EventScale) -> None:
        super().__init__()
        if not 0 < scale.std < math.inf:
            raise ConfigError(
                f"the events' deviation is {scale.std:g}; expected a finite number above 0",
                hint="look for values in the data that are not finite, or for events that are all the same",
            )
        self.scale, self.std = scale, scale.std

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return (x - self.scale.middle(x)) / self.std, x.new_tensor(-x[:1].numel() * math.log(self.std))

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return z * self.std + self.scale.middle(z), z.new_tensor(z[:1].numel() * math.log(self.std))


class Logit(Bijection):
    """logit((1 - margin) u + margin / 2) with u = (x - low) / (high - low), over the range of dequantised data.

    With levels, that range is half a level wider at either end. Beyond it the map goes on along its tangent, so that
    it is invertible everywhere: draws may leave the range, and what lies there has a density. Raises ``ConfigError``
    for data without bounds, or whose bounds are one number.
    """

    def __init__(self, scale: EventScale, margin: float) -> None:
        super().__init__()
        if scale.low is None or scale.high is None:
            raise ConfigError(
                "preprocess: logit takes data with bounds, and these have none", hint="preprocess: standardise"
            )
        if not scale.low < scale.high:
            raise ConfigError(
                f"preprocess: logit takes data with low below high; these lie between {scale.low:g} and {scale.high:g}",
                hint="preprocess: standardise",
            )
        half = 0.0 if scale.levels is None else (scale.high - scale.low) / (scale.levels - 1) / 2
        self.low, self.range, self.margin = scale.low - half, scale.high - scale.low + 2 * half, margin
        self.end = math.log((1 - margin / 2) / (margin / 2))
        self.slope = (1 - margin) / (margin / 2 * (1 - margin / 2))

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        u = (x - self.low) / self.range
        within = u.clamp(0, 1)
        # Each end from its own side: 1 minus a number close to 1 has no digits left in float32.
        below, above = (((1 - self.margin) * share + self.margin / 2).log() for share in (within, 1 - within))
        constant = x[:1].numel() * math.log((1 - self.margin) / self.range)
        return below - above + self.slope * (u - within), constant - (below + above).flatten(1).sum(1)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        within = z.clamp(-self.end, self.end)
        below, above = functional.logsigmoid(within), functional.logsigmoid(-within)
        u = (within.sigmoid() - self.margin / 2) / (1 - self.margin) + (z - within) / self.slope
        constant = z[:1].numel() * math.log(self.range / (1 - self.margin))
        return self.low + self.range * u, constant + (below + above).flatten(1).sum(1)


def preprocessing(name: str, scale: EventScale, margin: float) -> Bijection:
    """The layer by the name that a config uses."""
    return Logit(scale, margin) if name == "logit" else Standardise(scale)


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
