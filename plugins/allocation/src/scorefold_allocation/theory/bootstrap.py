"""Bootstrap over seeds: means over resampled seeds, and their bands."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Band:
    """The median of a quantity over resamples, and its quantiles 5 % and 95 %."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, draws: Tensor) -> Band:
        """The band of draws (D,)."""
        low, median, high = draws.double().quantile(torch.tensor([0.05, 0.5, 0.95], dtype=torch.float64)).tolist()
        return cls(median, low, high)

    def holds(self, value: float) -> bool:
        """True if the value lies inside, ends included."""
        return self.low <= value <= self.high

    def summary(self) -> dict[str, float]:
        """The band as JSON."""
        return asdict(self)


def resampled_means(values: Tensor, draws: int, generator: torch.Generator) -> Tensor:
    """Means (draws, k) over resampled rows of values (R, k), R seeds by k cells.

    A seed's values stay together, so that what is common to its cells cancels between them. The spread of resampled
    means falls short of that of new ones by sqrt((R - 1) / R), which is made up for; means of positive values stay
    positive, the spread being that of a ratio. A single seed has no spread: (1, k).
    """
    rows = len(values)
    mean = values.mean(0, keepdim=True)
    if rows < 2:
        return mean
    index = torch.randint(rows, (draws, rows), generator=generator)
    ratio = values[index].mean(1) / mean
    return mean * ratio ** math.sqrt(rows / (rows - 1))
