"""The simplest of their kinds: the Euclidean geometry, and labels spread evenly over the tasks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from scorefold.data import DataSpec
from scorefold.errors import ConfigError, ShapeError
from scorefold.interfaces import Allocator, ClosedFormGeodesics, DataSource, Geometry, Transports
from scorefold.interfaces.geometry import barycentre_weights, check_times, flatten
from scorefold.results import Allocation, PlanRow
from scorefold_standard.config import EuclideanConfig, UniformConfig
from scorefold_toolkit.checks import require_budget, require_constraints


class Euclidean(Geometry, Transports, ClosedFormGeodesics):
    """The identity metric: geodesics are straight lines and transport changes nothing.

    The event shape is the configured shape or the shape of the data plugged in. Raises ``ConfigError`` where there is
    neither, or where the two differ.

    >>> from scorefold_registry import Host
    >>> plane = Host.discover().create("geometry:euclidean", {"event_shape": [2]})
    >>> plane.distance(torch.zeros(1, 2), torch.tensor([[3.0, 4.0]])).round(decimals=3)
    tensor([5.])
    """

    def __init__(self, config: EuclideanConfig, *, data: DataSource | DataSpec | None = None) -> None:
        if config.event_shape is None and data is None:
            raise ConfigError("Euclidean space of which shape?", hint="set event_shape, or plug in data")
        if data is not None and config.event_shape not in (None, data.event_shape):
            raise ConfigError(f"event_shape is {config.event_shape}; the data have events {data.event_shape}")
        self.event_shape = data.event_shape if data is not None else tuple(config.event_shape or ())

    def metric(self, x: Tensor) -> Tensor:
        dimension = math.prod(self.event_shape)
        eye = torch.eye(dimension, dtype=x.dtype, device=x.device)
        return eye.expand(len(self._checked(x)), dimension, dimension)

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        return self._checked(x) + self._checked(v)

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        return self._checked(y) - self._checked(x)

    def inner(self, x: Tensor, v: Tensor, w: Tensor) -> Tensor:
        rows = torch.broadcast_shapes(x.shape[:1], v.shape[:1], w.shape[:1])
        return (flatten(self._checked(v)) * flatten(self._checked(w))).sum(1).expand(rows)

    def transport(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        rows = torch.broadcast_shapes(x.shape[:1], y.shape[:1], v.shape[:1])
        return self._checked(v).expand(*rows, *self.event_shape)

    def distance_matrix(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        x, y = self._checked(x), self._checked(x if y is None else y)
        # The fast form by inner products loses the digits of small distances.
        return torch.cdist(flatten(x), flatten(y), compute_mode="donot_use_mm_for_euclid_dist")

    def geodesic(self, x: Tensor, y: Tensor, s: Tensor) -> Tensor:
        check_times(s)
        x, y = torch.broadcast_tensors(self._checked(x), self._checked(y))
        return torch.lerp(x[:, None], y[:, None], s.reshape(-1, *[1] * len(self.event_shape)))

    def mean(self, points: Tensor, weights: Tensor | None = None) -> Tensor:
        mean: Tensor = torch.tensordot(barycentre_weights(self._checked(points), weights), points, dims=1)
        return mean

    def _checked(self, value: Tensor) -> Tensor:
        if tuple(value.shape[1:]) != self.event_shape:
            raise ShapeError(
                f"a tensor has shape {tuple(value.shape)}; expected (B, {', '.join(map(str, self.event_shape))})"
            )
        return value


_LEAST = {"support": 1, "query": 0, "min_tasks": 0, "max_tasks": 1}
"""The constraints, and the least that each may be."""


_BASELINE = "Every task has equally many labels. No loss is predicted; allocator:meta compares plans by their loss."


class UniformAllocator(Allocator):
    """Every task gets the same support and query labels, every type of task as nearly the same number of tasks.

    A task costs support + query labels. Types that come first get the tasks that don't divide evenly. It learns
    nothing from a pilot and predicts no loss. Constraints: ``support`` and ``query`` replace the configured sizes;
    ``min_tasks`` and ``max_tasks`` bound the number of tasks over all types.

    >>> from scorefold_registry import Host
    >>> plan = Host.discover().create("allocator:uniform", {"support": 4, "query": 6}).allocate(105)
    >>> plan.plan[0].tasks, plan.leftover
    (10, 5)
    """

    def __init__(self, config: UniformConfig) -> None:
        self.config = config

    def allocate(
        self,
        budget: int,
        *,
        pilot: Any = None,
        constraints: Mapping[str, Any] | None = None,
        generator: torch.Generator | None = None,
    ) -> Allocation:
        """The plan with the most tasks, ``infeasible`` where not one (or not ``min_tasks``) can be paid for.

        Raises ``ConfigError`` for a budget or a constraint that isn't a whole number in range, and for one that is
        unknown.
        """
        require_budget(budget)
        bounds = dict(constraints or {})
        require_constraints(bounds, _LEAST)
        support = bounds.get("support", self.config.support)
        query = bounds.get("query", self.config.query)
        least, most = bounds.get("min_tasks", 1), bounds.get("max_tasks")
        if most is not None and most < least:
            raise ConfigError(f"min_tasks is {least} and max_tasks {most}; expected min_tasks <= max_tasks")
        tasks = budget // (support + query)
        tasks = tasks if most is None else min(tasks, most)
        if tasks < max(1, least):
            return Allocation(status="infeasible", plan=(), leftover=budget)
        each, more = divmod(tasks, len(self.config.task_types))
        rows = (
            PlanRow(task_type=name, tasks=each + (i < more), support=support, query=query)
            for i, name in enumerate(self.config.task_types)
        )
        return Allocation(
            status="feasible",
            plan=tuple(row for row in rows if row.tasks > 0),
            leftover=budget - tasks * (support + query),
            remarks=(_BASELINE,),
        )
