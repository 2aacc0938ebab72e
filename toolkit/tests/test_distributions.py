"""Distributions say what they are, have the densities of torch's, and refuse what cannot be a distribution."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from scorefold.errors import ShapeError
from scorefold_toolkit.distributions import (
    Embedded,
    Mixture,
    Points,
    Product,
    SharedGaussians,
    SphereDistribution,
    SubspaceGaussian,
    coordinates,
    log_density,
    shared_exponents,
    translated,
)

ZERO = torch.zeros(4, dtype=torch.float64)
BASIS = torch.eye(4, dtype=torch.float64)


def test_dimensions() -> None:
    assert SubspaceGaussian(ZERO, BASIS[:, :2], torch.tensor([1.0, 0.0])).dimension == 1
    assert SubspaceGaussian(ZERO, BASIS[:, :0], torch.empty(0)).dimension == 0
    assert SphereDistribution(ZERO, BASIS[:, :3], 2.0).dimension == 2


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError, match="not orthonormal") as caught:
        SubspaceGaussian(ZERO, 2 * BASIS, torch.ones(4))
    assert "torch.linalg.qr" in str(caught.value)
    with pytest.raises(ShapeError, match=r"the centre has shape \(4,\) and the basis \(3, 2\)"):
        SphereDistribution(ZERO, BASIS[:3, :2], 1.0)
    with pytest.raises(ShapeError, match="expected 2 numbers >= 0"):
        SubspaceGaussian(ZERO, BASIS[:, :2], torch.ones(3))
    with pytest.raises(ShapeError, match="expected 2 numbers >= 0"):
        SubspaceGaussian(ZERO, BASIS[:, :2], torch.tensor([1.0, -1.0]))
    with pytest.raises(ShapeError, match="sphere of radius 0"):
        SphereDistribution(ZERO, BASIS, 0.0)
    with pytest.raises(ShapeError, match="with N at least 1"):
        Points(torch.empty(0, 3))
    with pytest.raises(ShapeError, match="with C at least 1"):
        SharedGaussians(ZERO, BASIS, torch.ones(4))
    with pytest.raises(ShapeError, match="3 columns; expected 4") as caught:
        SharedGaussians(ZERO[None], BASIS[:, :3], torch.ones(3))
    assert "complete it" in str(caught.value)
    with pytest.raises(ShapeError, match="expected 4 numbers >= 0"):
        SharedGaussians(ZERO[None], BASIS, -torch.ones(4))


def test_weights_are_a_distribution_over_the_components() -> None:
    points = Points(ZERO[None])
    assert Mixture(torch.tensor([0.5, 0.5]), (points, points)).components == (points, points)
    with pytest.raises(ShapeError, match="1 components and weights of shape"):
        Mixture(torch.tensor([0.5, 0.5]), (points,))
    with pytest.raises(ShapeError, match="non-negative and sum to 1"):
        Mixture(torch.tensor([0.5, 0.6]), (points, points))


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def turned(size: int) -> Tensor:
    return torch.linalg.qr(normal(size, size, seed=9)).Q


VARIANCES = torch.tensor([0.3, 2.0, 5.0], dtype=torch.float64)
GAUSSIAN = SubspaceGaussian(normal(3, seed=1), turned(3), VARIANCES)
SHARED = SharedGaussians(2 * normal(4, 3, seed=2), turned(3), VARIANCES)
COVARIANCE = turned(3) @ VARIANCES.diag() @ turned(3).T


def test_coordinates_are_counted() -> None:
    circle = SphereDistribution(torch.zeros(5), torch.eye(5)[:, :2], 1.0)
    assert [coordinates(each) for each in (GAUSSIAN, SHARED, Points(normal(2, 7)), circle)] == [3, 3, 7, 5]
    assert coordinates(Product((GAUSSIAN, circle))) == 8
    assert coordinates(Mixture(torch.ones(1), (circle,))) == 5
    assert coordinates(Embedded(GAUSSIAN, ZERO, turned(4)[:, :3])) == 4


def test_densities_are_those_of_torch() -> None:
    x = normal(6, 3, seed=3)
    one = MultivariateNormal(GAUSSIAN.mean, COVARIANCE).log_prob(x)
    torch.testing.assert_close(log_density(GAUSSIAN, x), one)
    each = torch.stack([MultivariateNormal(mean, COVARIANCE).log_prob(x) for mean in SHARED.means])
    torch.testing.assert_close(log_density(SHARED, x), each.exp().mean(0).log())
    uneven = Mixture(torch.tensor([0.2, 0.8]), (GAUSSIAN, SHARED))
    expected = (0.2 * one.exp() + 0.8 * each.exp().mean(0)).log()
    torch.testing.assert_close(log_density(uneven, x), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(log_density(Product((GAUSSIAN, GAUSSIAN)), torch.cat([x, x], 1)), 2 * one)
    basis, centre = turned(3).flip(1), normal(3, seed=4)
    torch.testing.assert_close(log_density(Embedded(GAUSSIAN, centre, basis), centre + x @ basis.T), one)
    shift = normal(3, seed=5)
    for distribution in (GAUSSIAN, SHARED, uneven, Embedded(GAUSSIAN, centre, basis)):
        moved = log_density(translated(distribution, shift), x + shift)
        torch.testing.assert_close(moved, log_density(distribution, x))


def test_what_has_no_density_has_none() -> None:
    flat = SubspaceGaussian(ZERO, BASIS[:, :2], torch.ones(2))
    for distribution in (flat, Points(ZERO[None]), SphereDistribution(ZERO, BASIS, 1.0)):
        assert log_density(distribution, ZERO[None]) is None
        assert log_density(Product((flat, distribution)), torch.zeros(1, 8)) is None
    assert log_density(Embedded(GAUSSIAN, ZERO, BASIS[:, :3]), ZERO[None]) is None


def test_exponents_are_half_the_squared_distances_in_deviations() -> None:
    x = 100 + normal(5, 3, seed=6)
    apart = x[:, None] - SHARED.means
    expected = -torch.einsum("nci,ij,ncj->nc", apart, COVARIANCE.inverse(), apart) / 2
    torch.testing.assert_close(shared_exponents(SHARED, x), expected)
