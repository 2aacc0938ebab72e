"""Plateaus of hand-made curves, and the noise level found on exact scores."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from scorefold.config import VEConfig
from scorefold.interfaces import ScoreModel
from scorefold.results import Estimate
from scorefold_iddiff.config import NormalBundleConfig
from scorefold_iddiff.normal_bundle.estimator import NormalBundle
from scorefold_iddiff.pointwise.plateaus import (
    DimensionPlateau,
    choose_level,
    decades,
    memorised_levels,
    mixture_of,
    plateaus_of,
    pooled,
    search_levels,
)
from scorefold_toolkit.distributions import Mixture, Points, SphereDistribution, SubspaceGaussian

MakeScore = Callable[..., ScoreModel]
MakeSphere = Callable[..., tuple[SphereDistribution, Tensor]]


@pytest.mark.parametrize(
    ("curve", "plateaus"),
    [
        ([5, 5, 5, 5, 2, 1], [(5, 0, 3)]),
        ([9, 5, 5, 5, 2, 2, 2, 2], [(2, 4, 7), (5, 1, 3)]),
        ([5, 5, 4, 4, 3, 3], []),
        ([30, 30, 31, 30, 12, 0], [(30, 0, 3)]),
        ([5, 5, 5, 0, 0, 0, 0], [(5, 0, 2)]),
        ([5, 0, 0, 0, 0], []),
        ([0, 0, 0, 0], [(0, 0, 3)]),
        ([152, 150, 149, 148, 80], [(152, 0, 3)]),
        ([30, 32, 30, 32], []),
        ([19, 20, 19, 20], []),
    ],
)
def test_plateaus_are_level_stretches(curve: list[int], plateaus: list[tuple[int, int, int]]) -> None:
    assert plateaus_of(curve, [True] * len(curve)) == [DimensionPlateau(*plateau) for plateau in plateaus]


def test_levels_that_are_not_usable_break_plateaus() -> None:
    assert plateaus_of([5] * 7, [True] * 3 + [False] + [True] * 3) == [
        DimensionPlateau(5, 0, 2),
        DimensionPlateau(5, 4, 6),
    ]


def test_memorised_levels_are_those_that_fall_below_the_distance_of_neighbours() -> None:
    levels = [0.01, 0.1, 1.0, 10.0, 100.0]
    dimensions = torch.tensor([[0.0], [3.0], [10.0], [10.0], [4.0]])
    hits, reasons = memorised_levels(levels, dimensions, nearest=1.0)
    assert hits == [True, True, False, False, False]
    assert len(reasons) == 1
    assert "at sigma 0.1 and below" in reasons[0]
    assert memorised_levels(levels, dimensions, nearest=0.15)[0] == [True] + [False] * 4, "under half of it only"
    little = torch.tensor([[48.0], [50.0]])
    assert memorised_levels([0.1, 1.0], little, 1.0) == ([False, False], []), "less than a tenth of it"


@pytest.mark.parametrize("curve", [[2, 2, 2, 3, 3, 0], [1, 1, 1, 3, 3, 0], [9, 9, 2, 2, 3, 0]])
def test_a_dimension_that_rises_above_the_distance_of_neighbours_is_not_memorised(curve: list[int]) -> None:
    """The sheets of a roll merge at a noise of their distance, and fill the space there: nothing falls below."""
    levels = [0.001, 0.01, 0.1, 1.0, 10.0, 100.0]
    assert memorised_levels(levels, torch.tensor(curve).double()[:, None], nearest=0.15) == ([False] * 6, [])


def test_a_plateau_reaches_half_way_to_the_levels_around_it() -> None:
    levels = [0.01, 0.1, 1.0, 10.0]
    assert decades(DimensionPlateau(5, 1, 2), levels) == pytest.approx(2.0)
    assert decades(DimensionPlateau(5, 0, 1), levels) == pytest.approx(1.5)
    assert decades(DimensionPlateau(5, 0, 3), levels) == pytest.approx(3.0)


def test_the_level_is_where_most_points_are_on_their_plateau() -> None:
    dimensions = torch.tensor([[3, 3, 3, 3, 1, 1, 1], [9, 3, 3, 3, 3, 3, 1]]).T
    points = [plateaus_of(column.tolist(), [True] * 7) for column in dimensions.T]
    assert choose_level(points, dimensions) == 2, "the middle of levels 1 to 3"
    assert choose_level(points, dimensions, [True] * 2 + [False] * 5) == 1, "the last that is straight"
    assert choose_level(points, dimensions, [False] * 7) == 2, "where none is"
    assert choose_level([[], [], points[0]], dimensions[:, :1].expand(-1, 3)) is None
    rows = pooled([float(10**n) for n in range(7)], points)
    assert [(row["dimension"], row["share"]) for row in rows] == [(3, 1), (1, 0.5)]
    assert rows[0]["decades"] == pytest.approx(3.5), "0 to 3 and 1 to 5"
    assert mixture_of(points, torch.tensor([3.0, 3.0, 3.0, 7.0])) == [{"dimension": 3.0, "share": 0.75}]


def test_dimensions_that_may_be_the_same_are_one_part_of_a_mixture() -> None:
    """Around 44 two more or less may be chance: such a spread of plateaus is one part, and no point counts twice."""
    read = [42, 43, 44, 44, 44, 45, 46, 30, 30, 30]
    points = [[DimensionPlateau(dimension, 0, 3)] for dimension in read]
    assert mixture_of(points, torch.tensor(read).double()) == [
        {"dimension": 30.0, "share": 0.3},
        {"dimension": 44.0, "share": 0.7},
    ]
    near = [[DimensionPlateau(dimension, 0, 3)] for dimension in (41, 44, 44, 44, 44)]
    assert mixture_of(near, torch.tensor([41.0, 44, 44, 44, 44])) == [{"dimension": 44.0, "share": 0.8}]


def test_a_part_of_a_mixture_has_a_twentieth_of_the_points() -> None:
    read = torch.tensor([5.0] * 24 + [9.0])
    points = [[DimensionPlateau(int(dimension), 0, 3)] for dimension in read]
    assert mixture_of(points, read) == [{"dimension": 5.0, "share": 0.96}]


def test_levels_are_even_in_their_logarithm() -> None:
    assert search_levels(0.01, 1.0, 3) == pytest.approx([0.01, 0.1, 1.0])
    assert search_levels(0.5, 0.5, 7) == [0.5]


def automatic(score: ScoreModel, x: Tensor, **config: object) -> Estimate:
    return NormalBundle(NormalBundleConfig.model_validate(config), score=score).estimate(x)


@pytest.mark.parametrize("config", [{}, {"sigma": None}, {"design": "range-finder"}], ids=str)
def test_every_call_of_a_search_is_counted(
    config: dict[str, object], make_score: MakeScore, make_sphere: MakeSphere
) -> None:
    distribution, x = make_sphere(3, ambient=12)
    score, asked = make_score(distribution, (12,)), []
    plain = score.noise

    def noise(y: Tensor, *rest: Any) -> Tensor:
        asked.append(len(y))
        return plain(y, *rest)

    score.noise = noise  # type: ignore[method-assign, assignment]
    assert automatic(score, x, levels=5, shown=4, **config).diagnostics["network_calls"] == sum(asked)


@pytest.mark.parametrize("k", [1, 10, 50])
def test_spheres_are_level_over_decades(k: int, make_score: MakeScore, make_sphere: MakeSphere) -> None:
    distribution, x = make_sphere(k, points=20)
    found = automatic(make_score(distribution, (100,)), x, shown=6)
    assert found.value == k
    (plateau,) = found.diagnostics["plateaus"]
    assert (plateau["dimension"], plateau["share"]) == (k, 1.0)
    assert plateau["decades"] > 1.5
    assert plateau["greatest_sigma"] < (0.6 if k == 1 else 0.4), "curvature ends it"
    assert found.diagnostics["warnings"] == []


def test_a_mixture_of_dimensions_is_said(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    large, on_large = make_sphere(10, points=30)
    small, on_small = make_sphere(30, radius=0.25, points=10, seed=5)
    score = make_score(Mixture(torch.tensor([0.75, 0.25]).double(), (large, small)), (100,))
    found = automatic(score, torch.cat([on_large, on_small]), aggregate="mode", shown=12)
    assert found.diagnostics["mixture"] == [{"dimension": 10.0, "share": 0.75}, {"dimension": 30.0, "share": 0.25}]
    assert "a mixture of dimensions: 10 (75%), 30 (25%)" in found.diagnostics["note"]
    assert "the data have parts of different dimensions, 10 (75%), 30 (25%)" in found.diagnostics["warnings"][0]
    assert found.pointwise is not None
    assert found.pointwise.tolist() == [10.0 if place < 30 else 30.0 for place in found.diagnostics["index"]]


def test_several_scales_have_several_plateaus(make_score: MakeScore, make_frame: Callable[..., Tensor]) -> None:
    """A plane 1e-3 thick in six further directions: 8 below, 2 above."""
    variances = torch.tensor([1.0] * 2 + [1e-6] * 6, dtype=torch.float64)
    distribution = SubspaceGaussian(torch.zeros(20, dtype=torch.float64), make_frame(20, 8), variances)
    x = torch.randn(20, 8, dtype=torch.float64) * variances.sqrt() @ distribution.basis.T
    score = make_score(distribution, (20,), VEConfig(sigma_min=1e-6, sigma_max=10))
    found = automatic(score, x, sigma=0.01, sweep=[10**-n for n in range(4)] + [3.0, 10.0, 0.03, 0.003])
    rows = {row["dimension"]: row["share"] for row in found.diagnostics["plateaus"]}
    assert rows == {2: 1.0, 8: 1.0}


def test_memorised_points_are_noticed(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    """The exact score of 300 points of a circle in three dimensions: 0 up to their distance, then 1."""
    _, x = make_sphere(1, ambient=3, points=300)
    found = automatic(make_score(Points(x), (3,)), x, levels=25, shown=12)
    assert found.value == 1
    assert any("memorised" in warning for warning in found.diagnostics["warnings"])
    assert found.diagnostics["sigma"] > found.diagnostics["survey"]["nearest"] / 2


def test_without_a_plateau_the_level_is_that_without_auto(
    make_score: MakeScore, make_frame: Callable[..., Tensor]
) -> None:
    """Sixty variances over six decades: another dimension at every level."""
    variances = torch.logspace(1, -7, 60, dtype=torch.float64)
    distribution = SubspaceGaussian(torch.zeros(60, dtype=torch.float64), make_frame(60, 60), variances)
    x = torch.randn(12, 60, dtype=torch.float64) * variances.sqrt() @ distribution.basis.T
    score = make_score(distribution, (60,))
    found, without = automatic(score, x), automatic(score, x, sigma=None)
    assert found.diagnostics["sigma"] == without.diagnostics["sigma"]
    assert without.value is not None, "a scale that was chosen has a value"
    assert found.value is None
    assert re.fullmatch(
        r"\d+ at the finest scale to \d+ at the coarsest \(sigma .*\); no single dimension", found.headline
    )
    assert torch.equal(found.pointwise, without.pointwise)
    assert "no plateau was found" in found.diagnostics["note"]
    assert any(warning.startswith("no clear plateau") for warning in found.diagnostics["warnings"])


def test_the_search_stays_where_the_process_and_the_rounding_of_data_allow(
    make_score: MakeScore, make_sphere: MakeSphere
) -> None:
    distribution, x = make_sphere(4, ambient=20)
    narrow = automatic(make_score(distribution, (20,), VEConfig(sigma_min=0.02, sigma_max=0.2)), x)
    assert [row["sigma"] for row in narrow.diagnostics["curve"]][::12] == pytest.approx([0.02, 0.2], rel=1e-3)
    shifted = SphereDistribution(distribution.centre + 1000, distribution.basis, 1.0)
    coarse = automatic(make_score(shifted, (20,), dtype=torch.float32), (x + 1000).float())
    assert coarse.value == 4
    assert min(row["sigma"] for row in coarse.diagnostics["curve"]) > 1e-3
