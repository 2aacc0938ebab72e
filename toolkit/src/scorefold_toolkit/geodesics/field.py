"""A log-density and its gradient as functions of rows (R, D) in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from scorefold_toolkit.numerics import pullback, pushforward

Rows = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Field:
    """``score`` is rows (R, D) to grad log p (R, D), and ``log_prob`` rows to log p (R,), None where it is not known.

    ``mode`` is the way to a Jacobian-vector product, as in ``scorefold_toolkit.numerics.pushforward``.

    >>> import torch
    >>> normal = Field(lambda x: -x, lambda x: -0.5 * x.square().sum(1))
    >>> normal.push(torch.zeros(1, 2), torch.ones(1, 2))[1]
    tensor([[-1., -1.]])
    """

    score: Rows
    log_prob: Rows | None = None
    mode: Literal["forward", "reverse"] = "forward"

    def push(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """The score and J v at rows x (R, D) for v (R, D), J the Jacobian of the score."""
        return pushforward(self.score, x, v, mode=self.mode)

    def pull(self, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """The score and J^T w at rows x (R, D) for w (R, D)."""
        return pullback(self.score, x, w)
