"""Numbers that are known: banana, river, Gaussians, and psi = cosh, worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from scorefold.interfaces import Flow
from scorefold_pullback.config import CoshConfig, PullbackConfig
from scorefold_pullback.flows.config import IdentityConfig
from scorefold_pullback.flows.linear import IdentityFlow
from scorefold_pullback.geometry.pullback import Pullback
from scorefold_pullback.manifolds import energy, score
from scorefold_pullback.potentials import Cosh, convex_conjugate
from scorefold_toolkit.potential import Potential

Make = Callable[..., Pullback]


def row(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


def same(got: Tensor, *expected: float, digits: float = 1e-12) -> None:
    torch.testing.assert_close(got.reshape(-1), torch.tensor(expected, dtype=torch.float64), rtol=digits, atol=digits)


@pytest.fixture
def banana(make_geometry: Make) -> Pullback:
    return make_geometry("banana")


def test_geodesics_of_the_banana(banana: Pullback) -> None:
    x, y = row(2, 4), row(2, -4)
    same(banana.flow(x)[0], 2 / 9, 4)
    same(banana.mean(torch.cat([x, y])), 2 / 9, 0)
    same(banana.geodesic(x, y, torch.tensor([0.25, 0.5], dtype=torch.float64)), 2 / 3, 2, 2 / 9, 0)
    velocity = banana.log(x, y)
    same(velocity, -64 / 9, -8)
    same(banana.exp(x, velocity), 2, -4)
    same(banana.distance(x, y), 2)
    same(banana.norm(x, velocity), 2)
    same(banana.transport(x, y, velocity), 64 / 9, -8)
    same(-banana.log(y, x), 64 / 9, -8)


def test_the_metric_of_the_banana(banana: Pullback) -> None:
    same(banana.metric(row(0, 0)), 16, 0, 0, 1 / 16)
    same(banana.metric(row(2, 4)), 16, -128 / 9, -128 / 9, 12.704475308641975)
    assert pytest.approx(12.704475308641975, rel=1e-15) == 16 * 64 / 81 + 1 / 16
    same(banana.inner(row(2, 4), row(1, 0), row(0, 1)), -128 / 9)


def test_off_the_banana_is_as_far_as_along_it(banana: Pullback) -> None:
    """In the metric ``score`` 0.5 across costs 2, as 8 along the arc does; whitened, 1 and 4; latent, 0.5 and 8."""
    x, across, along = row(2, 4), row(2.5, 4), row(2, -4)
    for metric, costs in (("score", (2, 2)), ("whitened", (1, 4)), ("latent", (0.5, 8))):
        space = Pullback(banana.config.model_copy(update={"metric": metric}), flow=banana.flow)
        same(torch.cat([space.distance(x, across), space.distance(x, along)]), *costs)


def test_the_river(make_geometry: Make) -> None:
    river = make_geometry("river")
    x, y = row(0.5, 0.3), row(-0.2, -1.1)
    same(river.flow(x)[0], -0.0646424733950354, 0.3)
    same(river.flow(y)[0], 0.6084964038195901, -1.1)
    same(river.distance(x, y), 16.834941202418317)
    velocity = river.log(x, y)
    same(velocity, -1.637800844532474, -1.4)
    same(river.geodesic(x, y, row(0.5)[0]), -0.4454291256872454, -0.4)
    same(river.transport(x, y, velocity), 2.320942005529594, -1.4)


def test_how_far_the_river_stretches(make_geometry: Make) -> None:
    """sup |D phi^-1|^2 = 3 + 2 sqrt 2, where cos 2 z_2 is 1 or -1."""
    river = make_geometry("river", metric="latent")
    stretch = torch.linalg.eigvalsh(river.metric(torch.tensor([[0.0, 0.0], [1.0, math.pi / 2], [0.3, 0.7]]).double()))
    same(1 / stretch[:2, 0], 3 + 2 * math.sqrt(2), 3 + 2 * math.sqrt(2))
    assert float(1 / stretch[2, 0]) < 3 + 2 * math.sqrt(2)


@pytest.fixture
def line() -> Pullback:
    """The real line with psi = cosh, where A does not cancel and nothing that is hard-wired to a Gaussian holds."""
    flow = IdentityFlow(IdentityConfig(event_shape=(1,)), dtype=torch.float64)
    return Pullback(PullbackConfig(), flow=flow, psi=Cosh(CoshConfig()))


def test_psi_is_cosh(line: Pullback) -> None:
    zero, one, half = row(0), row(1), row(0.5)[0]
    same(line.distance(zero, one), 1.1752011936438014)
    same(line.geodesic(zero, one, half), 0.5581634595116061)
    same(line.geodesic(zero, one, half), math.asinh(math.sinh(1) / 2))
    same(line.log(zero, one), 1.1752011936438014)
    same(line.log(one, zero), -0.7615941559557649)
    assert isinstance(line.psi, Potential)
    same(convex_conjugate(line.psi, one), -0.5328399753535521)
    x, y = row(-0.5), row(1.5)
    same(line.distance(x, y), 2.650374760588565)
    same(line.geodesic(x, y, half), 0.7358604413629517)
    same(line.log(x, y), 2.350402387287603)
    same(line.transport(x, y, one), 0.4793493267071944)


def test_a_gaussian_is_linear_algebra(make_geometry: Make, generator: torch.Generator) -> None:
    """Sigma = [[2, 1], [1, 2]]: A = (3, 1), G = Sigma^-2, straight geodesics, and no Mahalanobis distance."""
    plane = make_geometry("linear", covariance=((2.0, 1.0), (1.0, 2.0)), mean=(1.0, -1.0))
    sigma = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    x, y = row(2, 0), row(0, 1)
    same((2 * plane.flow.base.log_std).exp(), 3, 1)  # type: ignore[attr-defined]
    same(plane.metric(x), 5 / 9, -4 / 9, -4 / 9, 5 / 9)
    same(plane.distance(x, y), float((torch.linalg.inv(sigma) @ (x - y)[0]).norm()))
    assert float(plane.distance(x, y)) == pytest.approx(2.1344, abs=5e-5)
    whitened = Pullback(plane.config.model_copy(update={"metric": "whitened"}), flow=plane.flow)
    assert float(whitened.distance(x, y)) == pytest.approx(2.1602, abs=5e-5)
    same(plane.log(x, y), -2, 1)
    same(plane.geodesic(x, y, row(0.25)[0]), 1.5, 0.25)
    points = torch.randn(6, 2, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(plane.mean(points), points.mean(0))
    distribution = torch.distributions.MultivariateNormal(row(1, -1)[0], sigma)
    torch.testing.assert_close(plane.flow.log_prob(points), distribution.log_prob(points))


def test_the_score_pullback_is_the_metric_where_phi_is_rigid(make_geometry: Make) -> None:
    plane = make_geometry("linear", covariance=((2.0, 1.0), (1.0, 2.0)))
    x = row(0.3, -1.2)
    slope = torch.autograd.functional.jacobian(lambda at: score(plane.flow, plane.psi, at[None])[0], x[0])
    torch.testing.assert_close(slope.mT @ slope, plane.metric(x)[0])


@pytest.mark.parametrize(("name", "entropy"), [("banana", 2.8378771), ("squeezed", 1.3337997), ("river", 1.7777453)])
def test_entropies(make_flow: Callable[..., Flow], name: str, entropy: float) -> None:
    """E[-log p] is the Gaussian's, as the maps keep volume: log 2 pi e + log(a_1 a_2) / 2."""
    flow = make_flow(name)
    variances = torch.tensor(flow.config.variances, dtype=torch.float64)  # type: ignore[attr-defined]
    # x at one deviation in each latent coordinate: -log p is there what it is on average.
    x = flow.inverse(variances.sqrt()[None])[0]
    same(-flow.log_prob(x), entropy, digits=5e-8)


def test_the_score_is_the_gradient_of_the_density(make_flow: Callable[..., Flow], generator: torch.Generator) -> None:
    for name in ("banana", "river"):
        flow = make_flow(name)
        x = torch.randn(5, 2, generator=generator, dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(flow.log_prob(x).sum(), x)
        psi = flow.base
        assert isinstance(psi, Potential)
        torch.testing.assert_close(score(flow, psi, x), gradient)
        constants = energy(flow, psi, x) + flow.log_prob(x)
        torch.testing.assert_close(constants, constants[:1].expand(5))
