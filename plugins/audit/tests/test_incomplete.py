"""Samples with missing values: they are counted, and compared in the columns that they have."""

from __future__ import annotations

import torch

from scorefold.data import EventScale
from scorefold_audit.copying.incomplete import equal_rows, incomplete_warning


class Incomplete:
    def __init__(self, rows: torch.Tensor) -> None:
        self.rows = rows

    def incomplete_rows(self) -> torch.Tensor:
        return self.rows


def test_rows_are_compared_in_the_columns_that_they_have() -> None:
    points = torch.arange(12.0, dtype=torch.float64).reshape(3, 4) ** 2 + 0.1
    rows = points.clone()
    rows[0, 1] = rows[1, :2] = rows[2, 1:] = torch.nan  # the last has one column, which is not enough
    assert equal_rows(rows, points) == 2
    assert equal_rows(rows, points.float().double()) == 2
    rows[0, 2] += 1e-3
    assert equal_rows(rows, points) == 1
    assert equal_rows(rows, points[:0]) == 0


def test_the_units_of_the_training_points_are_those_of_the_file() -> None:
    scale = EventScale(shift=(5.0, -3.0, 0.0), factor=(10.0, 0.1, 1.0))
    raw = torch.randn(40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    points = scale.from_raw(raw).float()
    rows = raw[:7].clone()
    rows[:, 2] = torch.nan
    said = incomplete_warning(Incomplete(rows), points[:20], points[20:], scale)
    assert said.startswith("7 samples have missing values and are left out of the shares")
    assert said.endswith("7 equal a training point, and 0 a held-out one")
    assert incomplete_warning(Incomplete(rows[:0]), points, points, scale) == ""
    assert incomplete_warning(object(), points, points, scale) == ""
