"""Geometries in a worker: each method that the plugin has itself is one message, and core's code does the rest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import Tensor

from scorefold.errors import PluginError
from scorefold.interfaces import Geometry
from scorefold_registry.plugins.environments.proxies import Proxy


class IsolatedGeometry(Proxy, Geometry):
    """A geometry in a worker."""

    @property
    def event_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """The shape of points."""
        if "_shape" not in vars(self):
            vars(self)["_shape"] = tuple(self._ask_remote().get(["event_shape"])["event_shape"])
        found: tuple[int, ...] = vars(self)["_shape"]
        return found

    def metric(self, x: Tensor) -> Tensor:
        """The metric at x (B, *E), computed in the worker: (B, D, D)."""
        size = math.prod(x.shape[1:])
        return self._there("metric", (len(x), size, size), x)

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        """The end of the geodesic from x with velocity v, computed in the worker: (B, *E)."""
        return self._there("exp", (max(len(x), len(v)), *x.shape[1:]), x, v)

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """The velocity at x of the geodesic to y, computed in the worker: (B, *E)."""
        return self._there("log", (max(len(x), len(y)), *x.shape[1:]), x, y)

    def inner(self, x: Tensor, v: Tensor, w: Tensor) -> Tensor:
        """Inner products of v and w at x: (B,)."""
        return self._own("inner", (max(len(x), len(v), len(w)),), x, v, w)

    def norm(self, x: Tensor, v: Tensor) -> Tensor:
        """Lengths of v at x: (B,)."""
        return self._own("norm", (max(len(x), len(v)),), x, v)

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """Distances of x and y: (B,)."""
        return self._own("distance", (max(len(x), len(y)),), x, y)

    def distance_matrix(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Distances of all x to all y: (B, C)."""
        return self._own("distance_matrix", (len(x), len(x if y is None else y)), x, y)

    def geodesic(self, x: Tensor, y: Tensor, s: Tensor) -> Tensor:
        """Points of geodesics at times s (T,): (B, T, *E)."""
        return self._own("geodesic", (max(len(x), len(y)), len(s), *x.shape[1:]), x, y, s)

    def mean(self, points: Tensor, weights: Tensor | None = None) -> Tensor:
        """The mean of points (N, *E)."""
        return self._own("mean", points.shape[1:], points, weights)

    def diagnose(self, points: Tensor) -> tuple[Mapping[str, float], Sequence[str]]:
        """Numbers about answers for points, and warnings."""
        if "diagnose" not in self._overrides:
            return super().diagnose(points)
        found: tuple[Mapping[str, float], Sequence[str]] = self._ask_remote().call("diagnose", points)
        return found

    def _own(self, method: str, shape: Sequence[int], *given: Tensor | None) -> Tensor:
        """The answer of a method that the plugin may have itself; core's where it has none."""
        if method in self._overrides:
            return self._there(method, shape, *given)
        found: Tensor = getattr(super(), method)(*given)
        return found

    def _there(self, method: str, shape: Sequence[int], *given: Tensor | None) -> Tensor:
        """The answer of the worker. Raises ``PluginError`` where a derivative of it would be lost, and for an answer of
        another shape."""
        self._check_derivatives(method, *given)
        found = self._ask_remote().call(method, *given)
        if not isinstance(found, Tensor) or tuple(found.shape) != tuple(shape):
            said = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise PluginError(f"{self!r} answered {method!r} with {said}; expected {tuple(shape)}")
        like = next(each for each in given if each is not None)
        return found.to(like.device)
