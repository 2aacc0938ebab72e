"""What the installed estimators read from points: a number each, or why there is none."""

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
        for name, estimator in self.estimators.items():
            some = x[: self.points.get(name, len(x))]
            try:
                generator = torch.Generator().manual_seed(seed)
                answer = answer_of(estimator.point_estimate, Estimate, some, generator=generator)
            except Exception as error:  # any plugin's: one that fails is left out
                failed[name] = f"it failed: {error}"
                continue
            if answer.quantity != QUANTITY:
                failed[name] = f"it estimates another quantity: {answer.quantity}"
            elif answer.value is None or not (math.isfinite(answer.value) and answer.value > 0):
                failed[name] = "it gives no dimension above 0"
            else:
                found[name] = float(answer.value)
        return found, failed
