"""Weight of the code's part of the score, over time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from scorefold.diffusion import DiffusionProcess
from scorefold.errors import ConfigError

Guidance = float | Callable[[Tensor], Tensor]
"""A weight, or a function of t (B,) that gives one for each time, (B,)."""


def weights_of(
    guidance: Guidance, interval: Sequence[float] | None, process: DiffusionProcess
) -> Callable[[Tensor], float | Tensor] | None:
    """The weight at t (B,), a number where it is the same at all times; None where it is 0 throughout.

    Raises ``ConfigError`` for a weight below 0 and an interval that is not a part of [t_min, t_max].
    """
    if not callable(guidance) and not (isinstance(guidance, int | float) and 0 <= guidance < math.inf):
        raise ConfigError(f"guidance is {guidance!r}; expected a number from 0 on, or a function of t")
    if interval is None:
        if callable(guidance):
            return guidance
        return None if guidance == 0 else lambda t: guidance
    given = list(interval) if isinstance(interval, list | tuple) else interval
    numbers = isinstance(given, list) and len(given) == 2 and all(isinstance(end, int | float) for end in given)
    if not numbers or not process.t_min <= interval[0] < interval[1] <= process.t_max:
        raise ConfigError(
            f"guidance_interval is {given}; expected [low, high] within [{process.t_min:g}, {process.t_max:g}]"
        )
    low, high = interval

    def within(t: Tensor) -> Tensor:
        weight = guidance(t) if callable(guidance) else torch.full_like(t, guidance)
        return torch.where((t >= low) & (t <= high), weight, 0)

    return within
