"""Checks of data sources (``scorefold.interfaces.DataSource``)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations

import torch
from torch import Tensor

from scorefold.data import Condition, ConditionSpec, Dataset, TensorSpec
from scorefold.errors import DataError
from scorefold.interfaces import DataSource
from scorefold.interfaces.data import SPLITS
from scorefold_testing.contract import (
    Check,
    NotApplicableError,
    Subject,
    check,
    require,
    require_refusal,
    require_same,
    require_shape,
    require_within,
)
from scorefold_toolkit.data.splits import moments

LIMIT = 500


def _splits(source: DataSource) -> dict[str, Dataset]:
    """The splits that are not empty."""
    loaded = {split: source.load(split) for split in SPLITS}
    return {split: dataset for split, dataset in loaded.items() if len(dataset) > 0}


@check("splits-disjoint", "data", level="contract")
def splits_disjoint(subject: Subject) -> str:
    """No point is in two splits or twice in one, by its position in the source; without positions, by its value."""
    splits = _splits(subject.build())
    require(bool(splits), "all splits are empty", "one that is not")
    for name, dataset in splits.items():
        index = dataset.take(torch.arange(len(dataset))).index
        if index is not None:
            twice = len(index) - len(index.unique())
            require(twice == 0, f"{twice} positions stand twice in {name}", "0")
    for (one, a), (other, b) in combinations(splits.items(), 2):
        shared = _keys(a) & _keys(b)
        require(not shared, f"{one} and {other} share {len(shared)} points", "0")
    return ", ".join(f"{name} {len(dataset)}" for name, dataset in splits.items())


def _keys(dataset: Dataset) -> set[object]:
    batch = dataset.take(torch.arange(len(dataset)))
    if batch.index is not None:
        return set(batch.index.tolist())
    return {row.contiguous().numpy().tobytes() for row in batch.x.cpu()}


@check("load-repeats", "data", level="determinism")
def load_repeats(subject: Subject) -> str:
    """A split loaded twice holds the same points."""
    source = subject.build()
    for split in SPLITS:
        first, second = source.load(split).tensor(LIMIT), source.load(split).tensor(LIMIT)
        require_same(f"{split} loaded twice", second, first)
    return "train, validation and test"


@check("event-shape", "data", level="contract")
def event_shape(subject: Subject) -> str:
    """Points have the source's event shape, are floating-point and finite."""
    source = subject.build()
    for name, dataset in _splits(source).items():
        x = dataset.tensor(LIMIT)
        require_shape(f"the points of {name}", x, (min(LIMIT, len(dataset)), *source.event_shape))
        expected = tuple(source.event_shape)
        require(dataset.event_shape == expected, f"{name} says its events are {dataset.event_shape}", str(expected))
        require(x.is_floating_point(), f"the points of {name} are {x.dtype}", "floating-point numbers")
        count = int((~x.isfinite()).sum())
        require(count == 0, f"{count} coordinates of {name} are not finite", "0")
    return f"events {tuple(source.event_shape)}"


@check("event-scale", "data", level="numerics")
def event_scale(subject: Subject) -> str:
    """Points are within [low, high]; mean and std equal the training split's mean and std, to 5 % of its std.

    ``scorefold_toolkit.data.splits.moments`` computes both.
    """
    source = subject.build()
    scale = source.event_scale
    for name, dataset in _splits(source).items():
        x = dataset.tensor(LIMIT)
        low, high = float(x.min()), float(x.max())
        slack = 1e-4 * scale.std
        within = (scale.low is None or low >= scale.low - slack) and (scale.high is None or high <= scale.high + slack)
        require(within, f"{name} goes from {low:.4g} to {high:.4g}", f"{scale.low} to {scale.high}, as the scale says")
    mean, std = moments(source.load("train").tensor(), bounded=scale.bounded)
    off = require_within(f"mean {mean:.4g} for {scale.mean:.4g}, over std", abs(mean - scale.mean) / std, 0.05)
    return f"{off}; " + require_within(f"std {std:.4g} for {scale.std:.4g}, over std", abs(std - scale.std) / std, 0.05)


@check("levels-on-grid", "data", level="numerics")
def levels_on_grid(subject: Subject) -> str:
    """Discrete data lie on the ``levels`` values equally spaced over [low, high], to a thousandth of their distance."""
    source = subject.build()
    scale = source.event_scale
    if scale.levels is None:
        raise NotApplicableError("the data are continuous")
    bounded = scale.low is not None and scale.high is not None
    require(bounded, f"the scale has {scale.levels} levels from {scale.low} to {scale.high}", "two bounds")
    assert scale.low is not None
    assert scale.high is not None
    width = (scale.high - scale.low) / (scale.levels - 1)
    for name, dataset in _splits(source).items():
        steps = (dataset.tensor(LIMIT).double() - scale.low) / width
        gap = float((steps - steps.round()).abs().max())
        require_within(f"{name} off the grid, in levels", gap, 1e-3)
    return f"{scale.levels} levels"


@check("unknown-split-refused", "data", level="contract")
def unknown_split(subject: Subject) -> str:
    """A split that there is not is refused by a DataError."""
    source = subject.build()
    return require_refusal("the split 'holiday'", DataError, lambda: source.load("holiday"))


@check("conditions-fit", "data", level="contract")
def conditions_fit(subject: Subject) -> str:
    """Conditions have the shapes of the condition spec, classes are integers below their number."""
    source = subject.build()
    for name, dataset in _splits(source).items():
        batch = dataset.take(torch.arange(min(LIMIT, len(dataset))))
        for what, spec, value in _conditions(source.condition_spec, batch.condition):
            require_shape(f"{what} of {name}", value, (len(batch), *spec.shape))
            if spec.classes is not None:
                integer = not value.is_floating_point()
                low, high = int(value.min()), int(value.max())
                text = f"{what} of {name} is {value.dtype}, {low} to {high}"
                require(integer and low >= 0 and high < spec.classes, text, f"{spec.classes} classes from 0")
    return "none" if source.condition_spec is None else "shapes and classes as declared"


def _conditions(spec: ConditionSpec | None, value: Condition | None) -> Iterator[tuple[str, TensorSpec, Tensor]]:
    require((spec is None) == (value is None), f"the condition is {_kind(value)}", f"one as {spec} says")
    if spec is None or value is None:
        return
    if isinstance(spec, TensorSpec):
        require(isinstance(value, Tensor), f"the condition is a {_kind(value)}", "a tensor")
        assert isinstance(value, Tensor)
        yield "the condition", spec, value
        return
    names = set() if isinstance(value, Tensor) else set(value)
    require(names == set(spec), f"the conditions are {sorted(names)}", str(sorted(spec)))
    assert not isinstance(value, Tensor)
    for name, part in spec.items():
        yield f"condition {name!r}", part, value[name]


def _kind(value: object) -> str:
    return "absent" if value is None else type(value).__name__


@check("batches-cover", "data", level="contract")
def batches_cover(subject: Subject) -> str:
    """Batches in order hold the points of ``tensor``, and shuffled ones each point once."""
    source = subject.build()
    dataset = source.load("train")
    x = dataset.tensor()
    size = max(1, len(dataset) // 3)
    in_order = torch.cat([batch.x for batch in dataset.batches(size)])
    require_same("the points of batches in order", in_order, x)
    shuffled, again = (
        torch.cat([batch.x for batch in dataset.batches(size, subject.generator("shuffle"))]) for _ in range(2)
    )
    one, other = (torch.sort(points.double().flatten(1).sum(1)).values for points in (x, shuffled))
    require_shape("what shuffled batches hold", shuffled, tuple(x.shape))
    require_within("sums over shuffled points, in order,", float((one - other).abs().max()), 1e-4)
    require_same("batches shuffled again from one seed", again, shuffled)
    return f"{len(x)} points in batches of {size}"


@check("truth-fits", "data", level="contract")
def truth_fits(subject: Subject) -> str:
    """Every truth is a number or has a row for each point; a dimension is between 0 and D."""
    source = subject.build()
    largest = math.prod(source.event_shape)
    names: set[str] = set()
    for split, dataset in _splits(source).items():
        batch = dataset.take(torch.arange(len(dataset)))
        for name, value in batch.truth.items():
            names.add(name)
            count = len(value) if isinstance(value, Tensor) and value.dim() else len(batch)
            require(count == len(batch), f"the truth {name!r} of {split} has {count} rows", f"{len(batch)}")
        if "dimension" in batch.truth:
            dimension = torch.as_tensor(batch.truth["dimension"])
            least, most = int(dimension.min()), int(dimension.max())
            text = f"the true dimension of {split} is {least} to {most}"
            require(least >= 0 and most <= largest, text, f"0 to {largest}")
    if not names:
        raise NotApplicableError("nothing is known of the points")
    return ", ".join(sorted(names))


CHECKS: tuple[Check, ...] = (
    splits_disjoint,
    load_repeats,
    event_shape,
    event_scale,
    levels_on_grid,
    unknown_split,
    conditions_fit,
    batches_cover,
    truth_fits,
)
