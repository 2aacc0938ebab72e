"""Common parts of image sources: the units of pixels, classes as conditions."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from scorefold.data import Condition, EventScale, TensorSpec
from scorefold.errors import DataError


@dataclass(frozen=True)
class Units:
    """Map from raw values in [0, raw_high] to values in [low, high]: x = (raw - shift) / factor."""

    low: float
    high: float
    raw_high: float
    levels: int

    @property
    def factor(self) -> float:
        return self.raw_high / (self.high - self.low)

    def apply(self, raw: Tensor) -> Tensor:
        """Raw values of any dtype as float32 values in [low, high]."""
        return raw.float() / self.factor + self.low

    def scale(self, mean: float, std: float) -> EventScale:
        return EventScale(
            low=self.low,
            high=self.high,
            levels=self.levels,
            mean=mean,
            std=std,
            shift=-self.low * self.factor,
            factor=self.factor,
        )


def class_condition(wanted: bool, label: Tensor | None, classes: int) -> tuple[Condition | None, TensorSpec | None]:
    """The label as a condition and its specification, or (None, None)."""
    if not wanted:
        return None, None
    if label is None:
        raise DataError(
            "the condition is the class, but these data have no classes",
            hint="remove 'condition', or give classes (sub-folders of images, or a label column)",
        )
    return label, TensorSpec((), classes=classes)
