"""The cascade with exact scores: the normal bundle's answers at every point, from fewer calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from scorefold.config import VEConfig, VPConfig
from scorefold.errors import ConfigError, DataError
from scorefold.interfaces import ScoreModel
from scorefold.results import Estimate
from scorefold_iddiff.config import NormalBundleConfig
from scorefold_iddiff.estimators.cascade import STAGES, Cascade
from scorefold_iddiff.estimators.config import CascadeConfig
from scorefold_iddiff.normal_bundle.estimator import NormalBundle
from scorefold_iddiff.pointwise.answers import cascade_figures as draw
from scorefold_toolkit.distributions import Mixture, SphereDistribution, SubspaceGaussian

MakeScore = Callable[..., ScoreModel]
MakeSphere = Callable[..., tuple[SphereDistribution, Tensor]]


def estimate(score: ScoreModel, x: Tensor, seed: int = 0, **config: Any) -> Estimate:
    settings = {"sigma": 0.01, "sweep": (), **config}
    generator = torch.Generator().manual_seed(seed)
    return Cascade(CascadeConfig.model_validate(settings), score=score).estimate(x, generator=generator)


def normal_bundle(score: ScoreModel, x: Tensor, seed: int = 0, **config: Any) -> Estimate:
    settings = {"sigma": 0.01, "sweep": (), **config}
    generator = torch.Generator().manual_seed(seed)
    return NormalBundle(NormalBundleConfig.model_validate(settings), score=score).estimate(x, generator=generator)


def counted(score: ScoreModel) -> list[int]:
    """The points of each call that is made of the score from now on."""
    asked: list[int] = []
    plain = score.noise

    def noise(y: Tensor, *rest: Any) -> Tensor:
        asked.append(len(y))
        return plain(y, *rest)

    score.noise = noise  # type: ignore[method-assign, assignment]
    return asked


def assert_same(ours: Estimate, theirs: Estimate) -> None:
    """The value, what is read at the points, the counted eigenvalues and the spaces that the bases span."""
    assert ours.pointwise is not None
    assert theirs.pointwise is not None
    assert torch.equal(ours.diagnostics["index"], theirs.diagnostics["index"])
    assert torch.equal(ours.pointwise, theirs.pointwise)
    assert (ours.value, ours.interval) == (theirs.value, theirs.interval)
    torch.testing.assert_close(ours.diagnostics["margin"], theirs.diagnostics["margin"], atol=0.02, rtol=0)
    assert ours.spectrum is not None
    assert theirs.spectrum is not None
    assert ours.spectrum.shape == theirs.spectrum.shape
    torch.testing.assert_close(ours.spectrum, theirs.spectrum, atol=0.02, rtol=0)
    for name in ("tangent_basis", "normal_basis"):
        spans = [found.diagnostics[name] @ found.diagnostics[name].mT for found in (ours, theirs)]
        torch.testing.assert_close(spans[0], spans[1], atol=0.02, rtol=0)


@pytest.mark.parametrize(("k", "stage"), [(2, 0), (10, 0), (50, 1)])
def test_spheres_give_what_the_normal_bundle_gives(
    k: int, stage: int, make_score: MakeScore, make_sphere: MakeSphere
) -> None:
    """Fifty dimensions of a hundred are too many for a sketch to be worth it."""
    distribution, x = make_sphere(k, points=20)
    score = make_score(distribution, (100,))
    ours = estimate(score, x, bases="both", shown=6)
    assert ours.value == k
    assert_same(ours, normal_bundle(score, x, bases="both", shown=6, resamples=0))
    assert ours.diagnostics["settled"] == {STAGES[stage]: 20, STAGES[1 - stage]: 0}
    assert ours.diagnostics["stage"].tolist() == [stage] * 20


def test_a_union_sends_each_part_its_own_way(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    large, on_large = make_sphere(10, points=10)
    small, on_small = make_sphere(50, radius=0.25, points=10, seed=5)
    score = make_score(Mixture(torch.tensor([0.5, 0.5]).double(), (large, small)), (100,))
    x = torch.cat([on_large, on_small])
    ours = estimate(score, x, sigma=0.005, bases="both")
    assert_same(ours, normal_bundle(score, x, sigma=0.005, bases="both", resamples=0))
    at = ours.diagnostics["index"]
    assert ours.pointwise is not None
    assert ours.pointwise.tolist() == [10 if place < 10 else 50 for place in at.tolist()]
    assert torch.equal(ours.diagnostics["stage"], (at >= 10).long())
    assert ours.diagnostics["histogram"] == {"10": 10, "50": 10}
    parts = [{"dimension": 10.0, "share": 0.5}, {"dimension": 50.0, "share": 0.5}]
    assert ours.diagnostics["mixture"] == parts
    assert "parts of different dimensions, 10 (50%), 50 (50%)" in ours.diagnostics["warnings"][0]


def test_calls_in_1024_coordinates(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    """A fifteenth of a whole spectrum's at k = 20, and a thirtieth of the published 4 D."""
    distribution, x = make_sphere(20, ambient=1024, points=6)
    score = make_score(distribution, (1024,))
    asked = counted(score)
    found = estimate(score, x, points=6)
    assert found.pointwise is not None
    assert found.pointwise.tolist() == [20] * 6
    assert found.diagnostics["network_calls"] == sum(asked) == sum(found.diagnostics["calls_by_stage"].values())
    assert found.diagnostics["calls_by_stage"][STAGES[1]] == 0
    assert sum(asked) / 6 < 2 * 1024 / 15


def test_the_coarse_dimension_has_the_interval_of_its_draws(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    distribution, x = make_sphere(10, points=400)
    for draws in (16, 64):
        found = estimate(make_score(distribution, (100,)), x, points=400, draws=draws)
        coarse, half_width = found.diagnostics["coarse"], found.diagnostics["coarse_half_width"]
        torch.testing.assert_close(half_width, 2 * (2 * coarse / draws).sqrt())
        assert 0.92 < float(((coarse - 10).abs() < half_width).double().mean()) < 0.99


def test_the_range_finder_looks_as_far_as_the_interval_of_the_coarse_dimension(
    make_score: MakeScore, make_sphere: MakeSphere
) -> None:
    """spare 6: 10 + 6 and 20 + 10 + 3 in fours; none where 4 calls a direction are as many as the 2 D of a spectrum."""
    cascade = Cascade(CascadeConfig(), score=make_score(make_sphere(2)[0], (100,)))
    coarse, half_width = torch.tensor([10.0, 20.0]).double(), torch.tensor([2.0, 10.0]).double()
    assert [cascade._widths(coarse, half_width, ambient).tolist() for ambient in (100, 72, 32)] == [
        [16, 36],
        [16, 0],
        [0, 0],
    ]


def test_only_points_with_thin_margins_go_on(make_score: MakeScore, make_frame: Callable[..., Tensor]) -> None:
    """A plane with one direction as thin as the noise, at 1/2 + 0.1, beside a plane without such a one."""
    broad = torch.ones(3, dtype=torch.float64)
    thin = torch.cat([broad, 1e-4 * torch.tensor([1.5]).double()])
    frames = make_frame(100, 7)
    far = torch.zeros(100, dtype=torch.float64)
    far[0] = 50
    distributions = (
        SubspaceGaussian(torch.zeros(100).double(), frames[:, :4], thin),
        SubspaceGaussian(far, frames[:, 4:], broad),
    )
    score = make_score(Mixture(torch.tensor([0.5, 0.5]).double(), distributions), (100,))
    generator = torch.Generator().manual_seed(3)
    draws = [torch.randn(8, width, dtype=torch.float64, generator=generator) for width in (4, 3)]
    x = torch.cat([draws[0] * thin.sqrt() @ frames[:, :4].T, far + draws[1] @ frames[:, 4:].T])
    asked = counted(score)
    found = estimate(score, x, bases="both")
    assert found.diagnostics["network_calls"] == sum(asked)
    on_thin = found.diagnostics["index"] < 8
    assert torch.equal(found.diagnostics["stage"] == 1, on_thin)
    assert found.pointwise is not None
    assert torch.equal(found.pointwise, torch.where(on_thin, 4.0, 3.0).double())
    assert_same(found, normal_bundle(score, x, bases="both", resamples=0))
    torch.testing.assert_close(found.diagnostics["margin"][on_thin], torch.full((8,), 0.1).double(), atol=1e-6, rtol=0)
    asked = counted(score)
    assert found.diagnostics["mixture"] == [{"dimension": 3.0, "share": 0.5}], "of clear points alone"
    sure = estimate(score, x, thin=0.0)
    assert sure.diagnostics["network_calls"] == sum(asked)
    assert sure.diagnostics["settled"] == {STAGES[0]: 16, STAGES[1]: 0}
    assert sure.diagnostics["network_calls"] < found.diagnostics["network_calls"] - 8 * 200 + 1


@pytest.mark.parametrize("k", [2, 10, 50])
def test_the_level_is_found_on_the_loss(k: int, make_score: MakeScore, make_sphere: MakeSphere) -> None:
    """On the plateau of the normal bundle, which is found by whole spectra."""
    distribution, x = make_sphere(k, points=20)
    score = make_score(distribution, (100,))
    ours, theirs = estimate(score, x, sigma="auto"), normal_bundle(score, x, sigma="auto", resamples=0)
    assert ours.pointwise is not None
    assert theirs.pointwise is not None
    assert torch.equal(ours.pointwise, theirs.pointwise)
    (plateau,) = [row for row in theirs.diagnostics["plateaus"] if row["dimension"] == k]
    assert plateau["least_sigma"] <= ours.diagnostics["sigma"] <= plateau["greatest_sigma"]
    assert len(ours.diagnostics["curve"]) == 13
    assert "the middle of the longest plateau of the denoising loss" in ours.diagnostics["note"]


def test_without_a_plateau_the_level_is_that_without_auto(
    make_score: MakeScore, make_frame: Callable[..., Tensor]
) -> None:
    variances = torch.logspace(1, -7, 40, dtype=torch.float64)
    distribution = SubspaceGaussian(torch.zeros(60, dtype=torch.float64), make_frame(60, 40), variances)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(12, 40, dtype=torch.float64, generator=generator) * variances.sqrt() @ distribution.basis.T
    score = make_score(distribution, (60,))
    without = estimate(score, x, sigma=None)
    asked = counted(score)
    ours = estimate(score, x, sigma="auto")
    assert ours.diagnostics["network_calls"] == sum(asked)
    assert "no plateau was found" in ours.diagnostics["note"]
    assert ours.diagnostics["sigma"] == without.diagnostics["sigma"]
    assert torch.equal(ours.pointwise, without.pointwise)  # type: ignore[arg-type]
    assert len(ours.diagnostics["curve"]) == 14


def test_a_loss_that_slopes_is_no_plateau_though_whole_numbers_stay(
    make_score: MakeScore, make_frame: Callable[..., Tensor]
) -> None:
    """Deviations a decade apart: 0.8, 1.0, 1.2 over three levels."""
    variances = torch.logspace(0, -6, 4, dtype=torch.float64)
    distribution = SubspaceGaussian(torch.zeros(20, dtype=torch.float64), make_frame(20, 4), variances)
    draws = torch.randn(40, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = estimate(
        make_score(distribution, (20,)),
        draws * variances.sqrt() @ distribution.basis.T,
        sigma="auto",
        draws=64,
        shown=40,
    )
    losses = torch.tensor([row["value"] for row in found.diagnostics["curve"]])
    assert any(len(three.round().unique()) == 1 for three in losses.unfold(0, 3, 1))
    assert "no plateau was found" in found.diagnostics["note"]


def test_auto_stays_above_half_a_step_of_discrete_data(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    distribution, x = make_sphere(4, ambient=20, points=400)
    found = estimate(make_score(distribution, (20,)), (x * 16).round() / 16, sigma="auto")
    assert found.diagnostics["curve"][0]["sigma"] == pytest.approx(1 / 32)


def test_images_in_single_precision_under_another_process(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    distribution, x = make_sphere(6, ambient=3 * 8 * 8, points=12)
    score = make_score(distribution, (3, 8, 8), VPConfig(), dtype=torch.float32)
    found = estimate(score, x.float().reshape(-1, 3, 8, 8), sigma=0.02, bases="tangent", shown=4, batch=50)
    assert found.pointwise is not None
    assert found.pointwise.tolist() == [6] * 12
    assert found.diagnostics["tangent_basis"].shape == (4, 192, 6)
    assert found.spectrum is not None
    assert found.spectrum.shape == (4, 192)


def test_points_are_read_the_same_however_calls_are_cut(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    distribution, x = make_sphere(5, points=30)
    score = make_score(distribution, (100,))
    found, small = estimate(score, x), estimate(score, x, batch=7)
    torch.testing.assert_close(found.diagnostics["coarse"], small.diagnostics["coarse"])
    torch.testing.assert_close(found.diagnostics["margin"], small.diagnostics["margin"])
    assert found.diagnostics["network_calls"] == small.diagnostics["network_calls"]
    other = estimate(score, x, seed=1)
    assert not torch.equal(found.diagnostics["coarse"], other.diagnostics["coarse"])


def test_figures_show_the_curve_and_the_stages(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    large, on_large = make_sphere(10, points=5)
    small, on_small = make_sphere(50, radius=0.25, points=7, seed=5)
    score = make_score(Mixture(torch.tensor([0.5, 0.5]).double(), (large, small)), (100,))
    found = estimate(score, torch.cat([on_large, on_small]), sigma=0.005, sweep=(0.3, 3))
    figures = draw(found)
    assert set(figures) == {"estimate", "sigma", "stages"}
    axes = figures["stages"].axes[0]
    labels = {text.get_text() for text in axes.get_legend().get_texts()}  # type: ignore[union-attr]
    assert {"settled by the range finder (5)", "settled by the whole spectrum (7)"} <= labels
    first, second = (scatter for scatter in axes.collections if "settled" in str(scatter.get_label()))
    assert first.get_offsets()[:, 1].tolist() == [10] * 5  # type: ignore[index, union-attr]
    assert second.get_offsets()[:, 1].tolist() == [50] * 7  # type: ignore[index, union-attr]
    assert set(draw(estimate(score, on_large))) == {"stages"}, "all points have one value"


def test_warnings_and_refusals(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    distribution, x = make_sphere(3, ambient=12, points=30)
    score = make_score(distribution, (12,), VEConfig(sigma_min=0.01, sigma_max=10))
    assert estimate(score, x).diagnostics["warnings"] == []
    bent = estimate(score, x, sigma=0.5)
    assert any("curved at this noise level" in warning for warning in bent.diagnostics["warnings"])
    few = estimate(score, x[:4])
    assert any("only 4 points" in text for text in few.diagnostics["warnings"])
    with pytest.raises(DataError, match="at least 2"):
        estimate(score, x[:1])
    with pytest.raises(DataError, match="not finite"):
        estimate(score, x * torch.nan)
    with pytest.raises(ConfigError, match=r"sigma is 0\.001"):
        estimate(score, x, sigma=0.001)
    with pytest.raises(ValueError, match=r"less than 0\.5"):
        CascadeConfig(thin=0.5)
