"""Distributions say what they are and refuse what cannot be a distribution."""

from __future__ import annotations

import pytest
import torch

from scorefold.errors import ShapeError
from scorefold_toolkit.distributions import Mixture, Points, SharedGaussians, SphereDistribution, SubspaceGaussian

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
