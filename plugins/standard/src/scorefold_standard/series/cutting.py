"""A series cut into events: windows, delay vectors or rows, in blocks of time that share no row."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scorefold.data import Dataset, EventScale
from scorefold.errors import ConfigError, DataError
from scorefold.interfaces import DataSource
from scorefold.interfaces.data import SPLITS
from scorefold.summary import without
from scorefold_standard.config import CutConfig
from scorefold_toolkit.data.series import close_in_time, correlation_time
from scorefold_toolkit.data.splits import measured_split, pick, plain_scale

Array = npt.NDArray[np.float64]

_EVEN, _MOSTLY = 0.1, 0.9  # of the median time step, and the share of such steps in a column of times with gaps
_MEASURED = 2**22  # numbers that the scale is measured on
_DRIFT, _SPREADS = 1.0, 2.0  # deviations of the mean, and ratio of deviations, from which a change is reported


@dataclass(frozen=True, eq=False)
class Series:
    """Values (T, C) in float64 with the ``names`` of their columns.

    ``whole`` (T,) says which rows can be used, ``joined`` (T - 1,) which rows are followed by the next time step.
    ``what`` is the series in errors, and ``fix`` the fix for a column without a signal, if it can't be left out. A
    column whose deviation is at most ``rounding`` of its largest number is constant.
    """

    values: Array
    names: tuple[str, ...]
    what: str
    whole: npt.NDArray[np.bool_]
    joined: npt.NDArray[np.bool_]
    fix: str | None = None
    rounding: float = 1e-9


class CutSeries(DataSource):
    """Events of a series: windows (C, window), delay vectors (C x dimension,), or rows (C,).

    An event starts every ``stride`` rows, and ``index`` is its first row. Of two columns, a delay vector first has all
    numbers of the first column, then of the second. The splits are blocks in time, in order, and no event crosses their
    ends: events of two splits share no row. Events with a missing row are left out. ``correlation`` is the number of
    rows after which the autocorrelation is below 1/e. Raises ``ConfigError`` where a block is shorter than an event,
    and ``DataError`` for a column that is constant or counts the rows.
    """

    def __init__(self, config: CutConfig, series: Series) -> None:
        self._config, self._series = config, series
        values = series.values
        blocks = _blocks(len(values), config.fractions)
        measured = values[slice(*blocks[0])] if blocks[0][1] > blocks[0][0] else values
        measured = measured[np.isfinite(measured).all(1)]
        if len(measured) < 2:
            raise DataError(f"{series.what} has {len(measured)} usable rows to measure; expected at least 2")
        self._clocks = _refuse_columns(series, measured)
        self.correlation = correlation_time(measured)
        self.delay = 1
        if config.dimension is not None:
            self.delay = config.delay or self.correlation
        self.span = config.window or ((config.dimension or 1) - 1) * self.delay + 1
        columns = values.shape[1]
        self.event_shape = (columns, config.window) if config.window else (columns * (config.dimension or 1),)
        shift, factor = np.zeros(columns), np.ones(columns)
        if config.scale == "columns":
            shift, factor = measured.mean(0), measured.std(0)
        scaled = torch.from_numpy(((values - shift) / factor).astype(np.float32))
        self._splits = {
            name: self._events(scaled, block, name, share)
            for name, block, share in zip(SPLITS, blocks, config.fractions, strict=True)
        }
        self.event_scale = _scale(measured_split(self._splits).x, shift, factor)

    def _events(self, values: Tensor, block: tuple[int, int], name: str, share: float) -> Dataset:
        """The events in a block of rows; none where the split has no share."""
        config, (start, end) = self._config, block
        if share and end - start < self.span:
            taken = f"a window of {self.span}" if config.window else f"a delay vector over {self.span}"
            shorter = "a smaller window" if config.window else "a smaller dimension or delay"
            raise ConfigError(
                f"{self._series.what} has {len(values)} rows, and {name} gets {end - start} of them: less than {taken} "
                "rows",
                hint=f"take {shorter}, a longer series, or a larger share for {name} in fractions",
            )
        if not share:
            return Dataset(x=values.new_empty(0, *self.event_shape), index=torch.arange(0))
        x, first = self._cut(values[start:end]), torch.arange(start, end - self.span + 1, config.stride)
        whole = torch.from_numpy(self._series.whole[start:end]).unfold(0, self.span, config.stride)
        kept = whole[:, :: self.delay].all(1)
        if self.span > 1:
            joined = torch.from_numpy(self._series.joined[start : end - 1]).unfold(0, self.span - 1, config.stride)
            kept &= joined.all(1)
        if not bool(kept.any()):
            raise DataError(
                f"every event of {name} in {self._series.what} has a missing row",
                hint="fill in missing values, or take shorter events",
            )
        # Without gaps the events stay views of the series, which share its memory.
        return Dataset(x=x, index=first) if bool(kept.all()) else Dataset(x=x[kept], index=first[kept])

    def _cut(self, values: Tensor) -> Tensor:
        """The events of rows (T, C) that are at least one event long."""
        events = values.unfold(0, self.span, self._config.stride)[..., :: self.delay]
        return events if self._config.window else events.flatten(1)

    def load(self, split: str) -> Dataset:
        return pick(self._splits, split)

    def data_warnings(self) -> tuple[str, ...]:
        return self._found_warnings

    @cached_property
    def _found_warnings(self) -> tuple[str, ...]:
        return (*self._clocks, *self._left_out(), *self._close(), *self._drift())

    def _left_out(self) -> list[str]:
        steps = -(-(len(self._series.values) - self.span + 1) // self._config.stride)
        gaps = len(self._series.whole) - int(self._series.whole.sum()) + int((~self._series.joined).sum())
        kept = sum(map(len, self._splits.values()))
        return [f"{gaps:,} missing rows or steps: {kept:,} of about {steps:,} events are left"] if gaps else []

    def _close(self) -> list[str]:
        near = close_in_time(measured_split(self._splits), self.correlation)
        return [f"{near}. A dimension from neighbours then measures the curve"] if near else []

    def _drift(self) -> list[str]:
        """A warning where a held-out block is unlike the training block."""
        train, found = self._splits["train"].x, []
        if len(train) < 2:
            return []
        axes = (0, 2) if train.dim() == 3 else (0,)
        mean, std = train.mean(axes), train.std(axes).clamp_min(1e-12)
        for name in SPLITS[1:]:
            x = self._splits[name].x
            if len(x) < 2:
                continue
            moved = float(((x.mean(axes) - mean).abs() / std).max())
            ratio = float((x.std(axes) / std).log().abs().max().exp())
            if moved > _DRIFT or ratio > _SPREADS:
                found.append(
                    f"the {name} block differs from the training block: its mean by {moved:.2g} deviations, its "
                    f"deviation {ratio:.2g}-fold. The series changes over time: take a stationary part of it"
                )
        return found


def _blocks(rows: int, fractions: tuple[float, float, float]) -> list[tuple[int, int]]:
    """The rows [first, last) of each split."""
    ends = [round(rows * min(1.0, share)) for share in itertools.accumulate(fractions, initial=0.0)]
    return list(itertools.pairwise(ends))


def even_steps(steps: Array) -> npt.NDArray[np.bool_]:
    """The mask of rising time steps (T,) that differ by a tenth of their median at most."""
    usual = np.median(steps) if len(steps) else 0.0
    even: npt.NDArray[np.bool_] = np.abs(steps - usual) <= _EVEN * usual
    return even


def _refuse_columns(series: Series, measured: Array) -> list[str]:
    """Refuses constant columns and numbers of rows. Returns a warning for each column that rises like times with gaps,
    which may be a signal."""
    clocks: list[str] = []
    for name, column in zip(series.names, measured.T, strict=True):
        steps, quoted = np.diff(column), name if name.isidentifier() else json.dumps(name)
        if column.std() <= series.rounding * np.abs(column).max():
            rounded = ", up to rounding" if steps.any() else ""
            raise DataError(
                f"column {name!r} of {series.what} is {column[0]:g} in every training row{rounded}; expected a signal "
                "that changes",
                hint=series.fix or f"leave it out with columns: {without([name])}",
            )
        fix = f"time: {quoted} names the rows by it; columns: {without([name])} leaves it out"
        if len(steps) > 2 and np.ptp(steps) <= 1e-6 * abs(steps[0]):
            raise DataError(
                f"column {name!r} of {series.what} rises by {steps[0]:g} in every row, as numbers of rows or times do",
                hint=series.fix or fix,
            )
        if len(steps) > 2 and bool((steps > 0).all()) and even_steps(steps).mean() >= _MOSTLY:
            usual = float(np.median(steps))
            clocks.append(f"column {name!r} rises by {usual:g} in nearly every row, as times with gaps do: {fix}")
    return clocks


def _scale(events: Tensor, shift: Array, factor: Array) -> EventScale:
    """The scale of events (n, C, L) or (n, C x L) in units of each column."""
    each = events[:1].numel() // len(shift)
    few = events[:: max(1, events.numel() // _MEASURED)]  # windows that overlap have few numbers of their own

    def repeated(values: Array) -> float | tuple[float, ...]:
        return float(values[0]) if len(set(values.tolist())) == 1 else tuple(np.repeat(values, each).tolist())

    return replace(plain_scale(few), shift=repeated(shift), factor=repeated(factor))
