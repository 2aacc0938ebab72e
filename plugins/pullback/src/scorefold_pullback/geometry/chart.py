"""Coordinates of a geometry: a map from events to Euclidean space and back, with derivatives along vectors."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefold_toolkit.numerics import pushforward

Map = Callable[[Tensor], Tensor]

BLOCK = 2**19
"""Numbers that go through a map at once: of 784 coordinates 668 rows."""

BLOCK_ROWS_ON_CPU = 2048
"""Rows that go through a map at once on a CPU, where more are no faster."""


@dataclass(frozen=True)
class Chart:
    """``into`` takes events (B, *E) to coordinates (B, *E), and ``back`` takes them back.

    Rows go through in blocks, so that the memory of an answer without gradients does not grow with what a network
    keeps a row. No Jacobian is formed.
    """

    into: Map
    back: Map

    def __call__(self, x: Tensor) -> Tensor:
        """The coordinates of x, (B, *E)."""
        return _in_blocks(lambda part: (self.into(part),), x)[0]

    def inverse(self, w: Tensor) -> Tensor:
        """The events of coordinates w, (B, *E)."""
        return _in_blocks(lambda part: (self.back(part),), w)[0]

    def push(self, x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        """The coordinates of x and their derivative along v (B, *E), each (B, *E)."""
        return _in_blocks(lambda at, along: pushforward(self.into, at, along, mode="reverse"), x, v)

    def push_inverse(self, w: Tensor, u: Tensor) -> tuple[Tensor, ...]:
        """The events of coordinates w and their derivative along u (B, *E), each (B, *E)."""
        return _in_blocks(lambda at, along: pushforward(self.back, at, along, mode="reverse"), w, u)


def _in_blocks(function: Callable[..., tuple[Tensor, ...]], *given: Tensor) -> tuple[Tensor, ...]:
    """A function of batches of one length, called on some of the rows at a time."""
    first = given[0]
    rows = max(BLOCK // max(math.prod(first.shape[1:]), 1), 1)
    rows = min(rows, BLOCK_ROWS_ON_CPU) if first.device.type == "cpu" else rows
    if len(first) <= rows:
        return function(*given)
    answers = [function(*parts) for parts in zip(*(value.split(rows) for value in given), strict=True)]
    return tuple(torch.cat(parts) for parts in zip(*answers, strict=True))
