"""The baseline of geodesics of a density under noise: a straight line of which each point is denoised."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor


class Denoises(ABC):
    """A geometry that knows E[x_0 | x] at its noise level: paths of it stand beside denoised ones.

    ``straight_denoised`` is no geodesic, and the baseline to fear. It takes a call a point and no solver, and its
    pictures may be likelier than a geodesic's. The verb ``interpolate`` and the figures of a geometry show it.

    >>> class Normal(Denoises):
    ...     sigma = 1.0
    ...
    ...     def denoised(self, x):
    ...         return x / 2  # of N(0, I)
    >>> a, b = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    >>> Normal().straight_denoised(a, b, torch.tensor([0.0, 0.5]))
    tensor([[[1.0000, 0.0000],
             [0.5000, 0.5000]]])
    """

    @property
    @abstractmethod
    def sigma(self) -> float:
        """The deviation of the noise, in units of the data; 0 where there is none, and nothing to denoise."""

    @abstractmethod
    def denoised(self, x: Tensor) -> Tensor:
        """E[x_0 | x] of points (B, *E), (B, *E)."""

    def straight_denoised(self, x: Tensor, y: Tensor, s: Tensor) -> Tensor:
        """The denoised points of straight lines from x to y (B, *E) at times s (T,), (B, T, *E), ends included."""
        line = _lines(x, y, s)
        answer: Tensor = self.denoised(line.flatten(0, 1)).unflatten(0, line.shape[:2])
        return answer


def pictured(geometry: object, paths: Tensor) -> tuple[Tensor, str]:
    """Paths (G, T, *E) in equal times as rows of a picture (R G, T, *E), path by path, and what the rows of a path are.

    A path stands above its straight line. Where the geometry denoises, each is followed by its denoised points.
    """
    times = torch.linspace(0, 1, paths.shape[1]).to(paths)
    x, y = paths[:, 0], paths[:, -1]
    line = _lines(x, y, times)
    if not isinstance(geometry, Denoises) or geometry.sigma == 0:
        return torch.stack([paths, line], 1).flatten(0, 1), "a geodesic, the straight line"
    own = geometry.denoised(paths.flatten(0, 1)).unflatten(0, paths.shape[:2])
    rows = torch.stack([paths, own, line, geometry.straight_denoised(x, y, times)], 1)
    return rows.flatten(0, 1), "a geodesic, its points denoised, the straight line, its points denoised"


def _lines(x: Tensor, y: Tensor, s: Tensor) -> Tensor:
    share = s.to(x).reshape(1, -1, *[1] * (x.dim() - 1))
    return (1 - share) * x[:, None] + share * y[:, None]
