"""Distances that are not Euclid's, and the neighbours by them, against all pairs computed one by one."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from scorefold.errors import DataError
from scorefold_toolkit.distances import ExactSearch, PointMetric
from scorefold_toolkit.nearest import Cloud, nearest_neighbours


def table(rows: int, columns: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def angle(a: Tensor, b: Tensor) -> float:
    return math.acos(max(-1.0, min(1.0, float(a @ b / a.norm() / b.norm()))))


def around(a: Tensor, b: Tensor, periods: tuple[float, ...]) -> float:
    """The shortest way among all copies of a coordinate."""
    total = 0.0
    for x, y, period in zip(a.tolist(), b.tolist(), periods, strict=True):
        total += min((x - y + turns * period) ** 2 for turns in (range(-9, 10) if period else (0,)))
    return math.sqrt(total)


def by_hand(x: Tensor, metric: PointMetric) -> Tensor:
    if metric.name == "angle":
        return torch.tensor([[angle(a, b) for b in x] for a in x], dtype=torch.float64)
    return torch.tensor([[around(a, b, metric.periods) for b in x] for a in x], dtype=torch.float64)


CASES = {
    "angle": (PointMetric("angle"), 4),
    "angle, all pairs": (PointMetric("angle"), 30),
    "periodic": (PointMetric("periodic", (1.5, 0.0, 2.0)), 3),
    "periodic, all pairs": (PointMetric("periodic", (1.5,) * 10 + (0.0,) * 10), 20),
}


@pytest.mark.parametrize("case", CASES)
def test_neighbours_are_those_of_all_pairs(case: str) -> None:
    metric, columns = CASES[case]
    x = table(60, columns)
    expected = by_hand(x, metric)
    points = metric.points(x)
    every = torch.arange(60)
    torch.testing.assert_close(metric.apart(points, every), expected, rtol=1e-9, atol=1e-7)
    apart = expected.clone().fill_diagonal_(math.inf)
    distances, places = nearest_neighbours(points, 5, metric=metric)
    torch.testing.assert_close(distances, apart.topk(5, largest=False).values, rtol=1e-9, atol=1e-9)
    assert torch.equal(places, apart.topk(5, largest=False).indices)
    # Given as a matrix, they have the same neighbours.
    given = nearest_neighbours(expected, 5, metric=PointMetric("precomputed"))
    assert torch.equal(given[1], places)


@pytest.mark.parametrize("name", [*CASES, "precomputed"])
def test_a_part_has_the_neighbours_of_its_own_points(name: str) -> None:
    metric, columns = CASES.get(name, (PointMetric("precomputed"), 3))
    x = table(80, columns)
    points = torch.cdist(x, x) if name == "precomputed" else metric.points(x)
    rows = torch.arange(0, 80, 3)
    cloud = Cloud(points, metric=metric)
    cloud.neighbours(8)
    part = cloud.part(rows)
    fresh = nearest_neighbours(metric.part(points, rows), 6, metric=metric)
    torch.testing.assert_close(part.neighbours(6)[0], fresh[0])
    assert torch.equal(part.neighbours(6)[1], fresh[1])
    torch.testing.assert_close(part.apart(torch.arange(2)), cloud.apart(rows[:2], rows))


def test_a_value_at_its_period_is_one_at_zero() -> None:
    metric = PointMetric("periodic", (1.0,))
    points = metric.points(torch.tensor([[0.0], [1.0], [-1e-18], [0.25], [-3.25]], dtype=torch.float64))
    assert points.flatten().tolist() == pytest.approx([0, 0, 0, 0.25, 0.75])
    distances, _ = nearest_neighbours(points, 4, metric=metric)
    assert distances[3].tolist() == pytest.approx([0.25, 0.25, 0.25, 0.5])


def test_a_small_matrix_of_distances_holds_distances() -> None:
    """Its 6 columns are no coordinates, as they would be for a tree."""
    line = torch.arange(6.0, dtype=torch.float64)[:, None] ** 2
    apart = torch.cdist(line, line)
    found = ExactSearch(apart, PointMetric("precomputed")).nearest(apart, 2)
    assert found[0].tolist() == [[0, 1], [0, 1], [0, 3], [0, 5], [0, 7], [0, 9]]
    assert found[1].tolist() == [[0, 1], [1, 0], [2, 1], [3, 2], [4, 3], [5, 4]]


def test_copies_in_one_direction_differ_by_rounding_alone() -> None:
    """Points and three times these are copies by angle, and their neighbours are none."""
    x = torch.randn(300, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    angle = PointMetric("angle")
    one, three = angle.points(x), angle.points(3 * x)
    assert not torch.equal(one, three)
    assert torch.equal(angle.keys(one), angle.keys(three))
    assert len(angle.keys(torch.cat([one, three])).unique(dim=0)) == 300


def test_what_has_no_distance_is_refused() -> None:
    with pytest.raises(DataError, match="1 of the points are 0 in all coordinates"):
        PointMetric("angle").points(torch.tensor([[1.0, 2.0], [0.0, 0.0]]))
    with pytest.raises(DataError, match="2 periods for 3 coordinates"):
        PointMetric("periodic", (1.0, 2.0)).points(torch.zeros(2, 3))
