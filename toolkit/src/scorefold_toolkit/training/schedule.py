"""The learning rate over a phase: linear warm-up, then a cosine to zero or a constant."""

from __future__ import annotations

import math
from collections.abc import Sequence


def warmup_steps(total: int, warmup: int) -> int:
    """The length of the warm-up: as asked for, but at most half of the phase, so that a short run still learns."""
    return min(warmup, total // 2)


def learning_rate_factor(step: int, total: int, warmup: int, schedule: str, drops: Sequence[int] = ()) -> float:
    """The factor in (0, 1] on every group's peak learning rate at ``step`` of ``total``, counting from 0.

    Rises linearly to 1 over the warm-up. After it, ``cosine`` falls as (1 + cos(pi u)) / 2 with u the part of the rest
    that is done (Loshchilov and Hutter 2017, eq. 5, without restarts); ``constant`` stays at 1. From each step of
    ``drops`` on it is a tenth of that.
    """
    dropped = 0.1 ** sum(step >= drop for drop in drops)
    rise = warmup_steps(total, warmup)
    if step < rise:
        return dropped * (step + 1) / rise
    if schedule == "constant":
        return dropped
    return dropped * (1 + math.cos(math.pi * (step - rise) / (total - rise))) / 2
