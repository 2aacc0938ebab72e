"""A geometry beside another that it is held to: the true one of made-up data, or a baseline."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from scorefold.errors import ConfigError
from scorefold.interfaces import Geometry

_TIMES = 33


@dataclass(frozen=True)
class Compared:
    """Reference with which a geometry is compared, if any. It is not a module, and so no part of the state of who holds
    it.
    """

    to: Geometry | None

    @torch.no_grad()
    def errors(self, geometry: Geometry, points: Tensor) -> dict[str, float]:
        """Distances of geodesics between the first and the second half of points (N, *E) from the reference's.

        ``geodesic_error`` is the mean over pairs and times, in units of the data, and ``straight_line_error`` that of
        straight lines (Diepeveen, Batzolis et al., ICML 2025, their metric). Empty without a reference or a pair.
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


def compared_with(reference: Geometry | None, geometry: Geometry) -> Compared:
    """The reference of a geometry. Raises ``ConfigError`` for one with events of another shape."""
    if reference is not None and tuple(reference.event_shape) != tuple(geometry.event_shape):
        raise ConfigError(
            f"the reference has events of shape {tuple(reference.event_shape)}, and this geometry "
            f"{tuple(geometry.event_shape)}",
            hint="plug in a geometry of the same data, or none",
        )
    return Compared(reference)


def curves_apart(a: Tensor, b: Tensor) -> Tensor:
    """The mean distance of curves a and b, each (B, T, *E), at equal times: (B,)."""
    return (a - b).flatten(2).square().sum(2).sqrt().mean(1)
