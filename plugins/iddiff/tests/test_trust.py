"""Warnings about a dimension: each warning with data or a score that deserve it, and none without."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold.errors import DataError, ShapeError
from scorefold.interfaces import ScoreModel
from scorefold.results import Estimate
from scorefold_iddiff.config import NormalBundleConfig
from scorefold_iddiff.normal_bundle.estimator import NormalBundle
from scorefold_iddiff.pointwise import score_warnings
from scorefold_iddiff.pointwise.readings import NoiseLevelReading
from scorefold_iddiff.pointwise.support import Corrected, DataSurvey, relative_gap, survey_data
from scorefold_toolkit.distributions import SphereDistribution, SubspaceGaussian

MakeScore = Callable[..., ScoreModel]
MakeSphere = Callable[..., tuple[SphereDistribution, Tensor]]


def estimate(score: ScoreModel, x: Tensor, **config: Any) -> Estimate:
    settings = {"sigma": 0.01, "sweep": (), **config}
    return NormalBundle(NormalBundleConfig.model_validate(settings), score=score).estimate(x)


def warned(found: Estimate, text: str) -> bool:
    assert not any(warning in found.diagnostics["note"] for warning in found.diagnostics["warnings"])
    return any(text in warning for warning in found.diagnostics["warnings"])


class Spoiled(torch.nn.Module):
    """A score whose expected noise is changed by a function of itself and of where it was asked."""

    def __init__(self, score: ScoreModel, change: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.process, self.event_shape = score.process, score.event_shape
        self.condition_spec, self.check_events, self.call_rows = None, score.check_events, score.call_rows
        self.own, self.change = score, change

    def noise(self, x: Tensor, t: Tensor, condition: object = None) -> Tensor:
        return self.change(self.own.noise(x, t), x)


def test_an_exact_score_of_clean_data_gives_no_warning(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    distribution, x = make_sphere(4, ambient=20)
    found = estimate(make_score(distribution, (20,)), x, sweep=(0.3, 1.0, 3.0))
    assert found.diagnostics["warnings"] == []
    assert abs(found.diagnostics["excess_loss"]) < 0.1
    assert found.diagnostics["curvature"] < 0.01
    assert found.diagnostics["asymmetry"] < 1e-3


def test_a_score_that_was_not_trained_leaves_all_directions(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    """A network that starts at zero guesses no noise: everything is tangent."""
    distribution, x = make_sphere(4, ambient=20)
    silent = Spoiled(make_score(distribution, (20,)), lambda noise, at: 0 * noise)
    found = estimate(silent, x)  # type: ignore[arg-type]
    assert found.value == 20
    assert warned(found, "all 20 directions count as tangent")


def test_a_coarse_score_shows_in_its_loss(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    """An error of fixed frequency, too fine to bend the spectrum much, adds its mean square to the loss."""
    distribution, x = make_sphere(4, ambient=20)
    coarse = Spoiled(make_score(distribution, (20,)), lambda noise, at: noise + 0.5 * torch.sin(3000 * at))
    found = estimate(coarse, x)  # type: ignore[arg-type]
    assert warned(found, "above the dimension: the score is too coarse")
    assert found.diagnostics["excess_loss"] == pytest.approx(20 * 0.125, abs=0.5)


def test_a_score_of_other_data_shows_in_its_loss(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    distribution, x = make_sphere(4, ambient=20)
    found = estimate(make_score(SphereDistribution(distribution.centre, distribution.basis, 2.0), (20,)), x)
    assert warned(found, "trained on other data")


def test_curvature_parts_flipd_and_the_trace(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    distribution, x = make_sphere(10)
    assert not warned(estimate(make_score(distribution, (100,)), x, sigma=0.05), "curved")
    found = estimate(make_score(distribution, (100,)), x, sigma=0.2)
    assert warned(found, "curved at this noise level")
    row = found.diagnostics["curve"][0]
    assert row["flipd"] == pytest.approx(8.15, abs=0.1), "9.17 with the trace at the point itself, not around it"
    assert found.diagnostics["curvature"] == pytest.approx((row["flipd"] - row["trace"]) / row["trace"], rel=0.05)


def test_a_score_that_is_no_gradient_is_said(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    distribution, x = make_sphere(4, ambient=20)
    turn = torch.randn(20, 20, dtype=torch.float64)
    turn = 0.2 * (turn - turn.mT)
    twisted = Spoiled(make_score(distribution, (20,)), lambda noise, at: noise + noise @ turn)
    found = estimate(twisted, x)  # type: ignore[arg-type]
    assert warned(found, "not symmetric")
    assert found.diagnostics["asymmetry"] > 0.5


def test_warnings_begin_at_their_bounds() -> None:
    """At dimension 4: slants of 1.5, a defect of 0.3, and curvature of a twentieth of 5 directions where there are
    fewer."""
    assert [len(score_warnings.slant_warnings(slant, 4.0)) for slant in (1.45, 1.55, -1.45, -1.55)] == [0, 1, 0, 1]
    four = torch.full((3,), 4.0, dtype=torch.float64)
    for asymmetry, said in ((0.29, 0), (0.31, 1)):
        reading = NoiseLevelReading(four, four, four, 0, asymmetry=torch.full((3,), asymmetry), flipd=four)
        assert len(score_warnings.of_score(reading, Corrected(four, four, None), 20)) == said
    one = torch.ones(3, dtype=torch.float64)
    assert relative_gap(one + 0.2, one) == pytest.approx(0.04)
    assert relative_gap(10 * one + 0.2, 10 * one) == pytest.approx(0.02)
    clean = DataSurvey(rows=1000, nearest=1.0, copies=0.0, constant=0, spacing=0.0)
    for copies, said in ((0.009, 0), (0.011, 1)):
        assert len(score_warnings.of_data(replace(clean, copies=copies), 0.1, 100, 20)) == said
    for value, interval, word in (
        (21.6, None, "read as 21.6"),
        (21.4, None, None),
        (-1.6, None, "read as -1.6"),
        (-1.4, None, None),
        (19.9, (19.5, 20.3), "all 20 directions"),
        (19.9, (19.5, 19.95), None),
        (19.96, None, "all 20 directions"),
    ):
        found = score_warnings.of_values(value, interval, 20)
        assert found == [] if word is None else word in found[0]


def test_a_value_off_the_longest_plateau_is_said(make_score: MakeScore, make_frame: Callable[..., Tensor]) -> None:
    variances = torch.tensor([1.0] * 2 + [1e-6] * 3, dtype=torch.float64)
    distribution = SubspaceGaussian(torch.zeros(9, dtype=torch.float64), make_frame(9, 5), variances)
    x = torch.randn(20, 5, dtype=torch.float64) * variances.sqrt() @ distribution.basis.T
    found = estimate(make_score(distribution, (9,)), x, sigma=3e-4, sweep=(1, 10, 30, 100, 300))
    assert found.value == 5
    assert warned(found, "the longest plateau is elsewhere: 2 from sigma 0.003 to 0.09")
    assert not warned(estimate(make_score(distribution, (9,)), x, sigma=0.01, sweep=(0.3, 1, 3, 10)), "plateau")


def test_discrete_data_are_noticed_where_the_noise_is_finer(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    distribution, x = make_sphere(4, ambient=20, points=400)
    grid = (x * 16).round() / 16
    score = make_score(distribution, (20,))
    assert warned(estimate(score, grid), "in steps of 0.0625")
    assert not warned(estimate(score, grid, sigma=0.05), "discrete")
    assert not warned(estimate(score, x), "discrete")


def test_auto_looks_for_no_plateau_where_values_are_islands(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    distribution, x = make_sphere(4, ambient=20, points=400)
    grid = (x * 16).round() / 16
    found = estimate(make_score(distribution, (20,)), grid, sigma="auto")
    assert found.diagnostics["curve"][0]["sigma"] == pytest.approx(1 / 32)
    assert not warned(found, "discrete")


def test_copies_and_constant_features_are_noticed(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    distribution, x = make_sphere(4, ambient=20, points=100)
    score = make_score(distribution, (20,))
    found = estimate(score, torch.cat([x, x[:25]]))
    assert warned(found, "20% of the rows are copies")
    assert not warned(estimate(score, x), "copies")
    padded = SphereDistribution(torch.zeros(23).double(), torch.eye(23, 20).double() @ distribution.basis, 1.0)
    found = estimate(make_score(padded, (23,)), torch.nn.functional.pad(x, (0, 3)))
    assert found.value == 4
    assert warned(found, "3 of 23 coordinates are constant")


def test_few_points_are_noticed(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    distribution, x = make_sphere(4, ambient=20, points=9)
    assert warned(estimate(make_score(distribution, (20,)), x), "only 9 points were read")


def test_what_cannot_be_read_is_refused(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    distribution, x = make_sphere(4, ambient=20)
    score = make_score(distribution, (20,))
    spoiled = x.clone()
    spoiled[3, 5] = torch.nan
    with pytest.raises(DataError, match="1 coordinate of the data is not finite, the first in row 3"):
        estimate(score, spoiled)
    with pytest.raises(ShapeError, match=r"this model takes \(B, 20\)"):
        estimate(score, x[:, :10])


def test_a_survey_counts_what_is_there() -> None:
    x = torch.tensor([[0.0, 1.0, 5.0], [0.0, 1.0, 5.0], [3.0, 1.0, 9.0], [0.0, 1.0, 6.0]])
    look = survey_data(Dataset(x), x[:3], torch.arange(3), torch.Generator().manual_seed(0))
    assert (look.rows, look.copies, look.constant) == (4, 0.25, 1)
    assert look.nearest == 1.0, "a copy is no neighbour: 1, 1 and sqrt(18)"


def test_a_point_in_another_precision_is_no_neighbour_of_itself() -> None:
    x = torch.randn(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    look = survey_data(Dataset(x), x[:5].float().double(), torch.arange(5), torch.Generator().manual_seed(0))
    assert look.nearest > 0.1


def test_one_coordinate_of_four_on_a_grid_makes_no_grid() -> None:
    generator = torch.Generator().manual_seed(0)
    grid = torch.randint(0, 17, (500, 1), generator=generator) / 16
    x = torch.cat([grid, torch.randn(500, 3, generator=generator)], 1)
    assert survey_data(Dataset(x), x[:2], torch.arange(2), generator).spacing == 0


def test_a_survey_of_large_data_looks_at_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scorefold_iddiff.pointwise.support._COORDINATES", 50)
    x = torch.randn(1000, 5)
    look = survey_data(Dataset(x), x[:3], torch.arange(3), torch.Generator().manual_seed(0))
    assert look.rows == 10


@pytest.mark.parametrize(
    ("x", "spacing"),
    [
        (torch.randint(0, 17, (500, 4)) / 16, 1 / 16),
        (torch.randint(0, 256, (2000, 3)) * 2 / 255 - 1, 2 / 255),
        (torch.randint(0, 256, (300, 3)) / 255, 1 / 255),
        (torch.randint(0, 10, (12, 3)).float(), 0.0),
        (torch.randn(500, 4), 0.0),
        (torch.randint(0, 5, (500, 4)).float().cumsum(1).exp(), 0.0),
        (torch.ones(50, 4), 0.0),
    ],
)
def test_grids_are_found_by_whole_multiples(x: Tensor, spacing: float) -> None:
    look = survey_data(Dataset(x), x[:2], torch.arange(2), torch.Generator().manual_seed(0))
    assert look.spacing == pytest.approx(spacing, rel=1e-3)
