"""Data in memory or streamed: what a data source loads and everything else reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from scorefold.errors import DataError, ShapeError

Condition = Tensor | Mapping[str, Tensor]
"""A condition: one tensor or named tensors, each (B, *shape); integer tensors are classes."""


@dataclass(frozen=True)
class TensorSpec:
    """The shape of one condition without its batch dimension; ``classes`` is set for integer class labels."""

    shape: tuple[int, ...]
    classes: int | None = None


ConditionSpec = TensorSpec | Mapping[str, TensorSpec]


@dataclass(frozen=True)
class EventScale:
    """The units of an event.

    ``low`` and ``high`` bound x where it is bounded (images); ``levels`` counts its discrete values, equally spaced
    over [low, high], or is None for continuous data; ``mean`` and ``std`` are one number each, over all points and
    coordinates of the training split. x = (raw - shift) / factor
    says how raw data became x; ``to_raw`` undoes it.
    """

    low: float | None = None
    high: float | None = None
    levels: int | None = None
    mean: float = 0.0
    std: float = 1.0
    shift: float = 0.0
    factor: float = 1.0

    def to_raw(self, x: Tensor) -> Tensor:
        """x in the units of the data as they were read, clipped to [low, high] first where those are known."""
        if self.low is not None or self.high is not None:
            x = x.clamp(self.low, self.high)
        return x * self.factor + self.shift


@dataclass(frozen=True)
class DataSpec:
    """What a model needs to know of its data to be built: the shape and scale of an event and of its conditions.

    A ``DataSource`` has the same three attributes, so a constructor may read either; a saved model is rebuilt from
    this alone.
    """

    event_shape: tuple[int, ...]
    event_scale: EventScale = field(default_factory=EventScale)
    condition_spec: ConditionSpec | None = None


def index_condition(condition: Condition | None, index: Tensor) -> Condition | None:
    """Rows of a condition."""
    if condition is None:
        return None
    if isinstance(condition, Tensor):
        return condition[index]
    return {name: value[index] for name, value in condition.items()}


def map_condition(condition: Condition | None, function: Callable[[Tensor], Tensor]) -> Condition | None:
    """A function applied to each tensor of a condition."""
    if condition is None:
        return None
    if isinstance(condition, Tensor):
        return function(condition)
    return {name: function(value) for name, value in condition.items()}


@dataclass(frozen=True)
class Dataset:
    """Points with what is known of each. A batch is a ``Dataset`` too.

    ``x`` is (N, *E); ``condition`` a tensor or named tensors with N rows; ``label`` (N,) integers; ``index`` (N,) the
    position of each point in its source; ``truth`` holds known facts by name: numbers, or tensors with N rows (such as
    ``dimension``, an int for all points or a tensor (N,)).
    """

    x: Tensor
    condition: Condition | None = None
    label: Tensor | None = None
    index: Tensor | None = None
    truth: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.x.shape[0]

    @property
    def event_shape(self) -> tuple[int, ...]:
        return tuple(self.x.shape[1:])

    def take(self, index: Tensor) -> Dataset:
        """The points at these positions (n,), as a data set."""
        size = len(self)
        truth = {
            name: value[index] if isinstance(value, Tensor) and value.dim() > 0 and value.shape[0] == size else value
            for name, value in self.truth.items()
        }
        return Dataset(
            x=self.x[index],
            condition=index_condition(self.condition, index),
            label=None if self.label is None else self.label[index],
            index=index if self.index is None else self.index[index],
            truth=truth,
        )

    def tensor(self, limit: int | None = None) -> Tensor:
        """The events as one tensor (min(N, limit), *E)."""
        return self.x if limit is None else self.x[:limit]

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Dataset:
        """The same points on a device and with floating-point tensors of a dtype."""

        def move(value: Tensor) -> Tensor:
            return value.to(device=device, dtype=dtype if value.is_floating_point() else None)

        return replace(
            self,
            x=move(self.x),
            condition=map_condition(self.condition, move),
            label=None if self.label is None else self.label.to(device),
        )

    def batches(
        self, size: int, generator: torch.Generator | None = None, *, drop_last: bool = False
    ) -> Iterator[Dataset]:
        """One pass in batches of ``size``: in order, or shuffled by a generator."""
        if size < 1:
            raise DataError(f"a batch size of {size} was asked for; it must be at least 1")
        count = len(self)
        order = torch.arange(count) if generator is None else torch.randperm(count, generator=generator)
        end = count - count % size if drop_last else count
        for start in range(0, end, size):
            yield self.take(order[start : start + size])


@dataclass(frozen=True)
class StreamedDataset(Dataset):
    """Points decoded when they are asked for, for data larger than memory.

    ``x`` is an empty (0, *E) tensor that carries the event shape and dtype; ``fetch`` decodes the points at some
    positions. ``workers`` threads decode the batches ahead (image decoding releases the interpreter lock).
    """

    fetch: Callable[[Tensor], Dataset] | None = None
    size: int = 0
    workers: int = 0

    def __len__(self) -> int:
        return self.size

    def take(self, index: Tensor) -> Dataset:
        assert self.fetch is not None
        return self.fetch(index)

    def tensor(self, limit: int | None = None) -> Tensor:
        count = self.size if limit is None else min(limit, self.size)
        return self.take(torch.arange(count)).x

    def batches(
        self, size: int, generator: torch.Generator | None = None, *, drop_last: bool = False
    ) -> Iterator[Dataset]:
        if self.workers < 1:
            yield from super().batches(size, generator, drop_last=drop_last)
            return
        from collections import deque
        from concurrent.futures import Future, ThreadPoolExecutor

        order = torch.arange(self.size) if generator is None else torch.randperm(self.size, generator=generator)
        end = self.size - self.size % size if drop_last else self.size
        with ThreadPoolExecutor(self.workers) as pool:
            ahead: deque[Future[Dataset]] = deque()
            for start in range(0, end, size):
                ahead.append(pool.submit(self.take, order[start : start + size]))
                if len(ahead) > 2 * self.workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()


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
