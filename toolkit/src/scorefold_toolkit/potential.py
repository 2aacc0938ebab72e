"""Strongly convex functions, which geometries are pulled back from."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from scorefold.interfaces import Shown


class Potential(Shown, ABC):
    """A strongly convex function psi on events: what a geometry may be pulled back from.

    ``event_shape`` is the shape E that it is for, or None where it takes events of any shape.
    """

    event_shape: tuple[int, ...] | None = None

    @abstractmethod
    def value(self, x: Tensor) -> Tensor:
        """psi(x), (B,)."""

    @abstractmethod
    def grad(self, x: Tensor) -> Tensor:
        """The gradient at x, (B, *E)."""

    @abstractmethod
    def grad_inverse(self, y: Tensor) -> Tensor:
        """The x whose gradient is y, (B, *E)."""

    @abstractmethod
    def hessian_product(self, x: Tensor, v: Tensor) -> Tensor:
        """The Hessian at x times v, (B, *E)."""
