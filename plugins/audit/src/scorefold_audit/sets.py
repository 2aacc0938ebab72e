"""The three sets of an audit: training points, held-out points and samples, all in the units of the training data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scorefold.data import Condition, Dataset, EventScale
from scorefold.errors import DataError, ShapeError, SplitError
from scorefold.interfaces import DataSource, Flow, ScoreModel
from scorefold.interfaces.data import SPLITS
from scorefold.seeds import derive_seed
from scorefold.stage import StageContext
from scorefold.summary import without
from scorefold_audit.config import AuditOptions
from scorefold_toolkit.data.splits import HasColumns, row_text
from scorefold_toolkit.drawing import condition_of, device_of, draw_within
from scorefold_toolkit.metrics.measure import Units
from scorefold_toolkit.shards import in_shards

SetName = Literal["training", "samples", "points"]
Groups = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]

FEWEST_OF_A_CONDITION = 20
"""Training points for each condition on average, from which on points are compared within conditions."""

_OTHER_SPREAD = 2.0
"""Ratio of the quartiles' distances of a column from which on, up or down, samples are unlike training points in it."""

_OTHER_UNITS, _ALIKE = 10.0, 1e-3
"""Limits of the spread of held-out points or samples, as a multiple of the training points' spread.

Beyond the first, or below its inverse, they are taken to be in other units. Up to the second they count as all alike.
"""


@dataclass(frozen=True)
class Sets:
    """``training`` (n points), ``held_out`` (h points, none where there are no others), ``samples`` (m) and ``points``
    that are asked about, with their conditions, on the CPU in float32; ``scale`` is the units of all of them,
    ``warnings`` what was noticed while they were read, and ``blind`` why there are no held-out points.

    ``rows`` are what the user calls the rows of each set, by its name; see ``row`` and ``called``.
    ``columns`` is the source of the training points, which may name columns. ``unlike`` says which samples of a file
    can't be near to training points, as they have other medians or spreads.
    ``groups`` (n,), (h,) and (m,) number the conditions where there are few different ones: points are then compared
    with points of the same condition.
    """

    training: Dataset
    held_out: Dataset
    samples: Dataset
    points: Dataset
    scale: EventScale
    groups: Groups | None = None
    warnings: tuple[str, ...] = ()
    blind: str = ""
    rows: Mapping[str, Sequence[object] | None] = field(default_factory=dict)
    columns: object = None
    unlike: str = ""

    def row(self, name: SetName, place: int) -> int:
        """The row that a point of a set stands in where the user has it; its place where a model drew it."""
        index = getattr(self, name).index
        return place if index is None else int(index[place])

    def called(self, name: SetName, place: int) -> str:
        """Name of a point of a set for the user: ``row 7`` or the path of an image; ``sample 7`` of a model's draws."""
        if getattr(self, name).index is None:
            return f"{name.removesuffix('s')} {place}"
        return row_text(self.rows.get(name), self.row(name, place))

    def without(self, rows: Tensor) -> Sets:
        """The sets without these held-out points, a mask (h,)."""
        groups = self.groups and (self.groups[0], self.groups[1][~rows.numpy()], self.groups[2])
        return replace(self, held_out=self.held_out.take((~rows).nonzero()[:, 0]), groups=groups)


def read_sets(
    component: ScoreModel | Flow | DataSource, inputs: Mapping[str, Any], options: AuditOptions, context: StageContext
) -> Sets:
    """The points of ``data``, ``held_out`` and ``points``, and samples from a model or a data source.

    Training points are the split ``train`` of ``data``; held-out points all of ``held_out`` where that is given, else
    the stage's split, ``test`` by default, and none where the data have no such split. Raises ``DataError`` for sets
    that are empty, not finite or in other units, ``ShapeError`` for events of different shapes.
    """
    source: DataSource = inputs["data"]
    scale, warnings = source.event_scale, list[str]()
    training, blind = _whole(source.load("train")), ""
    other: DataSource | None = inputs.get("held_out")
    if other is None:
        held_out, blind = _held_out_split(source, training, context)
    else:
        named = column_order("held-out points", other, source)
        held_out = _in_units(_everything(other, context.split), other, scale, named)
        left = _count_left(source)
        if left:
            warnings.append(
                f"{left:,} points of the data's other splits are neither training nor held-out points here: were they "
                "trained on, give them to training too (fractions: [1, 0, 0])"
            )
    order = torch.randperm(len(held_out), generator=context.generator("held-out points"))[: options.held_out]
    held_out = held_out.take(order.sort().values)
    if isinstance(component, DataSource):
        drawn = _everything(component, None)
        given = drawn.take(torch.arange(min(len(drawn), options.n)))
        samples = _in_units(given, component, scale, column_order("samples", component, source))
        if (said := _other_names(component, source)) is not None:
            warnings.append(said)
    else:
        given = held_out if len(held_out) else training
        samples = _in_units(_draw(component, given, options, context), component, scale)
    asked: DataSource | None = inputs.get("points")
    points = (
        training.take(torch.arange(0))
        if asked is None
        else _in_units(_everything(asked, None), asked, scale, column_order("points", asked, source))
    )
    _check_shapes(training, held_out, samples, points, blind)
    # As an image file would keep them: a copy is then equal to its original bit by bit.
    units = Units.of(scale, training.x, "levels")
    samples, held_out = (replace(each, x=units.round(each.x)) for each in (samples, held_out))
    compared = {"held-out points": held_out.x} if len(held_out) else {}
    if isinstance(component, DataSource):
        compared["samples"] = samples.x
    _check_units(compared, training.x, source)
    groups = condition_groups(training, held_out, samples)
    if groups is None and samples.condition is not None:
        warnings.append(
            "the conditions have too many different values to compare points of one condition with each other: all "
            "are compared together"
        )
    sources = {"training": source, "samples": component, "points": asked}
    rows = {name: each.rows if isinstance(each, DataSource) else None for name, each in sources.items()}
    unlike = _unlike(samples.x, training.x, source) if isinstance(component, DataSource) else ""
    return Sets(training, held_out, samples, points, scale, groups, tuple(warnings), blind, rows, source, unlike)


def _unlike(samples: Tensor, training: Tensor, source: object) -> str:
    """Text about half of the columns of a table, or more, in which the median of samples (m, D) differs from the median
    of training points (n, D) by more than their quartiles, or these differ twofold; empty where there are fewer.

    Columns without quartiles, such as rare classes, do not count.
    """
    if training.ndim != 2 or min(len(samples), len(training)) < FEWEST_OF_A_CONDITION:
        return ""
    low, middle, high = np.quantile(training.numpy(), (0.25, 0.5, 0.75), axis=0)
    own_low, own_middle, own_high = np.quantile(samples.numpy(), (0.25, 0.5, 0.75), axis=0)
    spread, own = high - low, own_high - own_low
    varied = spread > 0
    other = varied & (
        (np.abs(own_middle - middle) > spread) | (own > _OTHER_SPREAD * spread) | (_OTHER_SPREAD * own < spread)
    )
    if 2 * int(other.sum()) < max(1, int(varied.sum())):
        return ""
    names = source.column_names if isinstance(source, HasColumns) else ()
    called = [names[place] if names else f"column {place}" for place in np.flatnonzero(other)[:3].tolist()]
    count = f"{int(other.sum())} of {int(varied.sum())} columns"
    return f"samples have other medians or spreads than training points in {count} ({', '.join(called)})"


def condition_groups(*sets: Dataset) -> Groups | None:
    """The conditions of sets of points as numbers (N,) from 0, the same for equal ones; None where a set has none, or
    the first set fewer than 20 points for each."""
    rows = []
    for points in sets:
        if points.condition is None and len(points):
            return None
        parts = points.condition if isinstance(points.condition, Mapping) else {"": points.condition}
        rows.append([part[:, None].flatten(1).double() for part in parts.values() if part is not None])
    full = [torch.cat(parts, 1) for parts in rows if parts]
    _, numbers = torch.unique(torch.cat(full), dim=0, return_inverse=True)
    split = [part.numpy() for part in numbers.split([len(points) for points in sets])]
    if (int(numbers.max()) + 1) * FEWEST_OF_A_CONDITION > len(sets[0]):
        return None
    return split[0], split[1], split[2]


def column_order(name: str, source: object, training: object) -> list[int] | None:
    """The places in the columns of ``source`` of the columns of the training data, by their names; None where they are
    in this order, or where one of both has no names, or no name in common.

    Raises ``DataError`` where some names are in common and others are not.
    """
    own, wanted = (each.column_names if isinstance(each, HasColumns) else () for each in (source, training))
    if own == wanted or not set(own) & set(wanted):
        return None
    if set(own) != set(wanted) or len(own) != len(wanted):
        more, fewer = (sorted(set(one) - set(two)) for one, two in ((own, wanted), (wanted, own)))
        parts = [f"have {', '.join(more[:5])}"] * bool(more) + [f"lack {', '.join(fewer[:5])}"] * bool(fewer)
        leave, which = without((more or fewer)[:5]), name if more else "the training data"
        raise DataError(
            f"{name} have other columns than the training data: they {' and '.join(parts)}",
            hint=f"give both equal columns; or in the run file's stage of {which}, columns: {leave} leaves them out",
        )
    return [own.index(each) for each in wanted]


def _other_names(source: object, training: object) -> str | None:
    """The warning that samples and training data have no name of a column in common."""
    own, wanted = (each.column_names if isinstance(each, HasColumns) else () for each in (source, training))
    if not own or not wanted or set(own) & set(wanted):
        return None
    return f"the columns of the samples have other names ({', '.join(own[:5])}), and are compared in their order"


def _in_units(
    points: Dataset, source: DataSource | ScoreModel | Flow, scale: EventScale, order: list[int] | None = None
) -> Dataset:
    """Points of a source or a model, with their conditions, in the units of others, float32 on the CPU; their columns
    in another ``order``."""
    # Sources of files shuffle rows for their splits; people count them as they stand in the file.
    ordered = points if points.index is None else points.take(torch.argsort(points.index))
    whole = _whole(ordered)
    if order is None:
        return replace(whole, x=in_units(whole.x, source.event_scale, scale))
    raw = source.event_scale.to_raw(whole.x.double())
    return replace(whole, x=scale.from_raw(raw[:, order]).float())


def in_units(x: Tensor, own: EventScale, wanted: EventScale) -> Tensor:
    """Events (N, *E) of one scale in the units of another, float32 on the CPU."""
    x = x.detach().cpu()
    if (own.shift, own.factor) != (wanted.shift, wanted.factor):
        x = wanted.from_raw(own.to_raw(x.double()))
    return x.float()


def to_model(points: Dataset, model: ScoreModel | Flow, scale: EventScale, context: StageContext) -> Dataset:
    """Points of an audit as the model takes them: in its units, on its device and in its dtype."""
    x = in_units(points.x, scale, model.event_scale)
    parameter = next((p for p in (*model.parameters(), *model.buffers()) if p.is_floating_point()), None)
    dtype = context.dtype if parameter is None else parameter.dtype
    return replace(points, x=x).to(device_of(model), dtype)


def _whole(dataset: Dataset) -> Dataset:
    """All points of a data set in memory, float32 on the CPU."""
    # Points in memory are not copied: training sets are large.
    whole = dataset if len(dataset.x) == len(dataset) else dataset.take(torch.arange(len(dataset)))
    return Dataset(whole.x, whole.condition, index=whole.index).to("cpu", torch.float32)


def _held_out_split(source: DataSource, training: Dataset, context: StageContext) -> tuple[Dataset, str]:
    """The points of the stage's split, or none and why."""
    try:
        return _whole(source.load(context.split or "test")), ""
    except SplitError as error:
        why = (
            f"there are no held-out points: {error.message}; without them there is no reference for distances. Use "
            "data with a test split, or add held-out points: inputs: {held_out: STAGE}"
        )
        return training.take(torch.arange(0)), why


def _everything(source: DataSource, split: str | None) -> Dataset:
    """The points of a split, or of all splits in turn."""
    parts: list[Dataset] = []
    for name in SPLITS if split is None else (split,):
        with suppress(SplitError):
            parts.append(source.load(name))
    full = [part for part in parts if len(part)]
    if not full:
        raise DataError("a data source was given that has no points", hint="give data with points")
    if len(full) == 1:
        return full[0]
    if any(part.condition is not None for part in full):
        raise DataError(
            "points with conditions were given in several splits; expected one split",
            hint="put all of them into one: fractions: [0, 0, 1]",
        )
    index = [part.index.cpu() for part in full if part.index is not None]
    whole = torch.cat(index) if len(index) == len(full) else None
    return Dataset(torch.cat([_whole(part).x for part in full]), index=whole)


def _count_left(source: DataSource) -> int:
    count = 0
    for name in ("validation", "test"):
        with suppress(SplitError):
            count += len(source.load(name))
    return count


def _draw(model: ScoreModel | Flow, held_out: Dataset, options: AuditOptions, context: StageContext) -> Dataset:
    """n events, for the conditions of held-out points in turn, which they keep, where the model takes any.

    In jobs where the model is on the CPU and the executor runs these in parallel; each batch has a seed of its own."""
    seed, parts, starts = context.seed("audit"), list[Tensor](), range(0, options.n, options.batch_size)
    # Only their conditions are read, which have no units.
    given = to_model(held_out, model, model.event_scale, context) if model.condition_spec is not None else None
    shards = []
    for number, start in enumerate(starts):
        count, condition = min(options.batch_size, options.n - start), None
        if given is not None:
            condition = condition_of(model, given.take((start + torch.arange(count)) % len(given)))
        shards.append(SampleShard(model, count, condition, options, derive_seed(seed, number), context.precision))
    executor = context.executor if device_of(model).type == "cpu" else None
    for drawn in in_shards(f"{__name__}:sampled_events", shards, executor, "samples"):
        parts.append(drawn)
        context.progress(sum(map(len, parts)), options.n, "samples")
    turns = torch.arange(options.n) % len(held_out)
    return Dataset(torch.cat(parts), None if given is None else held_out.take(turns).condition)


@dataclass(frozen=True)
class SampleShard:
    """Events that are drawn in one job: so many, for as many conditions where the model takes any, from a seed."""

    model: ScoreModel | Flow
    count: int
    condition: Condition | None
    options: AuditOptions
    seed: int
    precision: str = "no"


@torch.no_grad()
def sampled_events(shard: SampleShard) -> Tensor:
    """The events of a shard (count, *E), on the CPU."""
    generator = torch.Generator(device_of(shard.model)).manual_seed(shard.seed)
    n = shard.count if shard.condition is None else 1
    drawn, _ = draw_within(shard.model, n, shard.condition, shard.options, generator, shard.precision)
    return drawn.reshape(shard.count, *shard.model.event_shape).cpu()


def _check_shapes(training: Dataset, held_out: Dataset, samples: Dataset, points: Dataset, blind: str) -> None:
    every = {"training points": training.x, "held-out points": held_out.x, "samples": samples.x}
    if len(points):
        every["points"] = points.x
    shapes = {name: tuple(x.shape[1:]) for name, x in every.items()}
    if len(set(shapes.values())) > 1:
        given = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        hint = "give all of them in one form, as rows of equal columns or as images of one size"
        if len({math.prod(shape) for shape in shapes.values()}) == 1:
            hint = "samples in a file can be given their shape by x.reshape(-1, C, H, W)"
        elif all(len(shape) == 3 for shape in shapes.values()):
            side = min(min(shape[1:]) for shape in shapes.values())
            hint = f"size: {side} resizes images to one size (in commands: --data-option size={side})"
        raise ShapeError(f"the sets have events of different shapes: {given}; expected one shape", hint=hint)
    for name, x in every.items():
        if len(x) == 0 and not (blind and name == "held-out points"):
            raise DataError(f"there are no {name}", hint="give at least 20 of each")
        # No copy of a large set: the largest and the least value are not finite where one is not.
        ends = torch.stack(x.flatten(1).aminmax(dim=1)) if x.numel() else x.new_empty(2, 0)
        if wrong := int((~ends.isfinite().all(0)).sum()):
            raise DataError(f"{wrong} of {len(x)} {name} are not finite", hint="leave these rows out")


def _check_units(compared: Mapping[str, Tensor], training: Tensor, source: object = None) -> None:
    """Raises ``DataError`` for points, by name, that spread far more or far less than training points, as in other
    units.

    Points that are all alike may be in any units.
    """
    usual = _spread(training) or 1.0
    for name, x in compared.items():
        ratio = _spread(x) / usual
        if not (ratio > _OTHER_UNITS or _ALIKE < ratio < 1 / _OTHER_UNITS):
            continue
        hint = "use equal units for both: both from 0 to 255, or both from 0 to 1"
        if x.ndim == 2:
            each = x.std(0, correction=0) / training.std(0, correction=0)
            odd = ((each > _OTHER_UNITS) | (each < 1 / _OTHER_UNITS)).nonzero().flatten().tolist()
            names = source.column_names if isinstance(source, HasColumns) else ()
            shown = ", ".join(repr(names[place]) if names else str(place) for place in odd[:5])
            hint = f"use equal columns and units for both; columns that differ: {shown}"
        raise DataError(
            f"{name} spread {ratio:.3g} times as far as training points; expected the same units, as they were read",
            hint=hint,
        )


def _spread(x: Tensor) -> float:
    """The root mean square distance of points from their mean."""
    return float(x.flatten(1).var(0, correction=0).sum().sqrt())
