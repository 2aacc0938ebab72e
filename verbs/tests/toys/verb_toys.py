"""Models so small that every answer of a verb is known."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from scorefold.artefacts import json_text
from scorefold.data import Condition, ConditionSpec, Dataset, EventScale
from scorefold.diffusion import VP
from scorefold.errors import DataError, SplitError
from scorefold.interfaces import DataSource, Flow, Geometry, ScoreModel
from scorefold.stage import Outcome, StageContext
from scorefold_toolkit.nn import StandardNormal

UNIT = EventScale(low=0.0, high=1.0, levels=5)


class Source(DataSource):
    """Splits as given: a data set, or an error that ``load`` raises; what is not given is not there."""

    def __init__(self, scale: EventScale | None = None, **splits: Dataset | DataError) -> None:
        self.splits = splits
        self.event_shape = next(split.event_shape for split in splits.values() if isinstance(split, Dataset))
        self.event_scale = scale or EventScale()

    def load(self, split: str) -> Dataset:
        found = self.splits.get(split, SplitError(f"there is no {split} split"))
        if isinstance(found, DataError):
            raise found
        return found


def rows(count: int, size: int = 2, **columns: Any) -> Dataset:
    return Dataset(torch.arange(float(count))[:, None].expand(count, size).contiguous(), **columns)


class Shifted(Flow):
    """z = x - 1 - condition: the distribution N(1 + condition, 1)."""

    def __init__(
        self, size: int = 2, *, scale: EventScale | None = None, spec: ConditionSpec | None = None, offset: float = 1.0
    ) -> None:
        super().__init__((size,), StandardNormal(), condition_spec=spec, event_scale=scale)
        self.offset = nn.Parameter(torch.tensor(offset))

    def _shift(self, condition: Condition | None) -> Tensor:
        return self.offset if condition is None else self.offset + condition[:, None]

    def forward(self, x: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        return x - self._shift(condition), x.new_zeros(len(x))

    def inverse(self, z: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        return z + self._shift(condition), z.new_zeros(len(z))


class Normal(ScoreModel):
    """N(0, 1) in each component, noised or not."""

    def __init__(self) -> None:
        super().__init__(VP(), (2,))

    def score(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        return -x


def context(**values: Any) -> StageContext:
    return StageContext("here", **values)


def checked(outcome: Outcome) -> dict[str, Any]:
    """The metrics of an outcome whose result is JSON, flat, and made of numbers."""
    assert json_text(outcome.result)
    metrics: dict[str, Any] = outcome.result["metrics"]
    assert all(isinstance(value, int | float) and math.isfinite(value) for value in metrics.values())
    return metrics


class Flat(Geometry):
    """Euclidean space, stretched twice."""

    event_shape = (2,)

    def metric(self, x: Tensor) -> Tensor:
        return 4 * torch.eye(2, dtype=x.dtype).expand(len(x), 2, 2)

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        return x + v

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        return y - x


class Posterior(ScoreModel):
    """N(condition + shift, width^2) in each component, exact at every t; without a condition N(shift, width^2)."""

    def __init__(
        self,
        shape: tuple[int, ...] = (2,),
        *,
        width: float = 1.0,
        shift: float = 0.0,
        scale: EventScale | None = None,
        spec: ConditionSpec | None = None,
    ) -> None:
        super().__init__(VP(), shape, condition_spec=spec, event_scale=scale)
        self.width, self.shift = width, shift

    def score(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        if isinstance(condition, dict):
            condition = condition["image"]
        centre = self.shift + (0 if condition is None else condition)
        signal, noise = self.process.coefficients(x, t)
        return -(x - signal * centre) / (signal**2 * self.width**2 + noise**2)
