"""Numbers of many points in the time there is: in random order, as far as it reaches."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from scorefold.stage import report

SECONDS = 40.0
"""How long one colour of the map may be computed."""


def filled(
    count: int, compute: Callable[[Tensor], Tensor], text: str, *, seconds: float = SECONDS, batch: int = 32
) -> tuple[Tensor, int]:
    """``compute`` of rows (n,) for as many of ``count`` rows as there is time for: (count,), NaN for the rest, and how
    many are known. Batches grow while they are quick, and each is reported, so that it can be stopped between them.
    """
    values = torch.full((count,), math.nan)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    start, done, size = time.monotonic(), 0, batch
    while done < count:
        began = time.monotonic()
        rows = order[done : done + size]
        values[rows] = compute(rows).detach().cpu().float()
        done += len(rows)
        report(done, count, text)
        now = time.monotonic()
        if now - start > seconds:
            break
        size = min(4096, size * 2) if now - began < 0.25 else max(1, size // 2) if now - began > 1 else size
    return values, done
