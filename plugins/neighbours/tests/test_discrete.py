"""The estimator for counts, bits and categories: volumes of lattices, exact numbers of points, and what it refuses."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from scorefold import Host
from scorefold.errors import DataError, ScorefoldError
from scorefold.results import Estimate
from scorefold_neighbours.config import I3DConfig
from scorefold_neighbours.estimators.discrete import counts_within, dimension_of_ratio, log_share, radii


def drawn(rows: int, columns: int, values: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, values, (rows, columns), generator=generator).double()


def estimated(host: Host, x: Tensor, **config: Any) -> Estimate:
    return host.create("estimator:i3d", {"step": 1, **config}).estimate(x)


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_volumes_are_numbers_of_lattice_points(dimension: int) -> None:
    """Counted one by one: of Z^d within a sum of differences, and of letters within a number of differences."""
    points = list(itertools.product(range(-5, 6), repeat=dimension))
    balls = [sum(sum(map(abs, point)) <= radius for point in points) for radius in range(6)]
    for near, far in itertools.combinations(range(6), 2):
        assert math.exp(log_share(dimension, near, far)) == pytest.approx(balls[near] / balls[far], rel=1e-12)
    words = list(itertools.product(range(3), repeat=dimension))
    balls = [sum(sum(map(bool, word)) <= radius for word in words) for radius in range(dimension + 1)]
    for near, far in itertools.combinations(range(dimension + 1), 2):
        assert math.exp(log_share(dimension, near, far, 3)) == pytest.approx(balls[near] / balls[far], rel=1e-12)


def test_large_radii_have_the_volume_of_space() -> None:
    assert log_share(4.0, 2001, 3000) == pytest.approx(4 * math.log(2001.5 / 3000.5))
    assert log_share(4.0, 1999, 3000) == pytest.approx(4 * math.log(1999.5 / 3000.5), rel=1e-6)


def test_radii_of_twenty_have_the_volumes_of_their_lattice() -> None:
    """2 t^2 + 2 t + 1 points of the plane are within t."""
    assert math.exp(log_share(2.0, 20, 40)) == pytest.approx(841 / 3281, rel=1e-12)


@pytest.mark.parametrize(("dimension", "states"), [(2, None), (3.5, None), (40, None), (6, 2), (7.5, 5)])
def test_a_share_of_volumes_gives_its_dimension(dimension: float, states: int | None) -> None:
    near, far = 2, 5
    within = [0.0, 0.0, 100 * math.exp(log_share(dimension, near, far, states)), 0.0, 0.0, 100.0]
    config = I3DConfig(step=1, distance="city-block" if states is None else "hamming")
    assert dimension_of_ratio(config, within, near, far, states or 2) == pytest.approx(dimension, rel=1e-9)


def test_numbers_within_each_radius_by_hand() -> None:
    x = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 2.0], [4.0, 0.0]], dtype=torch.float64)
    # Sums of differences: 0, 3, 4, 3, 4, 5.
    assert counts_within(I3DConfig(step=1), x) == [0.5, 0.5, 0.5, 1.5, 2.5, 3.0]
    # Columns that differ: 0, 2, 1, 2, 1, 2.
    assert counts_within(I3DConfig(step=1, distance="hamming"), x) == [0.5, 1.5, 3.0]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"n_neighbors": 9}, (2, 4)),  # 9 are within 4 first, and at most half of them within 2
        ({"n_neighbors": 40}, (3, 5)),  # no radius has so many
        ({"far": 3}, (2, 3)),
        ({"far": 9, "near": 8}, (4, 5)),
        ({"near": 0}, (0, 5)),
    ],
)
def test_radii(config: dict[str, Any], expected: tuple[int, int]) -> None:
    assert radii(I3DConfig(step=1, **config), [1.0, 3.0, 4.0, 8.0, 9.0, 16.0]) == expected


def test_a_whole_cube_of_bits_has_its_dimension() -> None:
    """All words 200 times: each has 200 binom(d, j) at j differences, less itself, which is a share of 1 in 1,600."""
    words = torch.tensor(list(itertools.product((0.0, 1.0), repeat=7)), dtype=torch.float64)
    twice = torch.cat([words] * 200)
    within = counts_within(I3DConfig(step=1, distance="hamming"), twice)
    assert within[1] == pytest.approx(200 * 8 - 1)
    found = dimension_of_ratio(I3DConfig(step=1, distance="hamming"), within, 1, 3, 2)
    assert found == pytest.approx(7, rel=1e-3)


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_counts_have_the_dimension_of_their_lattice(host: Host, dimension: int) -> None:
    found = estimated(host, drawn(2000, dimension, 200))
    assert found.value == pytest.approx(dimension, rel=0.05)
    assert "warnings" not in found.diagnostics
    assert found.diagnostics["scale"].startswith("city-block distances of ")


def test_bits_and_categories(host: Host) -> None:
    assert estimated(host, drawn(2000, 10, 2), distance="hamming").value == pytest.approx(10, rel=0.05)
    assert estimated(host, drawn(2000, 30, 2), distance="hamming").value == pytest.approx(30, rel=0.05)
    letters = estimated(host, drawn(2000, 12, 4), distance="hamming")
    assert letters.value == pytest.approx(12, rel=0.05)
    # Names of letters say nothing, and columns without a letter add nothing.
    x = drawn(500, 8, 4)
    renamed = torch.tensor([7.0, -3.0, 100.0, 2.0], dtype=torch.float64)[x.long()]
    wider = torch.cat([renamed, torch.full((500, 3), 5.0)], 1)
    estimator = host.create("estimator:i3d", {"step": 1, "distance": "hamming"})
    assert estimator.point_estimate(wider).value == estimator.point_estimate(x).value


@pytest.mark.parametrize("values", [3, 10])
def test_columns_with_other_numbers_of_values_are_named(host: Host, values: int) -> None:
    """Most columns count, so that a single odd one changes little."""
    x = torch.cat([drawn(2000, 14, 2), drawn(2000, 1, values, seed=1)], 1)
    found = estimated(host, x, distance="hamming")
    assert found.value == pytest.approx(15, rel=0.1)
    (said,) = found.diagnostics["warnings"]
    assert said.startswith(f"columns have 2 to {values} values, and 2 are assumed")


def test_another_unit(host: Host) -> None:
    x = drawn(500, 2, 300)
    assert estimated(host, x / 4, step=0.25).value == estimated(host, x).value
    assert estimated(host, x / 4 + 0.05, step=0.25).value == estimated(host, x).value
    tenths = estimated(host, (x / 10).float(), step=0.1)
    assert tenths.value == estimated(host, x).value
    assert "warnings" not in tenths.diagnostics, "tenths have no end in binary, and are not rounded for that"
    assert estimated(host, x + 1e8).value == estimated(host, x).value, "numbers may be large, and distances small"


def test_copies_count_as_points(host: Host) -> None:
    x = drawn(1000, 1, 5)
    found = estimated(host, x)
    assert found.diagnostics["duplicates"] == 995
    assert 0.5 < found.value <= 1
    with pytest.raises(DataError, match="all 50 points are equal in steps of 1"):
        estimated(host, 0.1 * drawn(50, 3, 2))


def test_two_scales_are_named(host: Host) -> None:
    """Clusters of three dimensions, far from each other."""
    x = drawn(2000, 3, 3) + torch.cat([100 * drawn(2000, 1, 100, seed=1), torch.zeros(2000, 2)], 1)
    (said,) = estimated(host, x, near=1, far=3).diagnostics["warnings"]
    assert "between the radii 1 and 3, and " in said
    assert "between 3 and 6: " in said
    assert "no single dimension" in said


def test_a_radius_that_holds_most_points_is_no_scale(host: Host) -> None:
    """Within four steps are three quarters of a square of 25 points, so its border would be read as a dimension."""
    square = torch.cartesian_prod(torch.arange(5.0), torch.arange(5.0))
    config = I3DConfig(step=1, near=1, far=2)
    within = counts_within(config, square)
    assert within[4] > 0.7 * 24
    assert dimension_of_ratio(config, within, 2, 4, 2) + 0.5 < 0.8 * (dimension_of_ratio(config, within, 1, 2, 2) + 0.5)
    warnings = estimated(host, square, near=1, far=2).diagnostics["warnings"]
    assert not [text for text in warnings if "no single dimension" in text]


def test_rounding_to_coarse_steps_is_said(host: Host) -> None:
    x = torch.rand(500, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (said,) = estimated(host, x, step=0.1).diagnostics["warnings"]
    assert said.startswith("values are rounded to steps of 0.1, and points are read within ")
    for far, coarse in ((9, True), (10, False)):
        assert ("warnings" in estimated(host, x, step=0.02, near=5, far=far).diagnostics) == coarse
    assert "warnings" not in estimated(host, x, step=0.001).diagnostics
    assert estimated(host, x, step=0.001).value == pytest.approx(2, rel=0.1)


def test_what_is_no_lattice_is_refused(host: Host) -> None:
    with pytest.raises(DataError, match=r"up to 2e\+07 steps apart"):
        estimated(host, torch.tensor([[0.0], [2e7]] * 30))
    with pytest.raises(ScorefoldError, match="near is 5 and far 5"):
        host.create("estimator:i3d", {"step": 1, "near": 5, "far": 5})
    with pytest.raises(ScorefoldError, match="step"):
        host.create("estimator:i3d")
    (said,) = estimated(host, drawn(500, 6, 2)).diagnostics["warnings"]
    assert "distance: hamming counts bits" in said


def test_other_estimators_name_it_for_counts(host: Host) -> None:
    """Half of the neighbours of counts are at one distance, and TwoNN reads 0."""
    counts = host.create("estimator:twonn").estimate(drawn(2000, 1, 60))
    assert any("estimator:i3d reads such points" in text for text in counts.diagnostics["warnings"])
    smooth = torch.rand(300, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert "warnings" not in host.create("estimator:twonn").estimate(smooth).diagnostics
