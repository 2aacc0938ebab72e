"""A log-density and its gradient as functions of rows (R, D) in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from scorefold_toolkit.numerics import pullback, pushforward

Rows = Callable[[Tensor], Tensor]
Mode = Literal["forward", "reverse"]


class Field:
    """``score`` is rows (R, D) to grad log p (R, D), and ``log_prob`` rows to log p (R,), None where it is not known.

    ``mode`` is the way to a Jacobian-vector product, as in ``scorefold_toolkit.numerics.pushforward``.

    >>> import torch
    >>> normal = Field(lambda x: -x, lambda x: -0.5 * x.square().sum(1))
    >>> normal.push(torch.zeros(1, 2), torch.ones(1, 2))[1]
    tensor([[-1., -1.]])
    """

    def __init__(self, score: Rows, log_prob: Rows | None = None, mode: Mode = "forward") -> None:
        self.score, self.log_prob, self.mode = score, log_prob, mode

    def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The score and log p at rows x (R, D), for a field that has both; override where one pass gives them."""
        assert self.log_prob is not None
        return self.score(x), self.log_prob(x)

    def push(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """The score and J v at rows x (R, D) for v (R, D), J the Jacobian of the score."""
        return pushforward(self.score, x, v, mode=self.mode)

    def pull(self, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """The score and J^T w at rows x (R, D) for w (R, D)."""
        return pullback(self.score, x, w)


class OfDensity(Field):
    """The field of a log-density that torch can differentiate: rows x (R, D) to log p (R,).

    >>> import torch
    >>> OfDensity(lambda x: -0.5 * x.square().sum(1)).score(torch.ones(1, 2))
    tensor([[-1., -1.]])
    """

    def __init__(self, log_prob: Rows, mode: Mode = "forward") -> None:
        super().__init__(lambda x: self.both(x)[0], log_prob, mode)

    def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Field.both``: by one pass forwards and one backwards."""
        assert self.log_prob is not None

        def summed(at: Tensor) -> tuple[Tensor, Tensor]:
            found = self.log_prob(at)  # type: ignore[misc]
            return found.sum(), found

        found: tuple[Tensor, Tensor] = torch.func.grad(summed, has_aux=True)(x)
        return found


class Affine(Field):
    """The map identity x + factor s(x) of a field s, in the place of a score: with sig^2 for the factor, and 1 or 0 for
    the identity, the denoised point or its distance from x."""

    def __init__(self, field: Field, identity: float, factor: float) -> None:
        super().__init__(lambda x: identity * x + factor * field.score(x), mode=field.mode)
        self.field, self.identity, self.factor = field, identity, factor

    def push(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Field.push``."""
        s, along = self.field.push(x, v)
        return self.identity * x + self.factor * s, self.identity * v + self.factor * along

    def pull(self, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Field.pull``."""
        s, back = self.field.pull(x, w)
        return self.identity * x + self.factor * s, self.identity * w + self.factor * back
