"""FLIPD with exact scores: its bias on spheres, closed forms on Gaussians, traces, knees, and the slope of LIDL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from scorefold.config import VEConfig, VPConfig
from scorefold.data import Condition
from scorefold.diffusion import VE
from scorefold.errors import ConfigError, DataError
from scorefold.interfaces import ScoreModel
from scorefold.results import Estimate
from scorefold_iddiff.estimators import flipd
from scorefold_iddiff.estimators.config import FLIPDConfig
from scorefold_iddiff.estimators.flipd import FLIPD, knees
from scorefold_iddiff.pointwise.answers import flipd_figures as draw
from scorefold_iddiff.pointwise.answers import integrate_over_log_noise, slope_in_log_noise
from scorefold_toolkit.distributions import Mixture, Points, SphereDistribution, SubspaceGaussian

MakeScore = Callable[..., ScoreModel]
MakeSphere = Callable[..., tuple[SphereDistribution, Tensor]]
MakeFrame = Callable[..., Tensor]

PUBLISHED_DELTAS = (0.01, 0.013895, 0.019307, 0.026827, 0.037276, 0.051795, 0.071969, 0.1)


def estimate(score: ScoreModel, x: Tensor, seed: int = 0, **config: Any) -> Estimate:
    settings = {"sweep": (), **config}
    generator = torch.Generator().manual_seed(seed)
    return FLIPD(FLIPDConfig.model_validate(settings), score=score).estimate(x, generator=generator)


def subspace(
    variances: Tensor, ambient: int, points: int, make_frame: MakeFrame
) -> tuple[SubspaceGaussian, Tensor, Tensor]:
    """A Gaussian on a subspace, points of it, and their coordinates along it."""
    distribution = SubspaceGaussian(
        torch.zeros(ambient, dtype=torch.float64), make_frame(ambient, len(variances)), variances
    )
    generator = torch.Generator().manual_seed(3)
    along = torch.randn(points, len(variances), dtype=torch.float64, generator=generator) * variances.sqrt()
    return distribution, along @ distribution.basis.T, along


@pytest.mark.parametrize(("sigma", "value"), [(0.01, 9.998), (0.03, 9.98), (0.1, 9.80), (0.2, 9.17)])
def test_its_bias_on_the_ten_sphere_is_half_of_the_traces(
    sigma: float, value: float, make_score: MakeScore, make_sphere: MakeSphere
) -> None:
    distribution, x = make_sphere(10)
    found = estimate(make_score(distribution, (100,)), x, sigma=sigma)
    assert found.value == pytest.approx(value, abs=0.006)
    assert 10 - found.diagnostics["projector_trace"] == pytest.approx(2 * (10 - found.value), rel=0.3)
    assert any("curved" in text for text in found.diagnostics["warnings"]) == (sigma > 0.1)


@pytest.mark.parametrize(("time", "value"), [(1e-4, 10.000), (1e-3, 9.998), (1e-2, 9.960)])
def test_vp_equals_ve_at_equal_noise_to_signal(
    time: float, value: float, make_score: MakeScore, make_sphere: MakeSphere
) -> None:
    distribution, x = make_sphere(10, points=4)
    preserving = make_score(distribution, (100,), VPConfig(t_min=1e-6))
    ratio: Any = preserving.process
    sigma = float(ratio.noise_to_signal(torch.tensor([time], dtype=torch.float64)))
    found = [estimate(score, x, sigma=sigma).value for score in (preserving, make_score(distribution, (100,)))]
    assert found[0] == pytest.approx(value, abs=6e-4)
    assert found[0] == pytest.approx(found[1], abs=1e-9)


def test_the_closed_form_on_gaussians_of_any_rank(make_score: MakeScore, make_frame: MakeFrame) -> None:
    """k - sigma^2 sum(1 / (lambda + sigma^2) - x^2 / (lambda + sigma^2)^2) at every point, from k = 0 to k = D."""
    sigma = 0.1
    for rank in (0, 3, 8):
        variances = torch.logspace(0, -2, rank, dtype=torch.float64)
        distribution, x, along = subspace(variances, 8, 5, make_frame)
        noised = variances + sigma**2
        exact = rank - sigma**2 * (1 / noised - along**2 / noised**2).sum(1)
        found = estimate(make_score(distribution, (8,)), x, sigma=sigma)
        assert found.pointwise is not None
        torch.testing.assert_close(found.pointwise, exact[found.diagnostics["index"]])


def test_its_mean_over_points_of_a_gaussian(make_score: MakeScore, make_frame: MakeFrame) -> None:
    """k - sum sigma^4 / (lambda + sigma^2)^2, to the sampling error of 4,000 points."""
    variances = torch.logspace(0, -4, 6, dtype=torch.float64)
    distribution, x, _ = subspace(variances, 10, 4000, make_frame)
    found = estimate(make_score(distribution, (10,)), x, sigma=0.05, points=4000)
    exact = 6 - float((0.05**4 / (variances + 0.05**2) ** 2).sum())
    assert found.interval is not None
    assert found.interval[0] - 0.02 < exact < found.interval[1] + 0.02
    assert found.interval[1] - found.interval[0] < 0.15


@pytest.mark.parametrize("probe_distribution", ["gaussian", "rademacher"])
def test_the_variance_of_hutchinson_traces(
    probe_distribution: str, make_score: MakeScore, make_frame: MakeFrame
) -> None:
    """Of a k-projector: 2 k / n by Gaussian vectors and 2 (k - sum P_ii^2) / n by Rademacher ones."""
    basis = make_frame(12, 4)
    distribution = SubspaceGaussian(torch.zeros(12, dtype=torch.float64), basis, torch.ones(4, dtype=torch.float64))
    x = (torch.ones(1, 4, dtype=torch.float64) @ basis.T).expand(3000, -1)
    found = estimate(
        make_score(distribution, (12,)),
        x,
        sigma=1e-3,
        trace="hutchinson",
        probes=5,
        probe_distribution=probe_distribution,
        points=3000,
    )
    assert found.pointwise is not None
    diagonal = (basis @ basis.T).diagonal().square().sum()
    variance = 2 * (4 - (float(diagonal) if probe_distribution == "rademacher" else 0.0)) / 5
    assert found.value == pytest.approx(4, abs=0.1)
    assert float(found.pointwise.var()) == pytest.approx(variance, rel=0.1)
    assert found.diagnostics["network_calls"] == 3000 * 6


def test_the_trace_is_exact_up_to_3500_coordinates(make_score: MakeScore) -> None:
    found = {}
    for ambient in (40, 3501):
        distribution = Points(torch.eye(3, ambient, dtype=torch.float64))
        answer = estimate(
            make_score(distribution, (ambient,), dtype=torch.float32), distribution.x.float(), sigma=0.01, probes=3
        )
        found[ambient] = (answer.diagnostics["trace"], answer.diagnostics["network_calls"])
    assert found == {40: ("exact", 3 * 41), 3501: ("hutchinson", 3 * 4)}


def test_unions_memorised_points_and_curves(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    """Each part its own dimension; 0 where the exact score of a sample is read far below its neighbours' distances."""
    large, on_large = make_sphere(10, points=4)
    small, on_small = make_sphere(30, radius=0.25, points=4, seed=5)
    distribution = Mixture(torch.tensor([0.5, 0.5], dtype=torch.float64), (large, small))
    found = estimate(make_score(distribution, (100,)), torch.cat([on_large, on_small]), sigma=0.003)
    assert found.pointwise is not None
    expected = [10.0 if position < 4 else 30.0 for position in found.diagnostics["index"]]
    assert found.pointwise.tolist() == pytest.approx(expected, abs=0.05)
    memorised = estimate(make_score(Points(on_large), (100,)), on_large, sigma=0.01)
    assert memorised.value == pytest.approx(0, abs=1e-6)
    t = torch.linspace(0, 1, 20_001, dtype=torch.float64)
    curve = Points(torch.sin(t[:, None] * torch.arange(1, 101, dtype=torch.float64)))
    assert estimate(make_score(curve, (100,)), curve.x[2000:19_000:6000], sigma=0.1).value == pytest.approx(1, abs=0.05)


def test_moving_padding_and_scaling_change_nothing(
    make_score: MakeScore, make_sphere: MakeSphere, make_frame: MakeFrame
) -> None:
    distribution, x = make_sphere(3, ambient=12)
    turn, shift = make_frame(12, 12, seed=9), torch.linspace(-3, 3, 12, dtype=torch.float64)
    pad = torch.eye(20, 12, dtype=torch.float64)
    base = estimate(make_score(distribution, (12,)), x).value
    for other, points in (
        (SphereDistribution(distribution.centre, turn @ distribution.basis, 1.0), x @ turn.T),
        (SphereDistribution(distribution.centre + shift, distribution.basis, 1.0), x + shift),
        (SphereDistribution(torch.zeros(20, dtype=torch.float64), pad @ distribution.basis, 1.0), x @ pad.T),
        (SphereDistribution(distribution.centre, distribution.basis, 40.0), 40 * x),
    ):
        assert estimate(make_score(other, (points.shape[1],)), points).value == pytest.approx(base, abs=1e-6)


@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
def test_pieces_modes_and_company_change_nothing(trace: str, make_score: MakeScore, make_sphere: MakeSphere) -> None:
    distribution, x = make_sphere(2, ambient=8, points=6)
    score = make_score(distribution, (2, 2, 2))
    images = x.reshape(-1, 2, 2, 2)
    settings: dict[str, Any] = {"trace": trace, "sigma": 0.1, "probes": 6}
    base = estimate(score, images, **settings)
    changes: tuple[dict[str, Any], ...] = ({"batch": 5}, {"batch": 20}, {"derivatives": "reverse"})
    for change in changes:
        found = estimate(score, images, **settings, **change)
        torch.testing.assert_close(found.pointwise, base.pointwise)
    few = estimate(score, images, **settings, points=4)
    assert base.pointwise is not None
    torch.testing.assert_close(few.pointwise, base.pointwise[:4])


def test_the_regression_is_the_slope_of_the_exact_log_density(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    """Integrated FLIPD - D is log rho up to a constant, so its slope is the slope of the density itself."""
    distribution, x = make_sphere(5, ambient=20, points=6)
    score: Any = make_score(distribution, (20,))
    found = estimate(score, x, mode="regression", levels=PUBLISHED_DELTAS)
    density = torch.stack(
        [
            score.noised_log_prob(x, score.process.time_at(torch.full((6,), delta, dtype=torch.float64)))
            for delta in PUBLISHED_DELTAS
        ]
    )
    slope, _ = slope_in_log_noise(density, list(PUBLISHED_DELTAS))
    assert found.pointwise is not None
    torch.testing.assert_close(found.pointwise, 20 + slope[found.diagnostics["index"]], atol=1e-3, rtol=0)
    assert found.value == pytest.approx(5, abs=0.05)
    assert found.diagnostics["network_calls"] == 6 * 21 * 8


def test_slopes_and_integrals_of_known_curves() -> None:
    levels = [0.01, 0.02, 0.05, 0.1]
    noise = torch.tensor(levels, dtype=torch.float64).log()
    slope, residual = slope_in_log_noise(torch.stack([-3 * noise + 1, 2 * noise**2], dim=1), levels)
    assert float(slope[0]) == pytest.approx(-3)
    assert float(residual[0]) == pytest.approx(0, abs=1e-12)
    assert float(residual[1]) > 0.1
    rates = torch.stack([2 * noise], dim=1)
    torch.testing.assert_close(integrate_over_log_noise(rates, levels)[:, 0], noise**2 - noise[0] ** 2)


def test_knees_are_where_curves_bend() -> None:
    levels = [10.0**power for power in range(8)]
    shoulder = [5.0, 5.0, 5.0, 5.0, 5.0, 3.0, 1.0, 0.0]
    elbow = [90.0, 45.0, 6.0, 5.0, 5.0, 5.0, 4.0, 0.0]
    flat = [5.0] * 8
    curves = torch.tensor([shoulder, elbow, flat], dtype=torch.float64).T
    assert knees(curves, levels, "auto")[0].tolist() == [4, 2, 0]
    assert knees(curves, levels, "auto")[1] == 1
    assert knees(curves[:, :2], levels, "shoulder")[0][0] == 4
    assert knees(curves[:, :2], levels, "elbow")[0][1] == 2
    assert knees(curves[:, :2] + 9, levels, "auto")[0].tolist() == [4, 2], "the height of a curve says nothing"


def test_the_knee_of_a_sphere_is_where_its_curvature_shows(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    distribution, x = make_sphere(10, points=4)
    found = estimate(make_score(distribution, (100,)), x, mode="knee")
    assert found.value == pytest.approx(10, rel=0.08)
    assert 0.05 < found.diagnostics["sigma"] < 0.3
    assert found.diagnostics["knee_sigma"].shape == (4,)
    assert "at the knee" in found.diagnostics["note"]


def test_the_knee_that_is_named_is_of_the_middle_point(
    make_score: MakeScore, make_sphere: MakeSphere, monkeypatch: pytest.MonkeyPatch
) -> None:
    distribution, x = make_sphere(3, ambient=10, points=3)
    monkeypatch.setattr(flipd, "knees", lambda curves, levels, kind: (torch.tensor([0, 3, 1]), 0))
    found = estimate(make_score(distribution, (10,)), x, mode="knee", levels=(0.1, 0.2, 0.3, 0.4))
    assert found.diagnostics["knee_sigma"].tolist() == pytest.approx([0.1, 0.4, 0.2])
    assert found.diagnostics["sigma"] == pytest.approx(0.2)


def test_draws_of_the_trace_are_those_of_the_generator(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    distribution, x = make_sphere(3, ambient=10, points=3)
    score = make_score(distribution, (10,))
    config = FLIPDConfig(sigma=0.1, trace="hutchinson", probes=2)
    values = [
        FLIPD(config, score=score).estimate(x, generator=torch.Generator().manual_seed(seed)).value
        for seed in (0, 0, 1)
    ]
    assert values[0] == values[1] != values[2]


def test_a_curve_without_a_knee_says_so(make_score: MakeScore, make_frame: MakeFrame) -> None:
    distribution = SubspaceGaussian(
        torch.zeros(4, dtype=torch.float64), make_frame(4, 2), torch.full((2,), 1e6, dtype=torch.float64)
    )
    x = torch.zeros(3, 4, dtype=torch.float64)
    found = estimate(make_score(distribution, (4,)), x, mode="knee", levels=(0.001, 0.01, 0.1, 1.0))
    assert found.value == pytest.approx(2, abs=1e-3)
    assert "3 of 3 curves are level" in found.diagnostics["note"]


def test_figures_show_the_level_and_the_knee(make_score: MakeScore, make_sphere: MakeSphere, tmp_path: Path) -> None:
    distribution, x = make_sphere(3, ambient=10)
    score = make_score(distribution, (10,))
    drawn: tuple[tuple[dict[str, Any], str], ...] = (
        ({"sweep": (0.3, 1.0, 3.0)}, "read at"),
        ({"mode": "knee"}, "knee of the middle point"),
        ({"mode": "regression"}, "answer"),
    )
    for config, text in drawn:
        figures = draw(estimate(score, x, **config))
        assert set(figures) - {"estimate"} == {"sigma"}  # no histogram where all points read one value
        legend = figures["sigma"].axes[0].get_legend()
        assert legend is not None
        assert any(text in entry.get_text() for entry in legend.get_texts())
        figures["sigma"].savefig(tmp_path / "sigma.png")
    assert set(draw(estimate(score, x))) <= {"estimate"}


class Fallen(ScoreModel):
    """A score whose network has no forward-mode derivative."""

    def __init__(self) -> None:
        super().__init__(VE(0.01, 10.0), (3,))
        self.weight = nn.Parameter(torch.ones(()))

    def score(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        turn: Callable[[Tensor], Tensor] = OneWay.apply
        return self.weight * turn(x)


class OneWay(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return -x

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return -gradient


def test_networks_without_forward_mode_are_named_with_the_way_out() -> None:
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ConfigError, match="derivatives: reverse"):
        estimate(Fallen(), x, sigma=0.1)
    assert estimate(Fallen(), x, sigma=0.1, derivatives="reverse").value == pytest.approx(3, abs=0.1)


def test_faults_are_reported(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    distribution, x = make_sphere(3, ambient=10)
    score = make_score(distribution, (10,), VEConfig(sigma_min=0.01, sigma_max=0.012))
    with pytest.raises(ConfigError, match=r"goes from 0\.01 to 0\.012"):
        estimate(score, x, mode="regression")
    with pytest.raises(ConfigError, match=r"sigma is 0\.5"):
        estimate(score, x, mode="regression", levels=(0.01, 0.5))
    with pytest.raises(ValidationError, match="needs 4 different levels; 2 are given"):
        FLIPDConfig(mode="knee", levels=(0.1, 0.2))
    with pytest.raises(DataError, match="not finite"):
        estimate(make_score(distribution, (10,)), x * float("nan"))
    diverged = Fallen()
    diverged.weight.data.fill_(float("nan"))
    with pytest.raises(DataError, match="diverged"):
        estimate(diverged, torch.ones(4, 3), sigma=0.1, derivatives="reverse")
