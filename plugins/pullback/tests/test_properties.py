"""What holds for any flow and any psi: an untrained coupling flow in R^4, its base or another potential."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.func import jacrev, jvp

from scorefold.data import DataSpec
from scorefold.interfaces import Flow
from scorefold_pullback.config import CoshConfig, LogCoshConfig, LogSumExpConfig, PullbackConfig, QuadraticConfig
from scorefold_pullback.geometry.pullback import Pullback
from scorefold_pullback.manifolds import score
from scorefold_pullback.potentials import Cosh, LogCosh, LogSumExp, QuadraticPotential
from scorefold_standard.config import AffineCouplingConfig
from scorefold_standard.coupling_flows import CouplingFlow
from scorefold_testing.contract import stir
from scorefold_toolkit.nn import DiagonalNormal
from scorefold_toolkit.numerics import jacobian, pushforward
from scorefold_toolkit.potential import Potential

Make = Callable[..., Pullback]
COVARIANCE = ((2.0, 0.5, 0.0, 0.1), (0.5, 1.0, 0.2, 0.0), (0.0, 0.2, 0.7, 0.0), (0.1, 0.0, 0.0, 0.3))
PSIS: dict[str, Callable[[], Potential | None]] = {
    "base": lambda: None,
    "quadratic": lambda: QuadraticPotential(
        QuadraticConfig(covariance=COVARIANCE, location=(1.0, 0.0, -1.0, 0.5)), dtype=torch.float64
    ),
    "cosh": lambda: Cosh(CoshConfig()),
    "log-cosh": lambda: LogCosh(LogCoshConfig(weight=2.0)),
    "log-sum-exp": lambda: LogSumExp(
        LogSumExpConfig(directions=((1.0, 0.0, 0.5, 0.0), (-1.0, 2.0, 0.0, 1.0), (0.0, -1.0, 1.0, 0.0))),
        dtype=torch.float64,
    ),
}
close = torch.testing.assert_close


@pytest.fixture(params=PSIS)
def space(request: pytest.FixtureRequest, make_geometry: Make) -> Pullback:
    return make_geometry("coupling", psi=PSIS[request.param]())


@pytest.fixture
def xy(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x, y, v, w = torch.randn(4, 5, 4, generator=generator, dtype=torch.float64)
    return x, y, v, w


def test_the_flow_inverts_and_its_derivatives_belong_together(space: Pullback, xy: tuple[Tensor, ...]) -> None:
    x, _, v, _ = xy
    z, log_det = space.flow(x)
    close(space.flow.inverse(z)[0], x)
    pushed = pushforward(lambda at: space.flow(at)[0], x, v)[1]
    close(pushforward(lambda at: space.flow.inverse(at)[0], z, pushed)[1], v)
    full = jacobian(lambda at: space.flow(at)[0], x)
    close(pushed, (full @ v[..., None])[..., 0])
    close(log_det, torch.linalg.slogdet(full)[1])
    by_autograd = torch.autograd.functional.jacobian(lambda at: space.chart(at[None])[0], x[0])
    close(jacobian(space.chart, x[:1])[0], by_autograd)


def test_exponential_logarithm_and_distance(space: Pullback, xy: tuple[Tensor, ...]) -> None:
    x, y, v, _ = xy
    close(space.exp(x, space.log(x, y)), y)
    close(space.log(x, space.exp(x, 0.1 * v)), 0.1 * v)
    close(space.norm(x, space.log(x, y)), space.distance(x, y))
    close(space.distance(x, y), space.distance(y, x))
    assert torch.equal(space.distance(x, x), torch.zeros(5, dtype=torch.float64))
    through = space.distance(x, v) + space.distance(v, y)
    assert bool((space.distance(x, y) <= through * (1 + 1e-12)).all())


def test_geodesics_have_constant_speed(space: Pullback, xy: tuple[Tensor, ...]) -> None:
    x, y, _, _ = xy
    times = torch.tensor([0.0, 0.2, 0.7, 1.0], dtype=torch.float64)
    path = space.geodesic(x, y, times)
    close(path[:, 0], x)
    close(path[:, -1], y)
    close(space.distance(path[:, 1], path[:, 2]), 0.5 * space.distance(x, y))
    close(space.geodesic(y, x, 1 - times), path)
    step = 1e-6
    near = space.geodesic(x, y, torch.tensor([0.4 - step, 0.4, 0.4 + step], dtype=torch.float64))
    velocity = (near[:, 2] - near[:, 0]) / (2 * step)
    close(space.norm(near[:, 1], velocity), space.distance(x, y), rtol=1e-7, atol=1e-7)
    beyond = space.geodesic(x, y, torch.tensor([1.5], dtype=torch.float64))[:, 0]
    close(space.exp(x, 1.5 * space.log(x, y)), beyond)


def test_transport(space: Pullback, xy: tuple[Tensor, ...]) -> None:
    x, y, v, w = xy
    moved = space.transport(x, y, v)
    close(space.inner(y, moved, space.transport(x, y, w)), space.inner(x, v, w))
    close(space.transport(y, x, moved), v)
    third = x.roll(1, 0)
    close(space.transport(third, y, space.transport(x, third, v)), moved)
    close(space.log(y, x), -space.transport(x, y, space.log(x, y)))


def test_the_mean_balances_and_is_least(space: Pullback, xy: tuple[Tensor, ...]) -> None:
    x = xy[0]
    weights = torch.tensor([1.0, 2.0, 0.0, 4.0, 0.5], dtype=torch.float64)
    mean = space.mean(x, weights).detach().requires_grad_()
    pull = (weights[:, None] * space.log(mean[None], x)).sum(0)
    close(pull, torch.zeros_like(pull), rtol=0, atol=1e-10)
    (slope,) = torch.autograd.grad((weights * space.distance(mean[None], x).square()).sum(), mean)
    close(slope, torch.zeros_like(slope), rtol=0, atol=1e-9)
    close(space.mean(x), space.mean(x, torch.ones(5, dtype=torch.float64)))


def test_the_metric_belongs_to_inner_products_and_is_flat(space: Pullback, xy: tuple[Tensor, ...]) -> None:
    x, _, v, w = xy
    metric = space.metric(x)
    close(space.inner(x, v, w), torch.einsum("bi,bij,bj->b", v, metric, w))
    close(space.norm(x, v), torch.einsum("bi,bij,bj->b", v, metric, v).sqrt())
    flat = riemann(lambda at: space.metric(at[None])[0], x[0]).detach()
    assert float(flat.abs().max()) < 1e-7 * float(metric[0].detach().abs().max())


def riemann(metric: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """R^i_{jkl} of a metric (D, D) at a point (D,), by autograd."""

    def christoffel(at: Tensor) -> Tensor:
        slope = jacrev(metric)(at)  # [i, j, k]: the derivative of G_ij along k
        lowered = 0.5 * (slope.permute(0, 2, 1) + slope - slope.permute(2, 0, 1))
        return torch.einsum("im,mjk->ijk", torch.linalg.inv(metric(at)), lowered)

    gamma, slope = christoffel(x), jacrev(christoffel)(x)  # slope [i, j, k, l]: the slope of gamma^i_jk along l
    half = torch.einsum("iljk->ijkl", slope) + torch.einsum("ikm,mlj->ijkl", gamma, gamma)
    return half - half.transpose(2, 3)


def test_the_curvature_of_a_sphere_is_not_0() -> None:
    x = torch.tensor([0.7, 0.2], dtype=torch.float64)
    found = riemann(lambda at: torch.stack([torch.ones(()).double(), at[0].sin().square()]).diag(), x)
    close(found[0, 1, 0, 1], x[0].sin().square())


def test_volume_and_score_of_the_base(make_geometry: Make, xy: tuple[Tensor, ...]) -> None:
    space = make_geometry("coupling")
    x, base = xy[0], space.flow.base
    assert isinstance(base, DiagonalNormal)
    log_det = space.flow(x)[1]
    close(torch.linalg.slogdet(space.metric(x))[1], 2 * log_det - 4 * base.log_std.sum())
    full = jacobian(lambda at: space.flow(at)[0], x)
    by_hand = -(full.mT @ base.grad(space.flow(x)[0])[..., None])[..., 0]
    close(score(space.flow, base, x), by_hand)


def test_metrics_of_a_quadratic_psi_share_all_but_lengths(make_geometry: Make, xy: tuple[Tensor, ...]) -> None:
    x, y, v, _ = xy
    s = torch.linspace(0, 1, 5, dtype=torch.float64)
    for psi in ("base", "quadratic"):
        spaces = [make_geometry("coupling", metric=m, psi=PSIS[psi]()) for m in ("score", "whitened", "latent")]
        for other in spaces[1:]:
            close(other.geodesic(x, y, s), spaces[0].geodesic(x, y, s))
            close(other.exp(x, v), spaces[0].exp(x, v))
            close(other.log(x, y), spaces[0].log(x, y))
            close(other.transport(x, y, v), spaces[0].transport(x, y, v))
            close(other.mean(x), spaces[0].mean(x))
            assert float((other.distance(x, y) / spaces[0].distance(x, y)).detach().std()) > 0.01


def test_a_rigid_motion_changes_no_distance(make_flow: Callable[..., Flow], make_geometry: Make) -> None:
    """The banana in coordinates that are turned and moved has the banana's distances."""
    banana, motion = make_flow("banana"), make_flow("linear", rotation=3, dimension=2, mean=(1.0, -2.0))

    class Moved(Flow):
        def __init__(self) -> None:
            super().__init__((2,), banana.base)

        def forward(self, x: Tensor, condition: object = None) -> tuple[Tensor, Tensor]:
            return banana(motion(x)[0])  # type: ignore[no-any-return]

        def inverse(self, z: Tensor, condition: object = None) -> tuple[Tensor, Tensor]:
            return motion.inverse(banana.inverse(z)[0])

    x = torch.tensor([[0.3, 2.0], [1.0, -1.0]], dtype=torch.float64)
    moved, still = make_geometry(Moved()), make_geometry(banana)
    at = motion.inverse(x)[0]
    close(moved.distance(at[:1], at[1:]), still.distance(x[:1], x[1:]))


def test_one_point_serves_for_many(space: Pullback, xy: tuple[Tensor, ...]) -> None:
    x, y, v, w = xy
    one = x[:1]
    many = one.repeat(5, 1)
    s = torch.tensor([0.3, 0.9], dtype=torch.float64)
    close(space.log(one, y), space.log(many, y))
    close(space.log(y, one), space.log(y, many))
    close(space.exp(one, v), space.exp(many, v))
    close(space.exp(x, v[:1]), space.exp(x, v[:1].repeat(5, 1)))
    close(space.transport(one, y, v[:1]), space.transport(many, y, v[:1].repeat(5, 1)))
    close(space.distance(one, y), space.distance(many, y))
    close(space.inner(one, v, w), space.inner(many, v, w))
    close(space.geodesic(one, y, s), space.geodesic(many, y, s))
    matrix = space.distance_matrix(x, y[:3])
    close(matrix, torch.stack([space.distance(x, point[None]) for point in y[:3]], dim=1))
    close(space.distance_matrix(x), space.distance_matrix(x, x))


def test_gradients_flow_through_every_map(space: Pullback, xy: tuple[Tensor, ...]) -> None:
    """Against difference quotients, in the inputs; and to the parameters of the flow."""
    s = torch.tensor([0.3, 0.8], dtype=torch.float64)
    maps: dict[str, tuple[Callable[..., Tensor], int]] = {
        "metric": (space.metric, 1),
        "inner": (space.inner, 3),
        "norm": (space.norm, 2),
        "distance": (space.distance, 2),
        "distance_matrix": (space.distance_matrix, 2),
        "geodesic": (lambda x, y: space.geodesic(x, y, s), 2),
        "exp": (space.exp, 2),
        "log": (space.log, 2),
        "transport": (space.transport, 3),
        "mean": (space.mean, 1),
    }
    for name, (function, count) in maps.items():
        given = [value[:2].clone().requires_grad_() for value in xy[:count]]
        assert torch.autograd.gradcheck(function, given, fast_mode=True), name
        space.zero_grad()
        function(*given).sum().backward()
        slopes = [p.grad for p in space.flow.parameters() if p.grad is not None]
        assert sum(float(slope.abs().sum()) for slope in slopes) > 0, name


def test_every_map_goes_through_torch_func(space: Pullback, xy: tuple[Tensor, ...]) -> None:
    """Forward mode through each, against reverse mode; and a Jacobian by either."""
    x, y, v, w = (value[:2] for value in xy)
    for function in (
        lambda at: space.exp(at, v),
        lambda at: space.log(at, y),
        lambda at: space.transport(at, y, v),
        lambda at: space.distance(at, y),
        lambda at: space.inner(at, v, w),
        space.metric,
    ):
        tangent = jvp(function, (x,), (w,))[1].detach()
        at = x.clone().requires_grad_()
        weights = torch.randn(tangent.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        (slope,) = torch.autograd.grad((function(at) * weights).sum(), at)
        close((slope * w).sum(), (tangent * weights).sum())


def test_single_precision(make_geometry: Make, make_flow: Callable[..., Flow], xy: tuple[Tensor, ...]) -> None:
    double = make_geometry("coupling")
    single = Pullback(double.config, flow=make_flow("coupling").float())
    x, y, v, _ = (value.float() for value in xy)
    for got, expected in (
        (single.exp(x, v), double.exp(xy[0], xy[2])),
        (single.log(x, y), double.log(xy[0], xy[1])),
        (single.distance(x, y), double.distance(xy[0], xy[1])),
    ):
        assert got.dtype == torch.float32
        close(got.double(), expected, rtol=1e-3, atol=1e-3)


def test_small_distances_keep_their_digits_and_have_gradients(make_geometry: Make) -> None:
    river = make_geometry("river", metric="latent")
    x = torch.tensor([[100.0, 1.0]], dtype=torch.float64)
    y = x + torch.tensor([[1e-7, 0.0]], dtype=torch.float64)
    apart = torch.full((40, 40), 1e-7, dtype=torch.float64)
    close(river.distance_matrix(x.repeat(40, 1), y.repeat(40, 1)), apart, rtol=1e-6, atol=0)
    x.requires_grad_()
    for nothing in (river.distance(x, x.detach()), river.norm(x.detach(), x - x.detach())):
        (slope,) = torch.autograd.grad(nothing.sum(), x)
        assert torch.equal(slope, torch.zeros_like(x))


def test_images(generator: torch.Generator) -> None:
    """A flow of several scales on images, whose base has a variance for each pixel."""
    config = AffineCouplingConfig(layers=2, levels=2, channels=8, base="diagonal-normal")
    torch.manual_seed(0)
    flow = CouplingFlow(config, data=DataSpec((1, 8, 8))).double().eval()
    stir(flow, generator)
    space = Pullback(PullbackConfig(), flow=flow)
    x, y, v = torch.randn(3, 2, 1, 8, 8, generator=generator, dtype=torch.float64)
    close(space.exp(x, space.log(x, y)), y)
    close(space.norm(x, space.log(x, y)), space.distance(x, y))
    close(space.transport(y, x, space.transport(x, y, v)), v)
    close(space.metric(x[:1])[0] @ v[0].flatten() @ v[0].flatten(), space.norm(x[:1], v[:1])[0].square())
    assert space.geodesic(x[:1], y, torch.tensor([0.0, 0.5, 1.0])).shape == (2, 3, 1, 8, 8)
    assert space.mean(x).shape == (1, 8, 8)
