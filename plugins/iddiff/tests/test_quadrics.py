"""The quadrics that are fitted to data: found where there are any, owned up to where there are none."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from scorefold_iddiff.manifold_mlp import LEADING, Quadrics, before_gap, monomials, squared_gradients


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def drawn(generator: torch.Generator, *shape: int) -> Tensor:
    values: Tensor = torch.randn(*shape, dtype=torch.float64, generator=generator)
    return values


def sphere(generator: torch.Generator, points: int, coordinates: int) -> Tensor:
    return functional.normalize(drawn(generator, points, coordinates), dim=1)


def principal_coordinates(x: Tensor) -> tuple[Tensor, Tensor]:
    variances, basis = torch.linalg.eigh(x.mT @ x / len(x))
    return x @ basis.flip(1), variances.flip(0).clamp_min(0)


def fitted(x: Tensor, count: int = 1) -> tuple[Quadrics, Tensor]:
    """Quadrics near points x (N, m), and x in the coordinates that they are given in."""
    u, variances = principal_coordinates(x)
    quadrics = Quadrics(x.shape[1], count).double()
    quadrics.fit(u, variances)
    return quadrics, u


def test_on_a_sphere_the_first_gives_the_radius_and_the_radial_direction(generator: torch.Generator) -> None:
    quadrics, u = fitted(3 * sphere(generator, 1000, 6), 2)
    assert float(quadrics.distances[0]) < 0.01 < 0.1 < float(quadrics.distances[1])
    heights = torch.linspace(-0.02, 0.02, 1000, dtype=torch.float64)[:, None]
    d, n = quadrics((1 + heights / 3) * u)
    torch.testing.assert_close(d[:, :1].abs(), heights.abs(), rtol=0.02, atol=1e-6)
    torch.testing.assert_close(n[:, 0], u / 3, rtol=0, atol=1e-3)


def test_noise_in_other_directions_does_not_hide_a_sphere(generator: torch.Generator) -> None:
    """Along noise every plane is near, and as many coefficients as points fit anything."""
    clean = functional.pad(sphere(generator, 3000, 6), (0, 24))
    quadrics, u = fitted(clean + 0.05 * drawn(generator, 3000, 30), 2)
    assert float(quadrics.forms[:, 6:].abs().max()) == 0.0
    assert 0.04 < float(quadrics.distances[0]) < 0.07
    n = quadrics(u)[1][:, 0, :6]
    cosines = (functional.normalize(n, dim=1) * functional.normalize(u[:, :6], dim=1)).sum(1)
    assert float(cosines.abs().median()) > 0.95


def test_thin_directions_that_belong_to_the_surface_are_kept(generator: torch.Generator) -> None:
    """The widest gap of the variances is inside the surface's own span here."""
    axes = torch.tensor([3.0, 2.9, 2.8, 0.2, 0.2], dtype=torch.float64)
    quadrics, u = fitted(sphere(generator, 3000, 5) * axes)
    assert before_gap(u.square().mean(0)) == 3
    assert float(quadrics(u)[0].abs().max()) < 1e-6


def test_on_an_ellipsoid_the_normal_is_that_of_the_surface(generator: torch.Generator) -> None:
    axes = torch.tensor([3.0, 1.0, 0.3], dtype=torch.float64)
    quadrics, u = fitted(sphere(generator, 3000, 3) * axes)
    d, n = quadrics(u)
    assert float(d.abs().max()) < 1e-6
    variances = u.square().mean(0)
    exact = functional.normalize(u / variances, dim=1)
    # In the mean, for a sample leaves the quadric's coefficients uncertain where few of its points lie.
    cosines = (functional.normalize(n[:, 0], dim=1) * exact).sum(1)
    assert float(cosines.mean()) > 0.99
    assert float(cosines.quantile(0.05)) > 0.98


def test_on_a_product_of_circles_the_normals_span_those_of_all_circles(generator: torch.Generator) -> None:
    circles = [sphere(generator, 2000, 2) for _ in range(3)]
    turn = torch.linalg.qr(drawn(generator, 6, 6)).Q
    quadrics, u = fitted(torch.cat(circles, 1) @ turn.mT, 4)
    assert (quadrics.distances < 0.01).tolist() == [True, True, True, False]
    rank = torch.linalg.matrix_rank(quadrics(u[:20])[1][:, :3], atol=1e-3)
    assert rank.tolist() == [3] * 20


def test_on_a_product_of_unlike_spheres_both_are_found(generator: torch.Generator) -> None:
    """Where the second quadric has a constant of its own."""
    quadrics, u = fitted(torch.cat([2 * sphere(generator, 3000, 3), 0.5 * sphere(generator, 3000, 2)], 1), 3)
    assert float(quadrics.constant[1].abs()) > 0.1
    assert float(quadrics(u)[0][:, :2].abs().max()) < 1e-3 < 0.1 < float(quadrics.distances[2])


def test_a_union_in_independent_subspaces_lies_on_one_quadric(generator: torch.Generator) -> None:
    """Though their spans are not orthogonal, and no level of the covariance's quadric holds both."""
    spans = torch.linalg.qr(drawn(generator, 12, 3)).Q, torch.linalg.qr(drawn(generator, 12, 5)).Q
    parts = [
        radius * sphere(generator, 2000, span.shape[1]) @ span.mT for radius, span in zip((1, 0.25), spans, strict=True)
    ]
    points = torch.cat(parts)[torch.randperm(4000, generator=generator)]
    quadrics, u = fitted(points)
    assert float(quadrics.distances) < 0.01
    assert float(quadrics(u)[1].norm(dim=2).min()) > 0.1
    variances = u.square().mean(0)
    levels = (u.square() / variances)[:, variances > 1e-9].sum(1)
    assert float(levels.std() / levels.mean()) > 0.2


def test_data_on_no_quadric_are_said_to_be_far_from_it(generator: torch.Generator) -> None:
    assert float(fitted(drawn(generator, 4000, 4), 3)[0].distances.min()) > 0.3


def test_too_few_points_make_no_quadric(generator: torch.Generator) -> None:
    """30 points in 20 dimensions lie on some quadric, which the next 30 are far from."""
    quadrics, u = fitted(drawn(generator, 60, 20))
    assert float(quadrics(u[:30])[0].abs().max()) < 1e-3
    assert float(quadrics.distances) > 0.3


def test_distances_and_normals_are_bounded(generator: torch.Generator) -> None:
    quadrics, u = fitted(sphere(generator, 1000, 4), 3)
    d, n = quadrics(torch.stack([torch.zeros_like(u[0]), 1e6 * u[0]]))
    assert float(d.abs().max()) <= 0.51
    assert float(n.norm(dim=2).max()) <= 1


def test_shrunk_points_have_the_surface_that_they_shrink_onto(generator: torch.Generator) -> None:
    """q(s u) has the gradient s q'(s u) in u, which also is what d is in units of."""
    quadrics, u = fitted(sphere(generator, 1000, 3) * torch.tensor([3.0, 1.0, 0.5]), 2)
    u, shrink = 1.3 * u[:20], torch.tensor([0.9, 0.5, 0.2], dtype=torch.float64).expand(20, 3)
    d, n = quadrics(u, shrink)
    plain, normal = quadrics(shrink * u)
    torch.testing.assert_close(n * plain[..., None], shrink[:, None] * normal * d[..., None])
    torch.testing.assert_close(n.square().sum(2) + (d / quadrics.reach).square(), torch.ones(20, 2).double())


def test_before_the_fit_there_is_none_and_small_spaces_have_few(generator: torch.Generator) -> None:
    d, n = Quadrics(4, 2)(torch.ones(3, 4))
    assert not d.any()
    assert not n.any()
    quadrics, u = fitted(sphere(generator, 50, 1), 16)  # two points: u^2 = 1, which leaves one more coefficient
    assert int((quadrics(u)[1].norm(dim=2) > 0).any(0).sum()) <= 2


def test_only_leading_and_visible_directions_are_looked_at(generator: torch.Generator) -> None:
    wide = 0.5 * sphere(generator, 6000, 3)
    x = torch.cat([wide, 1e-3 * drawn(generator, 6000, LEADING)], 1)
    quadrics, _ = fitted(x)
    assert quadrics.forms.shape == (1, LEADING, LEADING)
    assert not quadrics.forms[:, 3:].any()
    assert float(quadrics.distances) < 0.01


def test_where_no_direction_stands_out_there_is_none(generator: torch.Generator) -> None:
    quadrics = Quadrics(20_000, 2).double()
    quadrics.fit(drawn(generator, 5, 20_000), torch.ones(20_000, dtype=torch.float64))
    assert not quadrics(drawn(generator, 3, 20_000))[0].any()


def test_squared_gradients_of_monomials_are_those_of_autograd(generator: torch.Generator) -> None:
    variances = torch.tensor([2.0, 0.5], dtype=torch.float64)
    white = drawn(generator, 500, 2)
    white = white - white.mean(0)
    white = white @ torch.linalg.inv(torch.linalg.cholesky(white.mT @ white / 500)).mT
    u = (white * variances.sqrt()).requires_grad_()
    values = monomials(u / variances.sqrt())
    gradients = [torch.autograd.grad(values[:, j].sum(), u, retain_graph=True)[0] for j in range(5)]
    gram = torch.stack([torch.stack([(a * b).sum(1).mean() for b in gradients]) for a in gradients])
    torch.testing.assert_close(gram, squared_gradients(variances).diag(), rtol=1e-10, atol=1e-10)
