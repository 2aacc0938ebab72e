"""The correlation time of a series, and a test for neighbours in space that are neighbours in time."""

from __future__ import annotations

import math
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scorefold.data import Dataset

MOST_CLOSE = 0.05
"""Share of the nearest neighbours that are close in time, beyond chance, up to which a dimension is read."""

FOLLOWING = 0.1
"""Share of the ten nearest neighbours of a row that are the rows before and after it, beyond chance, from which on rows
are said to follow each other. It is 0.2 where all of them are."""

FEWEST_EVENTS = 50
"""Events below which no stride is recommended: as few as ``recommend`` takes."""

_NEIGHBOURS, _QUERIES, _ROWS, _NUMBERS = 10, 200, 2**17, 2**24


@runtime_checkable
class HasTime(Protocol):
    """A data source of events whose ``index`` is a time; ``correlation`` is the number of rows over which the series is
    correlated, its Theiler window."""

    @property
    def correlation(self) -> int: ...


def correlation_time(values: npt.NDArray[np.float64]) -> int:
    """Rows after which the autocorrelation of a series (T, C), a mean over its columns, first falls below 1/e; at least
    1, and at most T - 1.

    >>> correlation_time(np.sin(2 * np.pi * np.arange(1000) / 100)[:, None])  # cos(2 pi lag / 100) < 1/e from 18.99
    20
    """
    centred = values - values.mean(0)
    size = 2 ** math.ceil(math.log2(2 * len(values)))  # padded, so that the ends do not meet
    power = np.abs(np.fft.rfft(centred, size, axis=0)) ** 2
    products = np.fft.irfft(power, size, axis=0)[: len(values)]
    correlation = (products / products[0]).mean(1)
    below = np.flatnonzero(correlation < 1 / math.e)
    return int(below[0]) if len(below) else max(1, len(values) - 1)


def time_share(x: Tensor, index: Tensor, rows: int) -> tuple[float, float]:
    """The share of the ten nearest neighbours of events (n, *E) that start fewer than ``rows`` rows from them, by the
    first rows ``index`` (n,), and that share among all events. Both are measured at 200 events, and 0 for too few.

    >>> line = torch.arange(101.0)[:, None]
    >>> near, all_ = time_share(line, torch.arange(101), 11)
    >>> near, round(all_, 2)
    (1.0, 0.19)
    """
    most = max(_NEIGHBOURS + 2, _NUMBERS // max(1, x[:1].numel()))
    flat, index = x[:most].detach().cpu().flatten(1).double(), index[:most].cpu()
    if len(flat) < _NEIGHBOURS + 2:
        return 0.0, 0.0
    chosen = torch.linspace(0, len(flat) - 1, min(_QUERIES, len(flat))).round().long()
    near, everywhere = [], []
    for part in chosen.split(max(1, _NUMBERS // len(flat))):
        distances = torch.cdist(flat[part], flat)
        distances[torch.arange(len(part)), part] = torch.inf
        places = distances.topk(_NEIGHBOURS, largest=False).indices
        close = (index - index[part][:, None]).abs() < rows
        near.append(close.gather(1, places))
        everywhere.append((close.sum(1) - 1) / (len(flat) - 1))
    return float(torch.cat(near).double().mean()), float(torch.cat(everywhere).mean())


def close_in_time(events: Dataset, rows: int) -> str:
    """A sentence on events whose neighbours in space are neighbours in time, a twentieth more of them than by chance;
    or nothing.

    Theiler (1986) left such pairs out of the correlation dimension.
    """
    if events.index is None:
        return ""
    share = _beyond_chance(events, rows)
    if share is None:
        return ""
    found = _separating_stride(events, rows)
    fix = f"stride: {found} in the data's config keeps them apart" if found else "it is too short for any stride"
    return (
        f"{share:.0%} of the nearest neighbours start fewer than {rows} rows apart, where the series is still "
        f"correlated: {fix}"
    )


def _beyond_chance(events: Dataset, rows: int) -> float | None:
    """The share of ``time_share`` where it exceeds chance by a twentieth, else None."""
    assert events.index is not None
    share, chance = time_share(events.tensor(limit=_ROWS), events.index[:_ROWS], rows)
    return None if share <= chance + MOST_CLOSE else share


def _separating_stride(events: Dataset, rows: int) -> int | None:
    """A stride that keeps neighbours apart and leaves enough events: ``rows``, or else the largest that leaves enough,
    if it does; None where no stride does both."""
    assert events.index is not None
    index = events.index.cpu()
    if int(index[-1] - index[0]) // rows + 1 >= FEWEST_EVENTS:
        return rows
    every = (len(events) - 1) // (FEWEST_EVENTS - 1)
    if every < 2 or _beyond_chance(events.take(torch.arange(0, len(events), every)), rows) is not None:
        return None
    return every * int(index.diff().min())


def following_rows(events: Dataset) -> str:
    """A sentence on events that are like the ones before and after them in the file, as in a time series; or nothing.

    >>> walk = torch.randn(1000, 4, generator=torch.Generator().manual_seed(0)).cumsum(0)
    >>> following_rows(Dataset(walk, index=torch.arange(1000)))[:59]
    '96% of the rows before and after a row are among its ten ne'
    """
    if events.index is None:
        return ""
    most = min(_ROWS, max(_NEIGHBOURS + 2, _NUMBERS // max(1, math.prod(events.event_shape))))
    order = events.index[:most].cpu().argsort()
    share, chance = time_share(events.tensor(limit=most)[order], torch.arange(len(order)), 2)
    if share <= chance + FOLLOWING:
        return ""
    return (
        f"{_NEIGHBOURS / 2 * share:.0%} of the rows before and after a row are among its ten nearest neighbours. "
        "A sorted table may have such rows. In a time series the dimension is then of its curve: read it by "
        "data:series. Of repeated measurements keep one row each"
    )
