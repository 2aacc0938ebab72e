"""The quadric that is fitted to data: found where there is one, owned up to where there is none."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from scorefold_iddiff.quadric import Quadric, unit_level


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def drawn(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def fitted(points: Tensor) -> Quadric:
    quadric = Quadric(points.shape[1]).double()
    quadric.fit(points, points.square().mean(0))
    return quadric


def test_on_a_sphere_it_gives_the_radius_and_the_radial_direction(generator: torch.Generator) -> None:
    radial = functional.normalize(drawn(generator, 400, 6), dim=1)
    quadric = fitted(3 * radial)
    assert float(quadric.distance) < 0.01
    heights = torch.linspace(-0.02, 0.02, 400, dtype=torch.float64)[:, None]
    d, n = quadric((3 + heights) * radial)
    torch.testing.assert_close(d, heights, rtol=0.02, atol=1e-6)
    torch.testing.assert_close(n, radial, rtol=0, atol=1e-3)


def test_on_an_ellipsoid_the_normal_is_that_of_the_surface(generator: torch.Generator) -> None:
    axes = torch.tensor([3.0, 1.0, 0.3], dtype=torch.float64)
    points = functional.normalize(drawn(generator, 3000, 3), dim=1) * axes
    d, n = fitted(points)(points)
    assert float(d.abs().max()) < 1e-6
    torch.testing.assert_close(n, functional.normalize(points / axes**2, dim=1), rtol=0, atol=1e-4)


def test_a_union_in_independent_subspaces_lies_on_one_quadric(generator: torch.Generator) -> None:
    """Though their spans are not orthogonal, and the quadric nearest to the covariance's holds neither part."""
    spans = torch.linalg.qr(drawn(generator, 12, 3)).Q, torch.linalg.qr(drawn(generator, 12, 5)).Q
    parts = [
        radius * functional.normalize(drawn(generator, 2000, span.shape[1]), dim=1) @ span.mT
        for radius, span in zip((1.0, 0.25), spans, strict=True)
    ]
    points = torch.cat(parts)[torch.randperm(4000, generator=generator)]
    variances, basis = torch.linalg.eigh(points.mT @ points / 4000)
    u = points @ basis
    quadric = Quadric(12).double()
    quadric.fit(u, variances.clamp_min(0))
    assert float(quadric.distance) < 0.01
    radius = (u.square() / variances.clamp_min(1e-6) * (variances > 1e-9)).sum(1)
    assert float(radius.std() / radius.mean()) > 0.2


def test_data_on_no_quadric_are_said_to_be_far_from_it(generator: torch.Generator) -> None:
    points = drawn(generator, 4000, 4)
    assert float(fitted(points).distance) > 0.3


def test_too_few_points_make_no_quadric(generator: torch.Generator) -> None:
    """30 points in 20 dimensions lie on some quadric; the next 30 don't."""
    points = drawn(generator, 60, 20)
    form, linear = unit_level(points[:30])
    assert float(((points[:30] @ form + linear) * points[:30]).sum(1).sub(1).abs().max()) < 1e-3
    assert float(fitted(points).distance) > 0.5


def test_distance_and_normal_turn_with_the_data_and_are_bounded(generator: torch.Generator) -> None:
    points = functional.normalize(drawn(generator, 1000, 4), dim=1)
    turn = torch.linalg.qr(drawn(generator, 4, 4)).Q
    probes = drawn(generator, 50, 4)
    d, n = fitted(points)(probes)
    turned_d, turned_n = fitted(points @ turn.mT)(probes @ turn.mT)
    torch.testing.assert_close(turned_d, d, rtol=0, atol=0.02)
    torch.testing.assert_close(turned_n, n @ turn.mT, rtol=0, atol=0.02)
    far, normal = fitted(points)(torch.stack([torch.zeros_like(points[0]), 1e6 * points[0]]))
    assert float(far.abs().max()) <= 0.51
    assert float(normal.norm(dim=1).max()) <= 1


def test_before_it_is_fitted_it_is_a_sphere_that_unit_variances_are_near() -> None:
    d, n = Quadric(4)(torch.tensor([[2.0, 0, 0, 0], [0, 2.2, 0, 0]]))
    torch.testing.assert_close(d[:, 0], torch.tensor([0.0, 0.2]), rtol=0.1, atol=1e-6)
    torch.testing.assert_close(n[0], torch.tensor([1.0, 0, 0, 0]))
