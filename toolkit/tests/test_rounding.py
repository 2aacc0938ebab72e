"""Points whose distances are lost in rounding are warned of, and no others."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from scorefold_toolkit.data.splits import rounding_warning

X = torch.rand(500, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LEVELS = (256 * X).round()
COPIES = torch.tensor([[0.1], [0.7]]).repeat(50, 2)


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (X, None),
        (X.float(), None),
        (X + 1e7, None),
        ((X + 10).float(), None),
        ((X + 1e7).float(), "reach 1e+07, where float32 numbers lie 1 apart"),
        ((X + 1e7).float().double(), "where float32 numbers lie 1 apart"),
        (X + 1e15, "reach 1e+15, where float64 numbers lie 0.12 apart"),
        # Whole numbers are exact in float32 up to 2^23, and only up to there.
        (LEVELS + 1e6, None),
        ((LEVELS + 2.0**23 - 300).float(), None),
        ((LEVELS + 2.0**27).float(), "where float32 numbers lie 16 apart"),
        # Copies, exact or up to rounding, have no distance to lose, nor have two points a neighbourhood.
        (COPIES, None),
        (torch.full((9, 2), 1e6), None),
        (torch.cat([X, X + 2e-16]), None),
        ((X[:2] + 1e7).float(), None),
        ((X + 1e7).long(), None),
        # All differ in the first coordinate by less than four steps of the second; or none does.
        (torch.stack([X[:, 0], X[:, 0] + 2.0**20], 1).float(), "lie 0.12 apart"),
        (torch.stack([torch.arange(500.0), X[:, 0] + 2.0**20], 1), None),
        # Three of five points have near ones; or all are rounded to one.
        (torch.cat([X[:300], 1000 * torch.arange(200.0)[:, None].expand(200, 4)]).add(2.0**20).float(), "0.12 apart"),
        (torch.full((9, 2), 1e8), "neighbouring points are 0 apart"),
        (X.float().where(X > 0.01, torch.nan) + 1e7, None),
        ((X + 1e7).float().reshape(-1, 1, 2, 2), "where float32 numbers lie 1 apart"),
    ],
)
def test_points_are_warned_of_where_rounding_hides_their_neighbours(x: Tensor, said: str | None) -> None:
    found = rounding_warning(x)
    assert found is None if said is None else found is not None and said in found


@pytest.mark.parametrize(("step", "said"), [(4.0, False), (3.0, True)])
def test_neighbours_are_lost_from_four_steps_on(step: float, said: bool) -> None:
    """Numbers from 2^17 to 2^18 lie 2^-6 apart in float32."""
    x = (torch.arange(200.0, dtype=torch.float64)[:, None] * step / 64 + 2.0**17 + 1 / 64).float()
    assert (rounding_warning(x) is not None) == said


def test_a_few_far_rows_that_alone_cause_the_rounding_are_named() -> None:
    x = X.clone()
    x[[3, 77, 30]] = 1e6
    found = rounding_warning(x.float())
    assert found is not None
    assert found.startswith(
        "rows 3, 30, 77 (rows count from 0) lie more than 100 quartile ranges out. They reach 1e+06"
    )
    assert found.endswith("so remove them from the data, and any copies")
    named = rounding_warning(x.float(), [f"'p{row}'" for row in range(len(x))])
    assert str(named).startswith("rows 'p3', 'p30', 'p77' lie")
    assert str(rounding_warning((x + 1e7).float())).startswith("the coordinates reach")
