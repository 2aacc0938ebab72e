"""Readings of the installed estimators on points: a number each, or the reason why there is none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefold.interfaces import Estimator
from scorefold.results import Estimate
from scorefold_neighbours.estimators.points import QUANTITY
from scorefold_toolkit.checks import answer_of
from scorefold_toolkit.nearest import shared_neighbours


@dataclass(frozen=True)
class Panel:
    """The estimators by name, each with the largest number of points that it is given."""

    estimators: Mapping[str, Estimator]
    points: Mapping[str, int]

    def only(self, names: Sequence[str]) -> Panel:
        return Panel({name: self.estimators[name] for name in names}, self.points)

    def read(self, x: Tensor, seed: int) -> tuple[dict[str, float], dict[str, str]]:
        """The readings above 0 by name, and why the others have none. Points (n, D) are in random order."""
        found: dict[str, float] = {}
        failed: dict[str, str] = {}
        with shared_neighbours():
            for name, estimator in self.estimators.items():
                reading = self._reading(name, estimator, x, seed)
                if isinstance(reading, str):
                    failed[name] = reading
                else:
                    found[name] = reading
        return found, failed

    def _reading(self, name: str, estimator: Estimator, x: Tensor, seed: int) -> float | str:
        """The reading of one estimator, or why there is none."""
        some = x[: self.points.get(name, len(x))]
        try:
            generator = torch.Generator().manual_seed(seed)
            answer = answer_of(estimator.point_estimate, Estimate, some, generator=generator)
        except Exception as error:  # any plugin's: one that fails is left out
            return f"it failed: {error}"
        if answer.quantity != QUANTITY:
            return f"it estimates another quantity: {answer.quantity}"
        if answer.value is None or not (math.isfinite(answer.value) and answer.value > 0):
            return "it gives no dimension above 0"
        return float(answer.value)
