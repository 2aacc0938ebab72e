"""Points in the units of the data that a model was trained on, and whether they are like these data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from scorefold.data import Dataset, DataSpec, EventScale, TensorSpec
from scorefold.interfaces import DataSource
from scorefold_registry.components.building import Memory

APART = 3.0
"""The ratio of spreads, or the distance of means in deviations, from which data count as unlike the training data."""

_FEW, _NAMED, _ROUNDING = 10, 3, 1e-6
"""The fewest events whose spread is judged, the most columns that are named, and what float32 leaves of 0."""


def spec_of(memory: Memory, component: Any) -> DataSpec | None:
    """The shape and scale of the data that a component was made for, through its ports."""
    made = memory.of(component)
    for port in () if made is None else made.ports.values():
        for item in port if isinstance(port, list) else [port]:
            if isinstance(item, DataSpec):
                return item
            if isinstance(item, DataSource):
                return item.spec()
            if (found := spec_of(memory, item)) is not None:
                return found
    return None


def observed(component: Any) -> TensorSpec | None:
    """The shape of an observation for which a component draws; None of classes, and of conditions in parts."""
    spec = getattr(component, "condition_spec", None)
    return spec if isinstance(spec, TensorSpec) and spec.classes is None else None


def in_units_of(spec: DataSpec, source: DataSource) -> DataSource:
    """A source in the units of a model's data; itself where it has these, and where its own units are not known.

    A table that is read anew has its own means and deviations. Images convert where both have a known range. Data that
    bring the operator of their conditions stay as they are, since its noise is in their units.
    """
    own, wanted = source.event_scale, spec.event_scale
    same = (own.shift, own.factor) == (wanted.shift, wanted.factor)
    plain = any(scale.bounded and (scale.shift, scale.factor) == (0.0, 1.0) for scale in (own, wanted))
    unlike = own.bounded != wanted.bounded or tuple(source.event_shape) != tuple(spec.event_shape)
    return source if same or plain or unlike or hasattr(source, "operator") else _InUnits(source, wanted)


class _InUnits(DataSource):
    """A source in other units, without what it says of its own: its truths and its distribution."""

    def __init__(self, source: DataSource, scale: EventScale) -> None:
        self._source, self.event_scale = source, scale
        self.event_shape, self.condition_spec = source.event_shape, source.condition_spec
        self.label_names, self.rows = source.label_names, source.rows

    def load(self, split: str) -> Dataset:
        points = self._source.load(split)
        x = points.tensor()
        return replace(points, x=self.event_scale.from_raw(self._source.event_scale.to_raw(x.double())).to(x), truth={})

    def data_warnings(self) -> tuple[str, ...]:
        return self._source.data_warnings()


def unit_warnings(trained: EventScale, x: Tensor) -> list[str]:
    """Warnings where events x (N, *E), in a model's units, are not of the size or at the place of its training data.

    Distances are divided by the deviation of the training data, one number for all coordinates. The numbers reported
    are in the units that the data were read in.
    """
    if len(x) == 0:
        return []
    own = EventScale.of(x)
    flat = x.double().flatten(1)
    found = []
    ratio = own.std / trained.std
    constant = bool((flat == flat[0]).all())
    if len(x) >= _FEW and not constant and not 1 / APART <= ratio <= APART:
        found.append(
            f"the spread of the data is {ratio:.3g} times the spread of the model's training data: check that both "
            "have the same units"
        )
    means, middle = flat.mean(0), trained.middle(flat)
    off = (means - middle) / trained.std
    far = (off.abs() > APART).nonzero().flatten().tolist()
    if far and len(means) == x.shape[-1] and x.dim() == 2:
        raw = trained.to_raw(means)
        raw_middle = trained.to_raw(means * 0 + middle)
        raw = raw.where(raw.abs() > _ROUNDING * raw_middle.abs(), 0.0)
        far.sort(key=lambda column: -abs(float(off[column])))
        named = ", ".join(
            f"column {column} has mean {float(raw[column]):.4g} for {float(raw_middle[column]):.4g}"
            for column in far[:_NAMED]
        )
        more = f" and {len(far) - _NAMED} more columns" if len(far) > _NAMED else ""
        found.append(f"the data lie away from the model's training data: {named}{more} (columns from 0)")
    elif abs(own.mean - trained.mean) > APART * trained.std:
        found.append(
            f"the data have mean {own.mean:.4g} and the model's training data {trained.mean:.4g}, in the model's units"
        )
    return found
