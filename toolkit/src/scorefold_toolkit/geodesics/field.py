"""A log-density and its gradient as functions of rows (R, D) in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from scorefold.diffusion.divergence import forward_rules
from scorefold_toolkit.numerics import pullback, pushforward

Rows = Callable[[Tensor], Tensor]
Mode = Literal["forward", "reverse"]

_STEP = 1e-3


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

    def bend(self, x: Tensor, v: Tensor) -> Tensor:
        """The second derivative of the score along v at rows x (R, D), (R, D)."""
        forward_rules()
        found: Tensor = torch.func.jvp(lambda at: self.push(at, v)[1], (x,), (v,))[1]
        return found


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


class Differences(Field):
    """A map r of rows (R, k) to rows (R, D) in the place of a score, its derivatives by differences of fourth order.

    They serve any map, a sampler too, and no gradient passes through it. Steps are 1e-3 in coordinates of size 1: what
    is cut off and what is rounded are then below 1e-9 of a smooth map.

    >>> import torch
    >>> Differences(lambda x: x.square()).jacobian(torch.ones(1, 2, dtype=torch.float64)).round(decimals=6)
    tensor([[[2., 0.],
             [0., 2.]]], dtype=torch.float64)
    """

    def __init__(self, map: Rows) -> None:
        super().__init__(map)

    def jacobian(self, x: Tensor) -> Tensor:
        """J at rows x (R, k), (R, D, k)."""
        rows, size = x.shape
        basis = torch.eye(size, dtype=x.dtype, device=x.device)
        columns = self._slope(x.repeat_interleave(size, 0), basis.repeat(rows, 1))
        found: Tensor = columns.unflatten(0, (rows, size)).mT
        return found

    def push(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Field.push``."""
        length = v.norm(dim=1, keepdim=True)
        return self.score(x), length * self._slope(x, v / length.clamp_min(1e-300))

    def pull(self, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Field.pull``."""
        return self.score(x), (self.jacobian(x).mT @ w[:, :, None])[:, :, 0]

    def bend(self, x: Tensor, v: Tensor) -> Tensor:
        """See ``Field.bend``."""
        length = v.norm(dim=1, keepdim=True)
        far_behind, behind, here, ahead, far_ahead = self._along(x, v / length.clamp_min(1e-300), (-2, -1, 0, 1, 2))
        second = (16 * (ahead + behind) - far_ahead - far_behind - 30 * here) / (12 * _STEP**2)
        found: Tensor = length.square() * second
        return found

    def _slope(self, x: Tensor, v: Tensor) -> Tensor:
        """J v for rows v (R, k) of length 1."""
        far_behind, behind, ahead, far_ahead = self._along(x, v, (-2, -1, 1, 2))
        found: Tensor = (far_behind - far_ahead + 8 * (ahead - behind)) / (12 * _STEP)
        return found

    def _along(self, x: Tensor, v: Tensor, steps: tuple[int, ...]) -> list[Tensor]:
        """The map at x + step v for each of some steps, each (R, D)."""
        return list(self.score(torch.cat([x + _STEP * step * v for step in steps])).chunk(len(steps)))
