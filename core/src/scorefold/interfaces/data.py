"""Data sources: points in disjoint splits, and their summary."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from scorefold.data import ConditionSpec, Dataset, DataSpec, EventScale, spec_of_conditions
from scorefold.errors import DataError, SplitError
from scorefold.interfaces.model import Shown
from scorefold.summary import LOOKED_AT, MOST_COLUMNS, DataSummary, describe_column, describe_event


def summarise(parts: Iterable[Dataset], scale: EventScale, event_shape: tuple[int, ...]) -> DataSummary:
    """The summary of a source's splits, in the units they were read in. Of large data the first points of each split
    are looked at.
    """
    splits = list(parts)
    rows = sum(map(len, splits))
    most = max(1, LOOKED_AT // max(1, math.prod(event_shape)) // max(1, len(splits)))
    x = torch.cat([split.tensor(most).detach().cpu() for split in splits]) if splits else torch.zeros(0, *event_shape)
    raw = scale.to_raw(x).double()
    if len(event_shape) == 1 and event_shape[0] <= MOST_COLUMNS:
        columns = tuple(describe_column(f"x{i}", raw[:, i]) for i in range(raw.shape[1]))
    else:
        columns = (describe_event(raw),)
    return DataSummary(rows, event_shape, columns)


SPLITS = ("train", "validation", "test")


class DataSource(Shown, ABC):
    """A source of points.

    Must: ``load``, and set ``event_shape`` and ``event_scale`` when constructed. May: ``condition_spec``,
    ``label_names``, ``rows``, ``fingerprint``, ``data_warnings``, ``summary``, ``inspect``. Given: ``spec``.

    >>> class Line(DataSource):
    ...     event_shape, event_scale = (1,), EventScale()
    ...     def load(self, split):
    ...         return Dataset(torch.linspace(0, 1, 5)[:, None])
    >>> Line().summary().rows, TensorSource(torch.ones(4, 2)).load("test")
    (15, Dataset(4 of shape (2,), index))
    """

    event_shape: tuple[int, ...]
    event_scale: EventScale
    condition_spec: ConditionSpec | None = None
    label_names: Sequence[str] | None = None
    """Names of the labels 0, 1, ..., if they have names."""
    rows: Sequence[object] | None = None
    """Names of the rows that ``Dataset.index`` counts, those left out too: numbers, or paths of images."""

    @abstractmethod
    def load(self, split: str) -> Dataset:
        """The points of a split (train, validation or test). Splits are disjoint and the same at every call.

        Raises ``SplitError`` for a split that the source does not have or that is empty: a verb may do without it. Any
        other ``DataError`` ends a run.
        """

    def fingerprint(self) -> str | None:
        """A digest of the files that are read, or None for a source that its configuration determines."""
        return None

    def data_warnings(self) -> tuple[str, ...]:
        """Problems of the data, each with the line that fixes it, the most serious first."""
        return ()

    def summary(self) -> DataSummary:
        """Summary of the data, in the units of the files."""
        parts = []
        for split in SPLITS:
            with suppress(SplitError):
                parts.append(self.load(split))
        return replace(summarise(parts, self.event_scale, self.event_shape), warnings=self.data_warnings())

    @classmethod
    def inspect(cls, config: Any) -> DataSummary:
        """Summary of the files of a config; a source may accept files here that it refuses to load."""
        return cls(config).summary()  # type: ignore[call-arg]

    def spec(self) -> DataSpec:
        """The shape and scale of events and conditions, which is all that a saved model keeps of its data."""
        return DataSpec(self.event_shape, self.event_scale, self.condition_spec)


class TensorSource(DataSource):
    """Tensors in memory as a source: the samples of a stage, or data from a Python session.

    ``splits`` maps a split to a data set; a tensor alone is the test split. ``condition_spec`` is read from their
    conditions (``scorefold.data.spec_of_conditions``): give it where classes are missing here. ``warnings`` are about
    the data, ``rows`` the names of their rows. Raises ``DataError`` for no split, or conditions of some only.
    """

    def __init__(
        self,
        splits: Tensor | Mapping[str, Dataset],
        event_scale: EventScale | None = None,
        condition_spec: ConditionSpec | None = None,
        *,
        warnings: Sequence[str] = (),
        rows: Sequence[object] | None = None,
    ) -> None:
        if isinstance(splits, Tensor):
            splits = {"test": Dataset(x=splits, index=torch.arange(splits.shape[0]))}
        if not splits:
            raise DataError("a source needs at least one split")
        self._splits = dict(splits)
        first = next(iter(self._splits.values()))
        self.event_shape = first.event_shape
        self.event_scale = event_scale or EventScale.of(first.x)
        self._warnings, self.rows = tuple(warnings), rows
        given = condition_spec or self.condition_spec
        self.condition_spec = given or spec_of_conditions([each.condition for each in self._splits.values()])

    def load(self, split: str) -> Dataset:
        if split not in self._splits:
            raise SplitError(f"there is no {split!r} split here; there is {', '.join(self._splits)}")
        return self._splits[split]

    def data_warnings(self) -> tuple[str, ...]:
        return self._warnings
