"""Numbers of many points in the time there is: in random order, as far as it reaches."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextvars import copy_context

import torch
from torch import Tensor

from scorefold.stage import report, showing

SECONDS = 40.0
"""Longest time for computing a colour of the map."""


class _TimeOver(Exception):  # noqa: N818 - it ends a batch, and nothing has gone wrong
    pass


def filled(
    count: int, compute: Callable[[Tensor], Tensor], text: str, *, seconds: float = SECONDS, batch: int = 32
) -> tuple[Tensor, int]:
    """``compute`` of rows (n,) for as many of ``count`` rows as there is time for: (count,), NaN for the rest, and how
    many are known. Batches grow while they are quick, and each is reported, so that it can be stopped between them; one
    that reports its own progress ends with the time.
    """
    values = torch.full((count,), math.nan)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    start, done, size, outside = time.monotonic(), 0, batch, copy_context()

    def inside(step: int, steps: int, what: str) -> None:
        outside.run(report, done, count, text)
        if done and time.monotonic() - start > seconds:
            raise _TimeOver

    while done < count:
        began = time.monotonic()
        rows = order[done : done + size]
        try:
            with showing(inside):
                values[rows] = compute(rows).detach().cpu().float()
        except _TimeOver:
            break
        done += len(rows)
        report(done, count, text)
        now = time.monotonic()
        if now - start > seconds:
            break
        size = min(4096, size * 2) if now - began < 0.25 else max(1, size // 2) if now - began > 1 else size
    return values, done
