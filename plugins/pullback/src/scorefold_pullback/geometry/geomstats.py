"""Any geometry of ours as a metric of geomstats, for its learning algorithms: ``FrechetMean(geomstats_space(g))``.

Needs ``pip install scorefold-pullback[geomstats]``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import geomstats.backend as gs
import torch
from geomstats.geometry.euclidean import Euclidean
from geomstats.geometry.riemannian_metric import RiemannianMetric
from torch import Tensor

from scorefold.errors import ScorefoldError
from scorefold.interfaces import Geometry, Transports


def geomstats_space(geometry: Geometry, dtype: torch.dtype = torch.float64) -> Any:
    """R^D with a geometry as its metric, in geomstats: points are (..., D), events flattened.

    With geomstats' numpy backend arrays are converted to ``dtype``, the dtype of the geometry's flow, and back. With
    its pytorch backend tensors pass as they are, and can be differentiated.
    """
    space = Euclidean(math.prod(geometry.event_shape), equip=False)
    space.metric = GeometryMetric(space, geometry, dtype)
    return space


class GeometryMetric(RiemannianMetric):  # type: ignore[misc]
    """A geometry by geomstats' names. Arrays (..., D) broadcast as geomstats' do."""

    def __init__(self, space: Any, geometry: Geometry, dtype: torch.dtype = torch.float64) -> None:
        super().__init__(space=space)
        self.geometry, self.dtype = geometry, dtype

    def metric_matrix(self, base_point: Any = None) -> Any:
        """G at points (..., D): (..., D, D)."""
        return self._call(self.geometry.metric, base_point)

    def inner_product(self, tangent_vec_a: Any, tangent_vec_b: Any, base_point: Any = None) -> Any:
        """<a, b> at points: (...)."""
        return self._call(self.geometry.inner, base_point, tangent_vec_a, tangent_vec_b)

    def squared_norm(self, vector: Any, base_point: Any = None) -> Any:
        """|v|^2 at points: (...)."""
        return self._call(lambda x, v: self.geometry.norm(x, v).square(), base_point, vector)

    def norm(self, vector: Any, base_point: Any = None) -> Any:
        """|v| at points: (...)."""
        return self._call(self.geometry.norm, base_point, vector)

    def exp(self, tangent_vec: Any, base_point: Any) -> Any:
        """exp of tangent vectors at points: (..., D)."""
        return self._call(self.geometry.exp, base_point, tangent_vec, point=True)

    def log(self, point: Any, base_point: Any) -> Any:
        """log of points at base points: (..., D)."""
        return self._call(self.geometry.log, base_point, point, point=True)

    def dist(self, point_a: Any, point_b: Any) -> Any:
        """d of points: (...)."""
        return self._call(self.geometry.distance, point_a, point_b)

    def squared_dist(self, point_a: Any, point_b: Any) -> Any:
        """d^2 of points: (...)."""
        return self._call(lambda x, y: self.geometry.distance(x, y).square(), point_a, point_b)

    def dist_pairwise(self, points: Any, n_jobs: int = 1, **joblib_kwargs: Any) -> Any:
        """All distances of points (N, D): (N, N), in one pass whatever ``n_jobs`` is."""
        return self._given(self.geometry.distance_matrix(self._events(self._tensor(points))))

    def parallel_transport(
        self, tangent_vec: Any, base_point: Any, direction: Any = None, end_point: Any = None
    ) -> Any:
        """Tangent vectors moved to end points, or to where directions lead: (..., D).

        Raises ``ScorefoldError`` for a geometry without transport and where neither is given.
        """
        if not isinstance(self.geometry, Transports):
            raise ScorefoldError(f"a {type(self.geometry).__name__} has no parallel transport")
        if end_point is None:
            if direction is None:
                raise ScorefoldError("transport where to? give end_point or direction")
            end_point = self.exp(direction, base_point)
        return self._call(self.geometry.transport, base_point, end_point, tangent_vec, point=True)

    def _call(self, function: Callable[..., Tensor], *given: Any, point: bool = False) -> Any:
        """A method of the geometry on arrays (..., D) that broadcast, its answer with their leading dimensions."""
        tensors = torch.broadcast_tensors(*map(self._tensor, given))
        lead = tensors[0].shape[:-1]
        answer = function(*map(self._events, tensors))
        rest = (math.prod(self.geometry.event_shape),) if point else tuple(answer.shape[1:])
        return self._given(answer.reshape((*lead, *rest)))

    def _tensor(self, value: Any) -> Tensor:
        return value if isinstance(value, Tensor) else torch.as_tensor(value, dtype=self.dtype)

    def _events(self, value: Tensor) -> Tensor:
        return value.reshape(-1, *self.geometry.event_shape)

    def _given(self, value: Tensor) -> Any:
        return value if gs.__name__.endswith("pytorch") else gs.array(value.detach().cpu().numpy())
