"""Properties of the data without a score: distances of neighbours, copies, grids, constant features."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold_iddiff.pointwise.probe import refuse_not_finite

_COORDINATES = 2**22
"""Coordinates of the data looked at, a random part of larger data."""

_GRID_ROWS, _GRID_COLUMNS, _GRID_VALUES = 2000, 64, 1024
_ENOUGH_VALUES = 20
"""Distinct values that don't lie whole multiples of a step apart by chance."""


@dataclass(frozen=True)
class DataSurvey:
    """``rows`` of the data were looked at.

    ``nearest`` is the median distance from the points under study to their nearest other one among these rows, which
    overstates it where the rows are a part of the data; ``copies`` the share of rows that repeat an earlier one;
    ``constant`` the number of coordinates that never change, and ``step`` the greatest step of the data's precision at
    their values, where that is float32 or coarser: smaller changes were rounded away; ``spacing`` the step of the grid
    on which most coordinates lie, 0 where they don't.
    """

    rows: int
    nearest: float
    copies: float
    constant: int
    spacing: float
    step: float = 0.0


def survey_data(dataset: Dataset, x: Tensor, index: Tensor, generator: torch.Generator) -> DataSurvey:
    """A survey of the data set, and of points x (M, *E) which have the places ``index`` (M,) in it.

    Raises ``DataError`` for rows that aren't finite.
    """
    rows, places = looked_at(dataset, generator)
    return survey_rows(rows, places, x, index, generator, precision=dataset.x.dtype)


def survey_rows(
    rows: Tensor, places: Tensor, x: Tensor, index: Tensor, generator: torch.Generator, *, precision: torch.dtype
) -> DataSurvey:
    """A survey of ``rows`` (R, D) at ``places`` (R,) of a data set, as ``looked_at`` gives them, and of points x (M,
    *E) which have the places ``index`` (M,) in it."""
    constant = rows.amax(0) == rows.amin(0)
    return DataSurvey(
        rows=len(rows),
        nearest=_nearest(x.flatten(1).double().cpu(), index, rows, places),
        copies=_copies(rows, generator),
        constant=int(constant.sum()),
        spacing=_spacing(rows[:, ~constant]),
        step=_step_of(rows[0, constant], precision),
    )


def _step_of(values: Tensor, precision: torch.dtype) -> float:
    """The greatest distance of neighbouring numbers of a precision at these values; 0 in float64, where it does not
    matter, and for no values."""
    if not precision.is_floating_point or torch.finfo(precision).bits > 32 or not len(values):
        return 0.0
    return torch.finfo(precision).eps * float(values.abs().max())


def looked_at(dataset: Dataset, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The rows (R, D) of a data set that a survey looks at, in float64 on the CPU, and their places (R,): all, or a
    random part of many. Raises ``DataError`` for rows that aren't finite."""
    limit = max(2, _COORDINATES // math.prod(dataset.event_shape))
    chosen = torch.arange(len(dataset))
    if len(dataset) > limit:
        chosen = torch.randperm(len(dataset), generator=generator, device=generator.device).cpu()[:limit]
    taken = dataset.take(chosen)
    rows = taken.x.flatten(1).double().cpu()
    refuse_not_finite(rows, chosen if taken.index is None else taken.index)
    return rows, chosen


def _nearest(x: Tensor, index: Tensor, rows: Tensor, places: Tensor) -> float:
    distances = torch.cdist(x, rows, compute_mode="donot_use_mm_for_euclid_dist")
    other = (places[None] != index[:, None]) & (distances > 0)
    least = distances.masked_fill(~other, torch.inf).amin(1)
    known = least[least.isfinite()]
    return float(known.median()) if len(known) else 0.0


def _copies(rows: Tensor, generator: torch.Generator) -> float:
    """The share of rows that are copies, by a random projection: equal rows have equal ones, others almost surely
    not."""
    weights = torch.randn(rows.shape[1], generator=generator, device=generator.device, dtype=rows.dtype).cpu()
    return 1 - len((rows * weights).sum(1).unique()) / len(rows)


def _spacing(rows: Tensor) -> float:
    """The median step of the coordinates' grids, where at least half of some coordinates lie on one; else 0."""
    every = max(1, rows.shape[1] // _GRID_COLUMNS)
    columns = rows[:_GRID_ROWS, ::every].T
    steps = [step for step in map(_step, columns) if step > 0]
    if not steps or 2 * len(steps) < len(columns):
        return 0.0
    return float(torch.tensor(steps).median())


def _step(values: Tensor) -> float:
    """The step of the grid on which values lie: whole multiples apart, and if there are few of them often repeated;
    else 0."""
    distinct = values.unique()
    if not 2 <= len(distinct) <= _GRID_VALUES or len(values) // 4 < len(distinct) < _ENOUGH_VALUES:
        return 0.0
    gaps = distinct.diff()
    step = float(gaps.min())
    multiples = gaps / step
    return step if float((multiples - multiples.round()).abs().max()) < 0.01 else 0.0
