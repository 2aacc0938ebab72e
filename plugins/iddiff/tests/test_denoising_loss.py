"""The denoising loss with exact scores: published figures, closed forms, and intervals that hold."""

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
from scorefold_iddiff.estimators.config import DenoisingLossDimensionConfig
from scorefold_iddiff.estimators.denoising_loss import DenoisingLoss
from scorefold_iddiff.pointwise.answers import denoising_loss_figures as draw
from scorefold_toolkit.distributions import Points, SphereDistribution, SubspaceGaussian

MakeScore = Callable[..., ScoreModel]
MakeSphere = Callable[..., tuple[SphereDistribution, Tensor]]
MakeFrame = Callable[..., Tensor]


def estimate(score: ScoreModel, x: Tensor, seed: int = 0, **config: Any) -> Estimate:
    settings = {"sweep": (), **config}
    generator = torch.Generator().manual_seed(seed)
    return DenoisingLoss(DenoisingLossDimensionConfig.model_validate(settings), score=score).estimate(
        x, generator=generator
    )


@pytest.mark.parametrize(("sigma", "measured"), [(0.01, 10.1), (0.03, 9.9), (0.1, 9.07)])
def test_the_ten_sphere_gives_the_measured_figures(
    sigma: float, measured: float, make_score: MakeScore, make_sphere: MakeSphere
) -> None:
    """The figures were measured on few draws: 0.25 is about three of their deviations, and ours are a tenth of it."""
    distribution, x = make_sphere(10, points=100)
    found = estimate(make_score(distribution, (100,)), x, sigma=sigma, draws=64)
    assert found.value == pytest.approx(measured, abs=0.25)
    assert found.diagnostics["network_calls"] == 6400


def test_the_closed_form_at_a_point_of_a_gaussian(make_score: MakeScore, make_frame: MakeFrame) -> None:
    """sum (lambda / (lambda + sigma^2))^2 + sigma^2 x^2 / (lambda + sigma^2)^2, inside 99.9 % of each point's draws."""
    sigma, variances = 0.1, torch.logspace(0, -3, 4, dtype=torch.float64)
    basis = make_frame(10, 4)
    distribution = SubspaceGaussian(torch.zeros(10, dtype=torch.float64), basis, variances)
    along = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) * variances.sqrt()
    found = estimate(make_score(distribution, (10,)), along @ basis.T, sigma=sigma, draws=4000, level=0.999)
    exact = ((variances / (variances + sigma**2)) ** 2 + sigma**2 * along**2 / (variances + sigma**2) ** 2).sum(1)
    assert found.pointwise is not None
    gap = (found.pointwise - exact[found.diagnostics["index"]]).abs()
    assert bool((gap < found.diagnostics["half_width"]).all())
    assert bool((found.diagnostics["half_width"] < 0.2).all())


MULTI_SCALE = {0.3: 3.9, 0.1: 7.0, 0.03: 9.3, 0.01: 12.6, 0.003: 16.6, 0.001: 19.2, 1e-4: 19.7}
"""Measured losses for twenty variances from 1 to 1e-6 in R^100 (small samples: one deviation is about 0.3)."""


def test_several_scales(make_score: MakeScore, make_frame: MakeFrame) -> None:
    """The mean over points is the projector's trace, sum lambda / (lambda + sigma^2), at every level."""
    variances = torch.logspace(0, -6, 20, dtype=torch.float64)
    basis = make_frame(100, 20)
    distribution = SubspaceGaussian(torch.zeros(100, dtype=torch.float64), basis, variances)
    x = torch.randn(600, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * variances.sqrt()
    score = make_score(distribution, (100,), VEConfig(sigma_min=9e-5, sigma_max=10))
    for sigma, measured in MULTI_SCALE.items():
        found = estimate(score, x @ basis.T, sigma=sigma, draws=8, points=600, level=0.999)
        exact = float((variances / (variances + sigma**2)).sum())
        assert found.interval is not None
        assert found.interval[0] < exact < found.interval[1], sigma
        assert found.value == pytest.approx(measured, abs=0.9), sigma


def test_intervals_hold_as_often_as_they_say(make_score: MakeScore, make_frame: MakeFrame) -> None:
    """Of 95 % intervals from 300 data sets of 40 points, 90 to 98 % hold k."""
    distribution = SubspaceGaussian(
        torch.zeros(5, dtype=torch.float64), make_frame(5, 3), torch.full((3,), 1.0, dtype=torch.float64)
    )
    score = make_score(distribution, (5,))
    held = 0
    for seed in range(1000, 1300):
        x = (
            torch.randn(40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
            @ distribution.basis.T
        )
        interval = estimate(score, x, seed=seed, sigma=0.001, draws=4).interval
        assert interval is not None
        held += interval[0] <= 3 <= interval[1]
    assert 270 <= held <= 294


def test_draws_of_a_point_have_twice_its_dimension_as_variance(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    distribution, x = make_sphere(20, ambient=30, points=300)
    found = estimate(make_score(distribution, (30,)), x, sigma=0.001, draws=16, points=300)
    deviation = found.diagnostics["half_width"] * 16**0.5 / 1.959964
    assert float(deviation.square().mean()) == pytest.approx(40, rel=0.1)


def test_memorised_points_have_no_loss(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    _, x = make_sphere(10, points=300)
    found = estimate(make_score(Points(x), (100,)), x[:6], sigma=0.01)
    assert found.value == pytest.approx(0, abs=1e-9)
    assert found.diagnostics["bound"] == "", "a score that is known adds no loss"


def test_vp_equals_ve_and_pieces_change_nothing(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    distribution, x = make_sphere(5, ambient=18)
    base = estimate(make_score(distribution, (18,)), x, sigma=0.05)
    for other in (
        estimate(make_score(distribution, (18,), VPConfig(t_min=1e-7)), x, sigma=0.05),
        estimate(make_score(distribution, (18,)), x, sigma=0.05, batch=3),
        estimate(make_score(distribution, (2, 9)), x.reshape(-1, 2, 9), sigma=0.05),
    ):
        torch.testing.assert_close(other.pointwise, base.pointwise)
    few = estimate(make_score(distribution, (18,)), x, sigma=0.05, points=4)
    assert base.pointwise is not None
    torch.testing.assert_close(few.pointwise, base.pointwise[:4])


def test_the_curve_and_its_figure(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    distribution, x = make_sphere(3, ambient=10)
    found = estimate(make_score(distribution, (10,)), x, sweep=(0.3, 1.0, 3.0), shown=5, draws=4, sigma=0.01)
    assert [row["sigma"] for row in found.diagnostics["curve"]] == pytest.approx([0.003, 0.01, 0.03])
    assert found.diagnostics["network_calls"] == 4 * (12 + 2 * 5)
    assert set(draw(found)) == {"estimate", "sigma"}
    median = estimate(make_score(distribution, (10,)), x, aggregate="median")
    assert median.pointwise is not None
    assert median.value == pytest.approx(float(median.pointwise.quantile(0.5)))
    assert median.interval is not None


def test_faults_are_reported(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    distribution, x = make_sphere(3, ambient=10)
    with pytest.raises(ConfigError, match=r"sigma is 0\.5"):
        estimate(make_score(distribution, (10,), VEConfig(sigma_min=0.01, sigma_max=0.1)), x, sigma=0.5)
    with pytest.raises(DataError, match="at least 2"):
        estimate(make_score(distribution, (10,)), x[:1])
