"""Lanczos quadrature against full eigendecompositions, and the dimension that it counts with exact scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from scorefold.config import VEConfig, VPConfig
from scorefold.errors import ConfigError
from scorefold.interfaces import ScoreModel
from scorefold.results import Estimate
from scorefold_iddiff.estimators.config import LanczosConfig
from scorefold_iddiff.estimators.spectral_lanczos import SpectralLanczos, lanczos, weight_above
from scorefold_iddiff.pointwise.answers import lanczos_figures as draw
from scorefold_toolkit.distributions import Mixture, Points, SphereDistribution, SubspaceGaussian

MakeScore = Callable[..., ScoreModel]
MakeSphere = Callable[..., tuple[SphereDistribution, Tensor]]
MakeFrame = Callable[..., Tensor]


def estimate(score: ScoreModel, x: Tensor, seed: int = 0, **config: Any) -> Estimate:
    generator = torch.Generator().manual_seed(seed)
    return SpectralLanczos(LanczosConfig.model_validate(config), score=score).estimate(x, generator=generator)


def symmetric(eigenvalues: Tensor, make_frame: MakeFrame) -> Tensor:
    frame = make_frame(len(eigenvalues), len(eigenvalues))
    return (frame * eigenvalues) @ frame.T


def test_the_tridiagonal_matrix_is_the_operator_on_its_krylov_space(make_frame: MakeFrame) -> None:
    """As many steps as coordinates give the operator's own eigenvalues, to rounding."""
    eigenvalues = torch.linspace(-1, 1, 9, dtype=torch.float64)
    matrix = symmetric(eigenvalues, make_frame)
    v = torch.randn(3, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    diagonal, beside = lanczos(lambda u: u @ matrix, v, 9)
    found = torch.linalg.eigvalsh(
        torch.diag_embed(diagonal) + torch.diag_embed(beside, 1) + torch.diag_embed(beside, -1)
    )
    torch.testing.assert_close(found, eigenvalues.expand(3, -1))


def test_shares_of_vectors_in_eigenspaces(make_frame: MakeFrame) -> None:
    """Exact with a step for each distinct eigenvalue, among rows whose Krylov spaces end earlier."""
    eigenvalues = torch.tensor([0.0] * 5 + [0.2, 0.9] + [1.0] * 3, dtype=torch.float64)
    matrix = symmetric(eigenvalues, make_frame)
    frame = make_frame(10, 10)
    v = torch.randn(6, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    v[4], v[5] = frame[:, 0], frame[:, 9] + frame[:, 5]
    weight, products = weight_above(lambda u: u @ matrix, v, 4, 0.5)
    along = (v @ frame).square()
    torch.testing.assert_close(weight, along[:, 6:].sum(1) / along.sum(1))
    assert products == 6 * 4
    assert weight_above(lambda u: u @ matrix, v, 10, 0.5)[1] == 6 * 4, "it ends where all spaces are used up"


@pytest.mark.parametrize("product", ["forward", "differences"])
@pytest.mark.parametrize(("k", "sigma"), [(0, 0.01), (3, 0.01), (3, 0.2), (12, 0.01)])
def test_coordinate_vectors_count_without_chance(
    k: int, sigma: float, product: str, make_score: MakeScore, make_sphere: MakeSphere, make_frame: MakeFrame
) -> None:
    """Points, spheres and full-rank Gaussians: 0, k and D, where probes are not fewer than coordinates.

    Differences over one deviation of the noise bend with a curved score, by sigma^2.
    """
    distribution: SphereDistribution | SubspaceGaussian
    if k == 3:
        distribution, x = make_sphere(3, ambient=12)
    else:
        variances = torch.ones(k, dtype=torch.float64)
        distribution = SubspaceGaussian(torch.zeros(12, dtype=torch.float64), make_frame(12, k), variances)
        x = torch.randn(4, k, dtype=torch.float64) @ distribution.basis.T
    found = estimate(make_score(distribution, (12,)), x, sigma=sigma, product=product)
    assert found.pointwise is not None
    assert found.pointwise.tolist() == pytest.approx(
        [float(k)] * len(x), abs=1e-6 if product == "forward" else sigma**2
    )
    assert bool((found.diagnostics["standard_error"] == 0).all())


@pytest.mark.parametrize("k", [10, 50])
def test_spheres_in_a_hundred_dimensions(k: int, make_score: MakeScore, make_sphere: MakeSphere) -> None:
    """P has three distinct eigenvalues there, so a vector takes three steps and no more."""
    distribution, x = make_sphere(k, points=40)
    found = estimate(make_score(distribution, (100,)), x, sigma=0.03, probes=32)
    assert found.interval is not None
    assert found.interval[0] - 0.2 < k < found.interval[1] + 0.2
    assert found.value == pytest.approx(k, abs=0.6)
    assert found.diagnostics["network_calls"] <= 2 * 40 * 32 * 4


def test_the_standard_error_is_that_of_rademacher_vectors(make_score: MakeScore, make_frame: MakeFrame) -> None:
    """2 (k - sum P_ii^2) / n, as for the trace of a projector."""
    basis = make_frame(24, 4)
    distribution = SubspaceGaussian(torch.zeros(24, dtype=torch.float64), basis, torch.ones(4, dtype=torch.float64))
    x = torch.zeros(800, 24, dtype=torch.float64)
    found = estimate(make_score(distribution, (24,)), x, sigma=1e-3, probes=8, points=800)
    variance = 2 * (4 - float((basis @ basis.T).diagonal().square().sum())) / 8
    assert found.pointwise is not None
    assert float(found.pointwise.var()) == pytest.approx(variance, rel=0.15)
    assert float(found.diagnostics["standard_error"].square().mean()) == pytest.approx(variance, rel=0.1)


def test_several_scales_are_counted(make_score: MakeScore, make_frame: MakeFrame) -> None:
    """Twenty variances from 1 to 1e-6: those above sigma^2, with steps for all distinct eigenvalues."""
    variances = torch.logspace(0, -6, 20, dtype=torch.float64)
    basis = make_frame(30, 20)
    distribution = SubspaceGaussian(torch.zeros(30, dtype=torch.float64), basis, variances)
    x = torch.randn(3, 20, dtype=torch.float64) * variances.sqrt() @ basis.T
    score = make_score(distribution, (30,), VEConfig(sigma_min=1e-5, sigma_max=10))
    for sigma, count in {0.3: 4, 0.1: 7, 0.03: 10, 0.01: 13, 0.003: 16, 0.0001: 20}.items():
        found = estimate(score, x, sigma=sigma, probes=30, steps=30)
        assert found.value == pytest.approx(count, abs=1e-3), sigma


def test_the_cut_off_moves_what_counts_as_near_zero(make_score: MakeScore) -> None:
    """Variances v have eigenvalues v / (v + sigma^2) of P: 0.8 and 0.3 here."""
    distribution = SubspaceGaussian(
        torch.zeros(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64), torch.tensor([0.04, 0.03 / 7]).double()
    )
    x = torch.zeros(2, 2, dtype=torch.float64)
    score = make_score(distribution, (2,))
    counts = [estimate(score, x, sigma=0.1, cutoff=cutoff).value for cutoff in (0.1, 0.5, 0.9)]
    assert counts == pytest.approx([0, 1, 2], abs=1e-9)


def test_unions_memorised_points_and_vp(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    large, on_large = make_sphere(4, ambient=14, points=3)
    small, on_small = make_sphere(8, ambient=14, radius=0.25, points=3, seed=5)
    distribution = Mixture(torch.tensor([0.5, 0.5], dtype=torch.float64), (large, small))
    x = torch.cat([on_large, on_small])
    for process in (VEConfig(sigma_min=1e-4, sigma_max=10), VPConfig(t_min=1e-7)):
        found = estimate(make_score(distribution, (14,), process), x, sigma=0.01)
        assert found.pointwise is not None
        expected = [4.0 if position < 3 else 8.0 for position in found.diagnostics["index"]]
        assert found.pointwise.tolist() == pytest.approx(expected, abs=1e-6)
    assert estimate(make_score(Points(x), (14,)), x, sigma=0.001).value == pytest.approx(0, abs=1e-9)


def test_pieces_and_company_change_nothing(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    distribution, x = make_sphere(3, ambient=18, points=8)
    base = estimate(make_score(distribution, (18,)), x, probes=6)
    images = estimate(make_score(distribution, (2, 9)), x.reshape(-1, 2, 9), probes=6, batch=4)
    torch.testing.assert_close(images.pointwise, base.pointwise)
    few = estimate(make_score(distribution, (18,)), x, probes=6, points=3, sigma=base.diagnostics["sigma"])
    assert base.pointwise is not None
    torch.testing.assert_close(few.pointwise, base.pointwise[:3])


def test_the_curve_and_its_figure(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    distribution, x = make_sphere(3, ambient=10)
    found = estimate(make_score(distribution, (10,)), x, sigma=0.01, sweep=(0.3, 3.0), shown=2)
    assert [row["value"] for row in found.diagnostics["curve"]] == pytest.approx([3, 3, 3], abs=1e-6)
    assert set(draw(found)) == {"sigma"}  # no histogram: all points read 3
    assert not draw(estimate(make_score(distribution, (10,)), x))
    with pytest.raises(ConfigError, match="sigma is 500"):
        estimate(make_score(distribution, (10,)), x, sigma=500)


def test_without_a_generator_draws_are_those_of_seed_0(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    distribution, x = make_sphere(3, ambient=12)
    score = make_score(distribution, (12,))
    plain = SpectralLanczos(LanczosConfig(probes=2, sigma=0.2), score=score).estimate(x)
    values = [estimate(score, x, seed, probes=2, sigma=0.2).value for seed in (0, 1)]
    assert plain.value == values[0] != values[1]
