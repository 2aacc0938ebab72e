"""Coordinates of a geometry: a map from events to Euclidean space and back, with derivatives along vectors."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefold.errors import ConfigError, DataError, ShapeError
from scorefold.interfaces import Geometry
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


def check_rows(name: str, value: Tensor, shape: tuple[int, ...], taker: str) -> None:
    """Raises ``ShapeError`` unless a value is a tensor (B, *shape), and ``DataError`` for numbers that are not finite.

    ``taker`` says what takes it.
    """
    if not isinstance(value, Tensor):
        raise ShapeError(f"{name} is a {type(value).__name__}; expected a tensor", hint="torch.as_tensor(...)")
    if value.dim() == 0 or tuple(value.shape[1:]) != shape:
        expected = ", ".join(map(str, shape))
        raise ShapeError(f"{name} has shape {tuple(value.shape)}; {taker} takes (B, {expected})")
    # A sum is the cheaper look: it is finite where all are, but for sums that overflow.
    if not value.is_meta and not bool(value.detach().sum().isfinite()):
        wrong = int((~value.isfinite()).flatten(1).any(1).sum())
        if wrong:
            raise DataError(f"{name} holds NaN or infinite numbers in {wrong} of {len(value)} rows")


def row_lengths(v: Tensor) -> Tensor:
    """The Euclidean length of each row of v (B, *E), (B,), whose gradient at 0 is 0."""
    found: Tensor = torch.linalg.vector_norm(v.flatten(1), dim=1)
    return found


_TIMES = 33


@dataclass(frozen=True)
class ReferenceGeometry:
    """Reference with which a geometry is compared, if any. It is not a module, and so no part of the state of who holds
    it.
    """

    to: Geometry | None

    @torch.no_grad()
    def errors(self, geometry: Geometry, points: Tensor) -> dict[str, float]:
        """Distances of geodesics between the first and the second half of points (N, *E) from the reference's.

        ``geodesic_error`` is the mean over pairs and times, in units of the data, and ``straight_line_error`` the
        error of straight lines (Diepeveen, Batzolis et al., ICML 2025, their metric). Empty without reference or pair.
        """
        half = len(points) // 2
        if self.to is None or half == 0:
            return {}
        x, y = points[:half], points[half : 2 * half]
        times = torch.linspace(0, 1, _TIMES, dtype=x.dtype, device=x.device)
        true = self.to.geodesic(x, y, times)
        straight = torch.lerp(x[:, None], y[:, None], times.reshape(1, -1, *[1] * (x.dim() - 1)))
        return {
            "geodesic_error": float(curves_apart(geometry.geodesic(x, y, times), true).mean()),
            "straight_line_error": float(curves_apart(straight, true).mean()),
        }


def compared_with(reference: Geometry | None, geometry: Geometry) -> ReferenceGeometry:
    """The reference of a geometry. Raises ``ConfigError`` for one with events of another shape."""
    if reference is not None and tuple(reference.event_shape) != tuple(geometry.event_shape):
        raise ConfigError(
            f"the reference has events of shape {tuple(reference.event_shape)}, and this geometry "
            f"{tuple(geometry.event_shape)}",
            hint="plug in a geometry of the same data, or none",
        )
    return ReferenceGeometry(reference)


def curves_apart(a: Tensor, b: Tensor) -> Tensor:
    """The mean distance of curves a and b, each (B, T, *E), at equal times: (B,)."""
    return (a - b).flatten(2).square().sum(2).sqrt().mean(1)
