"""Geometries: a Riemannian metric on the space of events."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from scorefold.errors import DataError, ShapeError
from scorefold.interfaces.model import Shown
from scorefold.stage import reported


def flatten(v: Tensor) -> Tensor:
    """(B, *E) as (B, D)."""
    return v.flatten(1)


def barycentre_weights(points: Tensor, weights: Tensor | None) -> Tensor:
    """Weights (N,) of points (N, *E) that sum to 1, equal ones where none are given. Raises ``ShapeError`` for no
    points and for weights of another shape, below 0 or all 0.
    """
    if len(points) == 0:
        raise ShapeError("the mean of no points was asked for")
    weights = points.new_ones(len(points)) if weights is None else weights
    if weights.shape != points.shape[:1] or bool((weights < 0).any()) or not bool(weights.sum() > 0):
        raise ShapeError(
            f"weights of shape {tuple(weights.shape)} were given; expected {len(points)} numbers >= 0, not all 0"
        )
    return weights / weights.sum()


def check_times(s: Tensor) -> None:
    """Raises ``ShapeError`` unless times are a tensor (T,), and ``DataError`` for numbers that are not finite."""
    if not isinstance(s, Tensor):
        raise ShapeError(f"s is a {type(s).__name__}; expected a tensor of times (T,)", hint="torch.linspace(0, 1, 9)")
    if s.dim() != 1:
        raise ShapeError(f"s has shape {tuple(s.shape)}; expected (T,)")
    if not s.is_meta and not bool(s.isfinite().all()):
        raise DataError("s holds NaN or infinite times")


class Geometry(Shown, ABC):
    """A Riemannian metric on events of shape E, D = prod(E).

    Must: ``event_shape``, ``metric``, ``exp``, ``log``. Given, override for speed: ``inner``, ``norm``, ``distance``,
    ``distance_matrix``, ``geodesic``, ``mean``, ``diagnose``. Points and tangent vectors are (B, *E); B = 1 broadcasts.

    >>> class Wide(Geometry):  # twice as far along the first coordinate
    ...     exp, log = (lambda self, x, v: x + v), (lambda self, x, y: y - x)
    ...     def metric(self, x):
    ...         return torch.diag(torch.tensor([4.0, 1.0])).expand(len(x), 2, 2)
    >>> Wide().distance(torch.zeros(1, 2), torch.eye(2)).round(decimals=3)
    tensor([2., 1.])
    """

    event_shape: tuple[int, ...]

    @abstractmethod
    def metric(self, x: Tensor) -> Tensor:
        """The metric tensor at x (B, *E): (B, D, D), symmetric positive definite."""

    @abstractmethod
    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        """The point reached from x along the geodesic with initial velocity v, after unit time: (B, *E)."""

    @abstractmethod
    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """The initial velocity at x of the geodesic that reaches y in unit time: (B, *E)."""

    def inner(self, x: Tensor, v: Tensor, w: Tensor) -> Tensor:
        """The inner product of tangent vectors v and w at x: (B,)."""
        v, w = torch.broadcast_tensors(v, w)
        return torch.einsum("...i,...ij,...j->...", flatten(v), self.metric(x), flatten(w))

    def norm(self, x: Tensor, v: Tensor) -> Tensor:
        """The length of a tangent vector v at x: (B,)."""
        return self.inner(x, v, v).clamp_min(0).sqrt()

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """The geodesic distance between x and y: (B,)."""
        return self.norm(x, self.log(x, y))

    def distance_matrix(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """All distances between x (B1, *E) and y (B2, *E), or between the points of x: (B1, B2)."""
        y = x if y is None else y
        rows = [self.distance(point[None].expand_as(y), y) for point in reported(x, len(x), "rows of distances")]
        return torch.stack(rows) if rows else x.new_empty(0, len(y))

    def geodesic(self, x: Tensor, y: Tensor, s: Tensor) -> Tensor:
        """The geodesics from x to y (B, *E) at times s (T,) in [0, 1]: (B, T, *E). Raises as ``check_times``."""
        check_times(s)
        x, y = torch.broadcast_tensors(x, y)
        v = self.log(x, y)
        if len(s) == 0:
            return x.new_empty(len(x), 0, *x.shape[1:])
        return torch.stack([self.exp(x, time * v) for time in reported(s, len(s), "times")], dim=1)

    def mean(self, points: Tensor, weights: Tensor | None = None) -> Tensor:
        """The weighted barycentre of points (N, *E) as one point (*E), by Karcher's fixed point iteration.

        ``weights`` (N,) are non-negative and are normalised to sum to 1. Raises ``ShapeError`` for no points and for
        weights of another shape, below 0 or all 0.
        """
        weights = barycentre_weights(points, weights).reshape(-1, *[1] * (points.dim() - 1))
        mean = (weights * points).sum(0, keepdim=True)
        for _ in range(100):
            step = (weights * self.log(mean.expand_as(points), points)).sum(0, keepdim=True)
            mean = self.exp(mean, step)
            if float(self.norm(mean, step)) <= 10 * torch.finfo(points.dtype).eps * (1 + float(points.abs().max())):
                break
        return mean[0]

    def diagnose(self, points: Tensor) -> tuple[Mapping[str, float], Sequence[str]]:
        """Diagnostics of a learned geometry on held-out points (N, *E): numbers by name, and warnings in sentences.
        Nothing by default, since a known geometry needs no warning."""
        return {}, ()
