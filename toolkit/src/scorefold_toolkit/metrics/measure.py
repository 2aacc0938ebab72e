"""Metrics: numbers that compare samples of a model with held-out points, batch by batch."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from scorefold.data import Condition, ConditionSpec, EventScale, index_condition
from scorefold.interfaces import Shown
from scorefold_toolkit.metrics.images import round_to_levels
from scorefold_toolkit.operators import Operator


@dataclass(frozen=True)
class Units:
    """The bounds of events, for peaks and the scale of bytes: the data's own, or the bounds of the held-out points.

    ``levels`` is the number of values that draws and truths are rounded to, or None; ``clipped`` says whether they are
    clipped.
    """

    low: float
    high: float
    clipped: bool = False
    levels: int | None = None

    @classmethod
    def of(cls, scale: EventScale, truth: Tensor, rounding: str) -> Units:
        """The bounds of a source whose held-out points are ``truth`` (N, *E)."""
        if scale.low is None or scale.high is None:
            low, high = (float(end) for end in truth.aminmax())
            return cls(low, high if high > low else low + 1)
        levels = {"levels": scale.levels, "8-bit": 256}.get(rounding)
        return cls(scale.low, scale.high, True, levels)

    @property
    def range(self) -> float:
        """high - low."""
        return self.high - self.low

    def round(self, x: Tensor) -> Tensor:
        """x clipped to the bounds of the data and rounded, as far as asked for."""
        if self.levels is not None:
            return round_to_levels(x, self.low, self.high, self.levels)
        return x.clamp(self.low, self.high) if self.clipped else x

    def unit(self, x: Tensor) -> Tensor:
        """x with 0 for low and 1 for high."""
        return (x - self.low) / self.range


@dataclass(frozen=True)
class EvaluationBatch:
    """A batch: ``truth`` (C, *E) with its conditions, ``draws`` (n, C, *E) for each, what the conditions went through
    where they are degraded events, and reference draws (C, n', *E) where the data know the posterior."""

    truth: Tensor
    draws: Tensor
    condition: Condition | None = None
    operator: Operator | None = None
    reference: Tensor | None = None

    @property
    def pairs(self) -> tuple[Tensor, Tensor]:
        """Draws and their truths side by side, each (n C, *E), the conditions in turn."""
        return self.draws.flatten(0, 1), self.truth.repeat(len(self.draws), *[1] * (self.truth.dim() - 1))

    def take(self, rows: Tensor, operator: Operator | None) -> EvaluationBatch:
        """The points at these places (k,) of the batch, with their draws and the ``operator`` of their conditions."""
        truth, draws = self.truth[rows.to(self.truth.device)], self.draws[:, rows.to(self.draws.device)]
        reference = None if self.reference is None else self.reference[rows.to(self.reference.device)]
        return EvaluationBatch(truth, draws, index_condition(self.condition, rows), operator, reference)


class Measure(ABC):
    """Measurement of a metric over batches. Must: ``add`` one, ``metrics`` by name. May: ``arrays``, ``warnings``."""

    @abstractmethod
    def add(self, batch: EvaluationBatch) -> None:
        """A batch more."""

    @abstractmethod
    def metrics(self) -> dict[str, float]:
        """Finite numbers by name, each with its unit. Raises ``DataError`` where there are too few points for them."""

    def arrays(self) -> dict[str, Tensor]:
        """Numbers (N, ...) of each held-out point, in the order in which they were added; NaN for those that have
        none."""
        return {}

    def warnings(self) -> list[str]:
        """Warnings, a sentence each."""
        return []


class PointwiseMeasure(Measure):
    """Numbers of every held-out point in columns, whose means over points are the metrics; nan does not count."""

    def __init__(self) -> None:
        self._columns: dict[str, list[Tensor]] = {}

    def note(self, name: str, values: Tensor) -> None:
        """The numbers (C,) of a batch's points in a column."""
        self._columns.setdefault(name, []).append(values.detach().double().cpu())

    def arrays(self) -> dict[str, Tensor]:
        return {name: torch.cat(parts) for name, parts in self._columns.items()}

    def metrics(self) -> dict[str, float]:
        means = {name: float(values.nanmean()) for name, values in self.arrays().items()}
        return {name: mean for name, mean in means.items() if math.isfinite(mean)}


class Metric(Shown, ABC):
    """A component of the kind ``metric``: its settings, and a new measure for each set of points.

    Must: ``start``. The verb ``assess`` takes such components at its port ``metrics``. ``reads_reference`` says that it
    compares with reference draws, the truth ``posterior`` (N, n', *E) that only some data bring.
    """

    reads_reference: ClassVar[bool] = False

    @abstractmethod
    def start(self, units: Units, event_shape: tuple[int, ...], condition_spec: ConditionSpec | None) -> Measure:
        """A measure of events E, for a model with such conditions or, with None, without any.

        Raises ``ConfigError`` where the metric does not fit these events or conditions.
        """
