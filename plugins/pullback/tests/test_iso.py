"""Iso-Riemannian geometry: the parabola's arc length in closed form, and what holds on an untrained flow."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from scorefold.errors import DataError, ShapeError
from scorefold.interfaces import Flow
from scorefold_pullback.config import CoshConfig, IsoPullbackConfig
from scorefold_pullback.geometry.chart import Chart
from scorefold_pullback.geometry.iso import Arc, IsoPullback, gauss_legendre
from scorefold_pullback.potentials import Cosh
from scorefold_pullback.tangent_pca import low_rank, tangent_pca

MakeFlow = Callable[..., Flow]
close = torch.testing.assert_close


@pytest.fixture
def banana(make_flow: MakeFlow) -> IsoPullback:
    return IsoPullback(IsoPullbackConfig(), flow=make_flow("banana"))


@pytest.fixture
def space(make_flow: MakeFlow) -> IsoPullback:
    return IsoPullback(IsoPullbackConfig(), flow=make_flow("coupling"))


@pytest.fixture
def xy(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    x, y, v = torch.randn(3, 4, 4, generator=generator, dtype=torch.float64)
    return x, y, v


def row(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


def test_the_arc_of_the_banana(banana: IsoPullback) -> None:
    x, y, k = row(2, 4), row(2, -4), 2 / 9

    def arc_length(z: float) -> float:
        return z / 2 * math.sqrt(1 + (k * z) ** 2) + math.asinh(k * z) / (2 * k)

    close(banana.distance(x, y), row(2 * arc_length(4))[0], rtol=1e-14, atol=0)
    close(banana.distance(x, y), row(8.954453507613854)[0], rtol=1e-14, atol=0)
    path = banana.geodesic(x, y, torch.tensor([0, 0.25, 0.5, 1], dtype=torch.float64))
    expected = torch.cat([x, row(0.739896919851144, 2.158488424490689), row(2 / 9, 0), y])
    close(path[0], expected, rtol=1e-13, atol=1e-13)
    plain = banana.pullback.geodesic(x, y, row(0.25)[0])[0]
    close(plain, row(2 / 3, 2))
    close(banana.log(x, y), row(-5.949015106942, -6.692641995310), rtol=1e-12, atol=1e-12)
    close(banana.exp(x, banana.log(x, y)), y, rtol=1e-12, atol=1e-12)
    close(banana.mean(torch.cat([x, y])), row(2 / 9, 0)[0], rtol=0, atol=1e-12)


def test_logarithms_and_exponentials_by_length(space: IsoPullback, xy: tuple[Tensor, ...]) -> None:
    x, y, v = xy
    log = space.log(x, y)
    close(space.norm(x, log), space.distance(x, y))
    close(space.norm(x, log), log.norm(dim=1))
    close(space.exp(x, log), y, rtol=1e-8, atol=1e-8)
    close(space.log(x, space.exp(x, v)), v, rtol=1e-8, atol=1e-8)
    close(space.distance(x, y), space.distance(y, x), rtol=1e-9, atol=1e-9)
    zero = torch.zeros_like(x)
    assert torch.equal(space.distance(x, x), zero[:, 0])
    assert torch.equal(space.log(x, x), zero)
    close(space.exp(x, zero), x)
    far = space.exp(x[:1], 20 * v[:1])
    close(space.distance(x[:1], far), 20 * v[:1].norm(dim=1), rtol=1e-4, atol=0)


def test_the_curves_are_the_pullbacks_at_even_speed(space: IsoPullback, xy: tuple[Tensor, ...]) -> None:
    x, y, _ = xy
    s = torch.linspace(0, 1, 9, dtype=torch.float64)
    path = space.geodesic(x, y, s)
    close(path[:, [0, -1]], torch.stack([x, y], dim=1), rtol=1e-9, atol=1e-9)
    pieces = torch.stack([space.distance(path[:, i], path[:, i + 1]) for i in range(8)])
    close(pieces, (space.distance(x, y) / 8).expand(8, -1), rtol=1e-6, atol=1e-6)
    fine = space.pullback.geodesic(x, y, torch.linspace(0, 1, 20_001, dtype=torch.float64))
    close(space.distance(x, y), fine.diff(dim=1).norm(dim=2).sum(1), rtol=1e-6, atol=0)
    nearest = torch.cdist(path, fine).amin(2)
    assert float(nearest.detach().max()) < 1e-3


def test_psi_bends_the_curves_where_it_is_not_quadratic(make_flow: MakeFlow) -> None:
    x, y = row(2, 4), row(2, -1)
    plain, bent = (IsoPullback(IsoPullbackConfig(), flow=make_flow("river"), psi=p) for p in (None, Cosh(CoshConfig())))
    assert abs(float(plain.distance(x, y)) - float(bent.distance(x, y))) > 0.01
    for metric in ("whitened", "latent"):
        other = IsoPullback(IsoPullbackConfig.model_validate({"metric": metric}), flow=make_flow("river"))
        close(other.distance(x, y), plain.distance(x, y))


def test_gradients_flow_through(space: IsoPullback, xy: tuple[Tensor, ...]) -> None:
    x, y, v = (value[:2].clone().requires_grad_() for value in xy)
    s = torch.tensor([0.3, 0.8], dtype=torch.float64)
    assert torch.autograd.gradcheck(space.distance, (x, y), fast_mode=True)
    assert torch.autograd.gradcheck(lambda a, b: space.geodesic(a, b, s), (x, y), fast_mode=True)
    assert torch.autograd.gradcheck(space.exp, (x, v), fast_mode=True)
    assert torch.autograd.gradcheck(space.log, (x, y), fast_mode=True)


def test_derivatives_where_a_curve_begins(space: IsoPullback) -> None:
    """To first order all maps are Euclidean: at no velocity, and where the ends of a curve meet."""
    x, one = row(0.3, -0.5, 1.0, 0.2), torch.eye(4, dtype=torch.float64)

    def slope(function: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
        found: Tensor = torch.autograd.functional.jacobian(lambda v: function(v[None])[0], at[0])
        return found

    close(slope(lambda v: space.exp(x, v), 0 * x), one)
    close(slope(lambda y: space.log(x, y), x), one)
    close(slope(lambda y: space.geodesic(x, y, row(0.25)[0])[:, 0], x), 0.25 * one)
    assert torch.equal(slope(lambda v: space.norm(x, v), 0 * x), torch.zeros(4, dtype=torch.float64))


def test_the_barycentre_balances(space: IsoPullback, xy: tuple[Tensor, ...]) -> None:
    points = torch.cat(xy)
    weights = torch.linspace(0, 2, len(points), dtype=torch.float64)
    mean = space.mean(points, weights)
    pull = (weights[:, None] * space.log(mean[None], points)).sum(0) / weights.sum()
    assert float(pull.detach().norm()) < 1e-10
    with pytest.raises(DataError, match="no barycentre was found: after 1 moves"):
        IsoPullback(IsoPullbackConfig(iterations=1), flow=space.pullback.flow).mean(points, weights)


def test_steps_towards_a_barycentre_are_halved(make_flow: MakeFlow) -> None:
    """On a sharply bent banana the first whole step makes the sum of the logarithms of these six points larger."""
    generator = torch.Generator().manual_seed(0)
    flow = make_flow("banana", curvature=1.0).requires_grad_(False)
    space = IsoPullback(IsoPullbackConfig(), flow=flow)
    z = torch.randn(6, 2, generator=generator, dtype=torch.float64) * torch.tensor([0.8, 4.0]).double()
    points = flow.inverse(z)[0]
    start = space.pullback.mean(points)
    moved = start + space.log(start[None], points).mean(0)
    pull, larger = (space.log(at[None], points).mean(0).norm() for at in (start, moved))
    assert float(larger) > float(pull)
    assert float(space.log(space.mean(points)[None], points).mean(0).norm()) < 1e-9


def test_second_derivatives(banana: IsoPullback) -> None:
    banana.requires_grad_(False)
    x, y, v = (row(*given).requires_grad_() for given in ((2, 4), (1, -3), (-1, 2)))
    for function, given in (
        (banana.exp, (x, v)),
        (banana.log, (x, y)),
        (lambda a, b: banana.geodesic(a, b, row(0.3)[0]), (x, y)),
    ):
        assert torch.autograd.gradgradcheck(function, given, atol=1e-4, rtol=1e-4)


def test_low_rank_is_better_by_length(banana: IsoPullback, generator: torch.Generator) -> None:
    """Points along the arc, unevenly fast in the flow: one direction holds them either way, and two hold all."""
    banana.requires_grad_(False)
    z = torch.randn(60, 2, generator=generator, dtype=torch.float64) * torch.tensor([0.5, 2.0]).double()
    x = banana.pullback.flow.inverse(z)[0]
    close(low_rank(banana, x, 2), x, rtol=1e-7, atol=1e-7)
    pca = tangent_pca(banana, x, 1)
    spread = (x - pca.mean).square().sum(1).mean()
    errors = [(low_rank(space, x, 1) - x).square().sum(1).mean() / spread for space in (banana, banana.pullback)]
    assert float(errors[0]) < 0.1
    assert float(errors[0]) < float(errors[1])


def test_quadrature() -> None:
    for nodes in (2, 5, 16):
        points, weights = gauss_legendre(nodes)
        for power in range(2 * nodes):
            assert float((weights * points**power).sum()) == pytest.approx(1 / (power + 1), rel=1e-12)


def _curve(back: Callable[[Tensor], Tensor]) -> Chart:
    """A chart of which only the way back is asked for."""
    return Chart(lambda x: x, back)


def test_lengths_where_the_speed_is_0() -> None:
    """t^3 from -1 to 1 stands still in the middle, where Newton alone would divide by 0."""
    arc = Arc(_curve(lambda w: w**3), row(-1), row(2), panels=4, nodes=4)
    close(arc.length(), row(2)[0])
    t = arc.times(row(0.0, 0.25, 0.5, 0.75, 1.0))
    close(arc.points(t)[0, :, 0], row(-1.0, -0.5, 0.0, 0.5, 1.0)[0], rtol=1e-9, atol=1e-9)


def test_times_are_found_where_newton_alone_would_fly_off() -> None:
    """arctan 5 (w - 0.6) is slow in the middle, from which a whole Newton step leaves the curve."""
    arc = Arc(_curve(lambda w: (5 * (w - 0.6)).atan()), row(-1), row(2), panels=1, nodes=64)
    close(arc.length(), row(math.atan(2) + math.atan(8))[0])
    t = arc.times(row(math.atan(8) / (math.atan(2) + math.atan(8))))
    close(t, row(0.8), rtol=1e-10, atol=1e-10)


def test_refusals(banana: IsoPullback, make_flow: MakeFlow) -> None:
    x = row(2, 4)
    with pytest.raises(DataError, match="expected shares of the length, 0 to 1"):
        banana.geodesic(x, x, row(1.5)[0])
    with pytest.raises(ShapeError, match=r"expected \(T,\)"):
        banana.geodesic(x, x, x)
    for wrong in (row(float("nan"), 0), row(1, 2, 3)):
        with pytest.raises(DataError):
            banana.log(x, wrong)
        with pytest.raises(DataError):
            banana.exp(x, wrong)
    with pytest.raises(ShapeError, match="different lengths"):
        banana.inner(x, torch.zeros(2, 2).double(), torch.zeros(3, 2).double())
