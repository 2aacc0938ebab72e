"""Maps of vectors on events of other shapes."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from scorefold_toolkit.nn import Bijection, squeeze, unsqueeze


class Flattened(Bijection):
    """A bijection of vectors (B, D) on events (B, *E) with D coordinates, which it takes in memory's order."""

    def __init__(self, inner: Bijection) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z, log_det = self.inner(x.flatten(1), condition)
        return z.reshape(x.shape), log_det

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x, log_det = self.inner.inverse(z.flatten(1), condition)
        return x.reshape(z.shape), log_det

    def initialise(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.inner.initialise(x.flatten(1), condition).reshape(x.shape)


def on_vectors(shape: tuple[int, ...], make: Callable[[int], Bijection]) -> Bijection:
    """``make(D)``, a bijection of vectors, on events of a shape with D coordinates."""
    inner = make(math.prod(shape))
    return inner if len(shape) == 1 else Flattened(inner)


class Unsqueeze(Bijection):
    """(B, 4C, H, W) to (B, C, 2H, 2W): the inverse of ``Squeeze``."""

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return unsqueeze(x), x.new_zeros(())

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return squeeze(z), z.new_zeros(())
