"""Data in memory or streamed: what a data source loads and everything else reads."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from scorefold.errors import DataError, ShapeError

MEASURED = 2**25
"""Numbers of its data that a model measures before it is trained."""


Condition = Tensor | Mapping[str, Tensor]
"""A condition: one tensor or named tensors, each (B, *shape); integer tensors are classes."""


@dataclass(frozen=True)
class TensorSpec:
    """The shape of one condition without its batch dimension; ``classes`` is set for integer class labels."""

    shape: tuple[int, ...]
    classes: int | None = None


ConditionSpec = TensorSpec | Mapping[str, TensorSpec]

PerCoordinate = float | tuple[float, ...]
"""One number for all coordinates, or one for each coordinate of an event, flattened."""


@dataclass(frozen=True)
class EventScale:
    """The units of an event.

    ``low`` and ``high`` bound x where it is bounded (images); ``levels`` counts its discrete values, equally spaced
    over [low, high], or is None for continuous data. ``mean`` is one number over all points and coordinates of the
    training split; ``std`` is one number too. For bounded data it is the root mean square of the deviations from
    ``mean``. For other data each coordinate deviates from its own mean, so a shift or a rotation of the data leaves
    it. ``centre`` holds the mean of each coordinate of a vector where one number won't do for all; see ``middle``.
    x = (raw - shift) / factor says how raw data became x, with one number for all coordinates or a tuple of one for
    each. Raises ``DataError`` for fewer than 2 levels, and for bounds of data whose coordinates have their own units.

    >>> EventScale(low=0.0, high=1.0, levels=256, factor=255.0).to_raw(torch.tensor([0.2, 1.0]))
    tensor([ 51., 255.])
    """

    low: float | None = None
    high: float | None = None
    levels: int | None = None
    mean: float = 0.0
    std: float = 1.0
    shift: PerCoordinate = 0.0
    factor: PerCoordinate = 1.0
    centre: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.levels is not None and self.levels < 2:
            raise DataError(f"an event scale of {self.levels} levels was given; expected 2 or more, or None")
        if self.bounded and self.per_coordinate:
            raise DataError("an event scale has bounds and a unit for each coordinate; expected one unit for all")
        if self.centre is not None:
            # Made here: torch.tensor inside a transform of torch.func fails on the meta device.
            self.__dict__["_centre"] = torch.tensor(self.centre, dtype=torch.float64, device="cpu")

    @classmethod
    def of(cls, x: Tensor) -> EventScale:
        """The scale of continuous, unbounded data with these training points (N, *E); a std of 0 is given as 1."""
        if x.numel() == 0:
            return cls()
        variances, means = torch.var_mean(x.double().flatten(1), dim=0, correction=0)
        mean, std = float(means.mean()), float(variances.mean().sqrt())
        return cls(mean=mean, std=std or 1.0, centre=own_centre(means.tolist(), mean, std) if x.dim() == 2 else None)

    @property
    def bounded(self) -> bool:
        """True if x has a bound, as images have."""
        return self.low is not None or self.high is not None

    @property
    def per_coordinate(self) -> bool:
        """True if each coordinate has a shift or a factor of its own."""
        return isinstance(self.shift, tuple) or isinstance(self.factor, tuple)

    def middle(self, like: Tensor) -> Tensor | float:
        """The mean to subtract from events (..., *E): one number, or, where vectors have one for each coordinate, (D,)
        on the device and in the dtype of ``like``."""
        if self.centre is None:
            return self.mean
        centre: Tensor = self.__dict__["_centre"]
        return centre.to(like)

    def spread(self, event_shape: tuple[int, ...]) -> float:
        """The root-mean-square distance of an event from the mean, std sqrt(D): adding coordinates that are 0
        leaves it."""
        return self.std * math.sqrt(math.prod(event_shape))

    def to_raw(self, x: Tensor) -> Tensor:
        """x in the units of the data as they were read, clipped to [low, high] first where those are known. In float64
        where each coordinate has a unit of its own: float32 need not hold the digits of its raw values.
        """
        if self.bounded:
            x = x.clamp(self.low, self.high)
        if self.per_coordinate:
            x = x.double()
        return x * _numbers(self.factor, x) + _numbers(self.shift, x)

    def from_raw(self, raw: Tensor) -> Tensor:
        """Raw values as x, in float64."""
        raw = raw.double()
        return (raw - _numbers(self.shift, raw)) / _numbers(self.factor, raw)

    def log_volume(self, event_shape: tuple[int, ...]) -> float:
        """log |det d raw / dx|, the sum of log factor over the coordinates: log p(raw) is log p(x) less this."""
        if isinstance(self.factor, tuple):
            return sum(map(math.log, self.factor))
        return math.prod(event_shape) * math.log(self.factor)


def _numbers(given: PerCoordinate, like: Tensor) -> Tensor | float:
    """One number, or one number per coordinate in the shape of an event: the shape of the last axes of ``like``."""
    if not isinstance(given, tuple):
        return given
    axes = (axis for axis in range(1, like.dim() + 1) if math.prod(like.shape[-axis:]) == len(given))
    return torch.tensor(given, dtype=like.dtype, device=like.device).reshape(like.shape[-next(axes, 1) :])


def own_centre(means: Sequence[float], mean: float, std: float) -> tuple[float, ...] | None:
    """The means of coordinates as a ``centre``, or None where all lie within one deviation of the common mean."""
    return tuple(means) if max(abs(one - mean) for one in means) > std else None


@dataclass(frozen=True)
class DataSpec:
    """Properties of the data from which a model is built: the shape and scale of an event and of its conditions.

    A ``DataSource`` has the same three attributes, so a constructor may read either; a saved model is rebuilt from it.

    >>> spec = DataSpec((1, 28, 28), condition_spec=TensorSpec((), classes=10))
    >>> spec.event_shape, spec.event_scale.std
    ((1, 28, 28), 1.0)
    """

    event_shape: tuple[int, ...]
    event_scale: EventScale = field(default_factory=EventScale)
    condition_spec: ConditionSpec | None = None


def index_condition(condition: Condition | None, index: Tensor) -> Condition | None:
    """The rows of a condition at positions (n,), integers."""
    return map_condition(condition, lambda value: value.index_select(0, index.to(value.device)))


def map_condition(condition: Condition | None, function: Callable[[Tensor], Tensor]) -> Condition | None:
    """A function applied to each tensor of a condition."""
    if condition is None:
        return None
    if isinstance(condition, Tensor):
        return function(condition)
    return {name: function(value) for name, value in condition.items()}


def condition_rows(condition: Condition) -> int:
    """The number of rows of a condition, its first dimension. Raises ``ShapeError`` where its parts share none."""
    parts = [condition] if isinstance(condition, Tensor) else list(getattr(condition, "values", list)())
    rows = {part.shape[0] if part.dim() else None for part in parts}
    count = rows.pop() if len(rows) == 1 else None
    if count is None:
        what = ", ".join(str(tuple(part.shape)) for part in parts) or type(condition).__name__
        raise ShapeError(f"a condition of {what} was given; expected torch tensors with one number of rows")
    return count


def repeat_condition(condition: Condition | None, count: int) -> Condition | None:
    """A condition with ``count`` rows: its C rows one after another, count / C times; row i serves events i, i + C, ...
    Raises ``ShapeError`` where count is not a multiple of C.
    """
    if condition is None or condition_rows(condition) == count:
        return condition
    rows = condition_rows(condition)
    if rows == 0 or count % rows:
        raise ShapeError(
            f"{count} events were given with {rows} conditions; expected {rows} events, or a multiple of that"
        )
    return map_condition(condition, lambda c: c.repeat(count // rows, *[1] * (c.dim() - 1)))


def spec_of_conditions(conditions: Sequence[Condition | None]) -> ConditionSpec | None:
    """Common shape of the conditions of several splits, each with its rows; None without conditions.

    Integers are classes, and there are as many as the largest of them plus 1. Raises ``DataError`` where the splits
    don't have the same conditions.
    """
    named = [{"": each} if isinstance(each, Tensor) else dict(each or {}) for each in conditions]
    kinds = {
        frozenset((name, tuple(value.shape[1:]), value.is_floating_point()) for name, value in each.items())
        for each in named
    }
    if len(kinds) > 1:
        raise DataError(
            "the splits don't have the same conditions", hint="use conditions of one shape for all of them, or none"
        )
    found = {name: _tensor_spec([each[name] for each in named]) for name in (named[0] if named else {})}
    return found.get("") or found or None


def _tensor_spec(values: Sequence[Tensor]) -> TensorSpec:
    shape = tuple(values[0].shape[1:])
    if values[0].is_floating_point():
        return TensorSpec(shape)
    return TensorSpec(shape, classes=max([int(value.max()) for value in values if value.numel()], default=0) + 1)


@dataclass(frozen=True)
class Dataset:
    """Points with what is known of each. A batch is a ``Dataset`` too.

    ``x`` is (N, *E); ``condition`` a tensor or named tensors with N rows; ``label`` (N,) integers; ``index`` (N,) the
    row of each point in its source; ``truth`` holds known facts by name: numbers, or tensors with N rows (such as
    ``dimension``, an int for all points or a tensor (N,)). Raises ``ShapeError`` where the numbers of rows differ.

    >>> [batch.label.tolist() for batch in Dataset(x=torch.zeros(5, 2), label=torch.arange(5)).batches(2)]
    [[0, 1], [2, 3], [4]]
    >>> Dataset(x=torch.zeros(5, 2), label=torch.arange(5))
    Dataset(5 of shape (2,), label)
    """

    x: Tensor
    condition: Condition | None = None
    label: Tensor | None = None
    index: Tensor | None = None
    truth: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rows = len(self)
        for name, value in self._columns():
            if value.dim() == 0 or value.shape[0] != rows:
                raise ShapeError(f"{name} has shape {tuple(value.shape)}; expected {rows} rows, one for each point")

    def _columns(self) -> Iterator[tuple[str, Tensor]]:
        if isinstance(self.condition, Tensor):
            yield "condition", self.condition
        elif self.condition is not None:
            yield from ((f"condition {name!r}", value) for name, value in self.condition.items())
        for name, value in (("label", self.label), ("index", self.index)):
            if value is not None:
                yield name, value

    def __len__(self) -> int:
        return self.x.shape[0]

    def __repr__(self) -> str:
        held = [f"{len(self):,} of shape {self.event_shape}", *(name for name, _ in self._columns()), *self.truth]
        return f"{type(self).__name__}({', '.join(held)})"

    @property
    def event_shape(self) -> tuple[int, ...]:
        """E, the shape of one point."""
        return tuple(self.x.shape[1:])

    def take(self, index: Tensor) -> Dataset:
        """The points at these positions (n,), integers in [0, N), as a data set."""
        index = index.to(self.x.device)

        def rows(value: Tensor) -> Tensor:
            return value.index_select(0, index.to(value.device))

        return Dataset(
            x=rows(self.x),
            condition=map_condition(self.condition, rows),
            label=None if self.label is None else rows(self.label),
            index=index if self.index is None else rows(self.index),
            truth={name: rows(value) if self._is_column(value) else value for name, value in self.truth.items()},
        )

    def takes(self, positions: Iterable[Tensor]) -> Generator[Dataset, None, None]:
        """``take`` of each of several positions (n,), in order; ``positions`` may be endless. A reader that stops early
        closes it (``contextlib.closing``), so that nothing more is decoded.
        """
        for index in positions:
            yield self.take(index)

    def tensor(self, limit: int | None = None) -> Tensor:
        """The events as one tensor (min(N, limit), *E)."""
        return self.x if limit is None else self.x[:limit]

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Dataset:
        """The same points on a device, their events and conditions (where floating-point) in a dtype."""

        def move(value: Tensor) -> Tensor:
            return value.to(device=device, dtype=dtype if value.is_floating_point() else None)

        def carry(value: Any) -> Any:
            return value.to(device=device) if isinstance(value, Tensor) else value

        return replace(
            self,
            x=move(self.x),
            condition=map_condition(self.condition, move),
            label=carry(self.label),
            index=carry(self.index),
            truth={name: carry(value) for name, value in self.truth.items()},
        )

    def batches(
        self, size: int, generator: torch.Generator | None = None, *, drop_last: bool = False
    ) -> Iterator[Dataset]:
        """One pass in batches of ``size``: in order, or shuffled by a generator. ``drop_last`` leaves out a short one.
        Raises ``DataError`` for a size below 1.
        """
        if size < 1:
            raise DataError(f"a batch size of {size} was asked for; it must be at least 1")
        order = torch.arange(len(self)) if generator is None else self.order(generator)
        end = len(order) - len(order) % size if drop_last else len(order)
        return self.takes(order[start : min(start + size, end)] for start in range(0, end, size))

    def order(self, generator: torch.Generator) -> Tensor:
        """All positions in a random order (N,)."""
        return shuffled(len(self), generator)

    def _is_column(self, value: Any) -> bool:
        return isinstance(value, Tensor) and value.dim() > 0 and value.shape[0] == len(self)


def measured_rows(count: int, shape: tuple[int, ...]) -> int:
    """Number of the ``count`` points that a model measures before training: 2^25 numbers, and at least one point."""
    return min(count, max(1, MEASURED // max(1, math.prod(shape))))


def shuffled(count: int, generator: torch.Generator) -> Tensor:
    """The integers below ``count`` in a random order (count,), on the generator's device."""
    return torch.randperm(count, generator=generator, device=generator.device)


@dataclass(frozen=True)
class StreamedDataset(Dataset):
    """Points decoded when they are asked for, for data larger than memory.

    ``x`` is an empty (0, *E) tensor that carries the event shape, dtype and device; ``fetch`` decodes the points at
    some positions (n,), the same at every call and from any thread; ``size`` is N. ``workers`` threads decode batches
    ahead of their use (image decoding releases the interpreter lock). What is known of the points comes with each
    batch. ``shuffle`` gives ``order`` where not every order is read equally fast, as of points in blocks.

    >>> squares = StreamedDataset(torch.empty(0, 1), fetch=lambda i: Dataset(i[:, None].float() ** 2), size=10**9)
    >>> len(squares), squares.take(torch.tensor([3, 700])).x.flatten().tolist()
    (1000000000, [9.0, 490000.0])
    """

    fetch: Callable[[Tensor], Dataset] = field(kw_only=True)
    size: int = field(kw_only=True)
    workers: int = field(default=0, kw_only=True)
    shuffle: Callable[[torch.Generator], Tensor] | None = field(default=None, kw_only=True)

    def __len__(self) -> int:
        return self.size

    def take(self, index: Tensor) -> Dataset:
        batch = self.fetch(index.cpu())
        if len(batch) != len(index):
            raise DataError(f"{len(index)} points were asked for and the source decoded {len(batch)}")
        return batch.to(self.x.device, self.x.dtype)

    def takes(self, positions: Iterable[Tensor]) -> Generator[Dataset, None, None]:
        if self.workers < 1:
            yield from super().takes(positions)
            return
        with ThreadPoolExecutor(self.workers) as pool:
            ahead: deque[Future[Dataset]] = deque()
            try:
                for index in positions:
                    ahead.append(pool.submit(self.take, index))
                    if len(ahead) > 2 * self.workers:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
            finally:
                # A reader that stops early does not wait for batches nobody will see.
                for pending in ahead:
                    pending.cancel()

    def order(self, generator: torch.Generator) -> Tensor:
        return super().order(generator) if self.shuffle is None else self.shuffle(generator)

    def tensor(self, limit: int | None = None) -> Tensor:
        return self.take(torch.arange(self.size)[:limit]).x


def as_dataset(data: Tensor | Dataset) -> Dataset:
    """A tensor (N, *E) as a data set; a data set as it is."""
    if isinstance(data, Dataset):
        return data
    if not isinstance(data, Tensor):
        raise DataError(f"data is a {type(data).__name__}; expected a tensor (N, *E) or a Dataset")
    if data.dim() < 2:
        raise ShapeError(
            f"data has shape {tuple(data.shape)}; expected (N, *E) with at least one event dimension",
            hint="for N numbers, pass data[:, None]",
        )
    return Dataset(x=data, index=torch.arange(data.shape[0]))
