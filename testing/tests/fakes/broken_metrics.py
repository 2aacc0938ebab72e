"""The broken fakes of metrics."""

from __future__ import annotations

import math
from typing import Any

import torch
from broken_fakes import breaks, calls
from good_fakes import Gap, MeanGap

from scorefold_toolkit.metrics.measure import EvaluationBatch


def measuring(**methods: Any) -> Any:
    """``start`` of a measure that is ``Gap`` but for some methods."""

    def start(self: Any, units: Any, event_shape: tuple[int, ...], condition_spec: Any) -> Any:
        MeanGap.start(self, units, event_shape, condition_spec)
        return type("Broken", (Gap,), methods)()

    return start


def giving(numbers: Any) -> Any:
    """A measure whose numbers are ``numbers(numbers of Gap)``."""
    return measuring(metrics=lambda self: numbers(Gap.metrics(self)))


def last_alone(self: Any, batch: EvaluationBatch) -> None:
    self.total, self.count = 0, 0
    Gap.add(self, batch)


def by_batches(self: Any, batch: EvaluationBatch) -> None:
    Gap.add(self, batch)
    self.batches = getattr(self, "batches", 0) + 1


def first_half(self: Any, batch: EvaluationBatch) -> None:
    Gap.add(self, batch.take(torch.arange(len(batch.truth) // 2), None))


def in_place(self: Any, batch: EvaluationBatch) -> None:
    Gap.add(self, batch)
    batch.truth.mul_(2)


breaks("metric-numbers", MeanGap, start=giving(lambda found: {}))
breaks("metric-numbers", MeanGap, start=giving(lambda found: {**found, "lost": math.nan}))
breaks("metric-batches", MeanGap, start=measuring(add=last_alone))
breaks(
    "metric-batches",
    MeanGap,
    start=measuring(add=by_batches, metrics=lambda self: {f"gap of {self.batches}": 1.0}),
)
breaks("metric-repeats", MeanGap, start=giving(lambda found: {**found, "calls": float(next(calls))}))
breaks("metric-any-order", MeanGap, start=measuring(add=first_half))
breaks("metric-sees-samples", MeanGap, start=giving(lambda found: {"nothing": 0.0}))
breaks("metric-keeps-events", MeanGap, start=measuring(add=in_place))
