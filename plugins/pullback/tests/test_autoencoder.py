"""The Riemannian auto-encoder on closed forms, to the digits worked out by hand, and its distributions for any flow."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from scorefold.data import Dataset, StreamedDataset
from scorefold.interfaces import Flow
from scorefold_pullback.autoencoder.bound import (
    ErrorBound,
    error_bound,
    largest_stretches,
    warnings_of_bound,
    warnings_of_variances,
)
from scorefold_pullback.autoencoder.estimator import RiemannianAutoencoder
from scorefold_pullback.autoencoder.latent_axes import principal_axes
from scorefold_pullback.config import QuadraticConfig, RiemannianAutoencoderConfig
from scorefold_pullback.flows.config import IdentityConfig, LinearFlowConfig, MixtureConfig
from scorefold_pullback.flows.linear import IdentityFlow, LinearFlow
from scorefold_pullback.flows.mixture import AnisotropicNormal, MixtureFlow
from scorefold_pullback.potentials import QuadraticPotential
from scorefold_pullback.tangent_pca import significant_components
from scorefold_toolkit.nn import DiagonalNormal, StandardNormal

close = torch.testing.assert_close
MakeFlow = Callable[..., Flow]


def coder(flow: Flow, **settings: Any) -> RiemannianAutoencoder:
    return RiemannianAutoencoder(RiemannianAutoencoderConfig.model_validate(settings), flow=flow)


def base_of(flow: Flow) -> DiagonalNormal:
    assert isinstance(flow.base, DiagonalNormal)
    return flow.base


def around(flow: Flow, across: float, along: Tensor | None = None) -> Tensor:
    """Points of a bent Gaussian at one deviation across its curve on either side, so that averages are expectations."""
    along = torch.linspace(-3, 3, 31, dtype=torch.float64) if along is None else along
    sides = [torch.stack([torch.full_like(along, side * across), along], dim=1) for side in (-1, 1)]
    return flow.inverse(torch.cat(sides))[0].detach()


@pytest.mark.parametrize(
    ("name", "settings", "dimension", "left"),
    [
        ("banana", {"unexplained": 0.1}, 1, 1 / 17),
        ("banana", {"unexplained": 0.05}, 2, 0.0),
        ("banana", {}, 1, 1 / 17),
        ("banana", {"dimension": 2}, 2, 0.0),
        ("river", {"unexplained": 0.013158}, 1, 0.04 / 3.04),
        ("river", {"unexplained": 0.013157}, 2, 0.0),
        ("squeezed", {"unexplained": 0.1}, 1, (1 / 81) / (4 + 1 / 81)),
    ],
)
def test_how_many_coordinates_bent_gaussians_keep(
    make_flow: MakeFlow, name: str, settings: dict[str, Any], dimension: int, left: float
) -> None:
    flow = make_flow(name)
    made = coder(flow, **settings)
    assert made.latent_shape == (dimension,)
    found = made.estimate(around(flow, 0.1))
    assert found.value == dimension
    assert found.diagnostics["unexplained"] == pytest.approx(left, abs=1e-12)
    assert found.spectrum is not None
    close(found.spectrum[0], base_of(flow).log_std.mul(2).exp().flip(0))


def test_the_banana_comes_back_as_its_arc(make_flow: MakeFlow) -> None:
    made = coder(make_flow("banana"))
    x = torch.tensor([[0.7, 1.5], [-2.0, -3.0]], dtype=torch.float64)
    close(made.encode(x), x[:, 1:])
    close(made.project(x), torch.stack([x[:, 1].square() / 9, x[:, 1]], dim=1))
    close(made.residuals(x), (x[:, 0] - x[:, 1].square() / 9).abs())
    close(made.base_point(), torch.zeros(2).double())
    mean, deviation = made.encode_distribution(x)
    close(mean, x[:, 1:])
    assert float(deviation.abs().max()) == 0
    found = made.estimate(around(make_flow("banana"), 0.5))
    assert found.diagnostics["mean_squared_error"] == pytest.approx(0.25, abs=1e-12)
    assert found.diagnostics["mean_squared_error_per_coordinate"] == pytest.approx(0.125, abs=1e-12)
    assert found.diagnostics["dropped_variance"] == pytest.approx(0.25, abs=1e-14)


def test_the_bound_of_the_banana(make_flow: MakeFlow) -> None:
    """The Jacobian of the inverse has no largest norm, and the theorem's constant is one all the same."""
    flow = make_flow("banana")
    along = torch.linspace(-40, 40, 40_001, dtype=torch.float64)
    bound = error_bound(flow, torch.stack([torch.zeros_like(along), along], dim=1), 0.25)
    assert bound.log_constant is not None
    assert bound.beta == pytest.approx(0.102, abs=5e-4)
    assert math.exp(bound.log_constant) == pytest.approx(3.893, abs=5e-4)
    assert bound.theorem == pytest.approx(0.973, abs=5e-4)
    assert bound.volume_spread == 0
    # By hand: the largest singular value of [[1, c], [0, 1]], c = 2 z_2 / 9, and both determinants 1.
    c = 2 * along / 9
    squared = 1 + c.square() / 2 + c.abs() * (1 + c.square() / 4).sqrt()

    def constant(beta: float) -> float:
        first = float((squared * (-beta * along.square() / 8).exp()).max())
        return first * (1 + beta) / (1 - 2 * beta) ** 2

    least = min(constant(step / 2000) for step in range(1000))
    assert math.exp(bound.log_constant) == pytest.approx(least, rel=1e-5)
    assert math.exp(bound.log_constant) <= least


def test_the_bound_of_the_river(make_flow: MakeFlow) -> None:
    flow = make_flow("river")
    along = torch.linspace(-4, 4, 801, dtype=torch.float64)
    bound = error_bound(flow, torch.stack([torch.zeros_like(along), along], dim=1), 0.04)
    assert bound.lipschitz**2 == pytest.approx(3 + 2 * math.sqrt(2), abs=1e-12)
    assert bound.corollary == pytest.approx(0.04 * (3 + 2 * math.sqrt(2)), abs=1e-12)
    assert bound.theorem == pytest.approx(bound.corollary, rel=1e-9)
    # Point by point too: no more than the Lipschitz constant times what was dropped of it.
    x = flow.sample(3000, generator=torch.Generator().manual_seed(0)).detach()
    dropped = flow(x)[0][:, 0].square()
    assert bool((coder(flow).residuals(x).square() <= (3 + 2 * math.sqrt(2)) * dropped * (1 + 1e-9)).all())
    found = coder(flow, unexplained=0.02).estimate(around(flow, 0.2))
    assert found.diagnostics["mean_squared_error"] == pytest.approx(0.04, abs=1e-12)
    assert found.diagnostics["warnings"] == []


def test_a_volume_that_is_not_constant_enters_the_bound(make_flow: MakeFlow) -> None:
    """An untrained flow: the constants by autograd, and the bound of any beta above the one that is given."""
    flow = make_flow("coupling")
    z = torch.randn(40, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    bound = error_bound(flow, z, 0.5)
    points = torch.cat([base_of(flow).unwhiten(torch.zeros(1, 4).double()), z]).detach()
    jacobians = torch.stack(
        [torch.autograd.functional.jacobian(lambda w: flow.inverse(w[None])[0][0], point) for point in points]
    )
    stretch, volume = torch.linalg.matrix_norm(jacobians, 2), -torch.linalg.slogdet(jacobians)[1]
    close(largest_stretches(flow, points), stretch)
    assert bound.lipschitz == pytest.approx(float(stretch.max()))
    assert bound.volume_spread == pytest.approx(float(volume.std(correction=0)))
    q = base_of(flow).whiten(points).detach().square().sum(1)

    def log_constant(beta: float) -> float:
        suprema = [float((log - beta * q / 2).max()) for log in (2 * stretch.log(), volume, -volume)]
        return sum(suprema) - math.log(1 - 2 * beta) + 2 * math.log((1 + beta) / (1 - 2 * beta))

    assert bound.beta is not None
    assert bound.log_constant is not None
    assert bound.log_constant == pytest.approx(log_constant(bound.beta), abs=1e-9)
    assert bound.log_constant <= min(log_constant(step / 400) for step in range(200)) + 1e-9


def test_largest_stretches_of_many_coordinates_are_found_by_products() -> None:
    matrix = torch.randn(40, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values = torch.logspace(0, -1, 40, dtype=torch.float64)
    left, right = torch.linalg.qr(matrix)[0], torch.linalg.qr(matrix.mT)[0]
    inverse = left @ values.diag() @ right
    flow = LinearFlow(
        LinearFlowConfig.model_validate({"matrix": torch.linalg.inv(inverse).tolist()}), dtype=torch.float64
    )
    found = largest_stretches(flow, torch.zeros(3, 40, dtype=torch.float64))
    assert float(found.max()) <= 1 + 1e-9
    assert float(found.min()) > 0.95


def test_a_linear_flow_is_a_pca(make_flow: MakeFlow, generator: torch.Generator) -> None:
    covariance = [[2.0, 1.0, 0.0], [1.0, 2.0, 0.3], [0.0, 0.3, 0.5]]
    flow = make_flow("linear", covariance=covariance, mean=[1.0, -1.0, 0.5])
    values, vectors = torch.linalg.eigh(torch.tensor(covariance, dtype=torch.float64))
    made = coder(flow, dimension=2)
    # One deviation along each axis on both sides: averages over these six points are expectations, times 3.
    z = (3 * values.flip(0)).sqrt().diag()
    x = flow.inverse(torch.cat([z, -z]))[0].detach()
    found = made.estimate(x)
    diagnostics = found.diagnostics
    assert diagnostics["mean_squared_error"] == pytest.approx(float(values[0]), abs=1e-12)
    assert diagnostics["dropped_variance"] == pytest.approx(float(values[0]), abs=1e-12)
    assert diagnostics["bound"]["theorem"] == pytest.approx(float(values[0]), abs=1e-12)
    close(diagnostics["measured_variances"], values.flip(0))
    centre = torch.tensor([1.0, -1.0, 0.5]).double()
    projector = vectors[:, 1:] @ vectors[:, 1:].mT
    close(made.project(x), centre + (x - centre) @ projector)
    curve = diagnostics["curve"]
    kept = (
        torch.cat([torch.zeros(1).double(), values.flip(0).cumsum(0)]),
        torch.cat([torch.zeros(1).double(), values.cumsum(0)]),
    )
    widest, narrowest = ((values.sum() - sums) / 3 for sums in kept)
    for name, expected in (("decreasing", widest), ("pca", widest), ("increasing", narrowest)):
        close(torch.tensor(curve[name], dtype=torch.float64), expected, atol=1e-12, rtol=0)
    assert sorted(curve["decreasing"], reverse=True) == curve["decreasing"]


def test_modes_of_one_covariance_are_ranked_together(make_flow: MakeFlow) -> None:
    """B = A + the covariance of the offsets: diag(1/4, 28), so that the curve through all three modes is kept."""
    config = {"offsets": ((0.0, -6.0), (0.0, 0.0), (0.0, 6.0)), "variances": (0.25, 4.0)}
    flow = MixtureFlow(
        MixtureConfig.model_validate(config), flow=make_flow("river", frequency=0.5), dtype=torch.float64
    )
    made = coder(flow, unexplained=0.01)
    axes = principal_axes(flow)
    close(axes.variances, torch.tensor([28.0, 0.25]).double())
    found = made.estimate(around(flow, 0.5, torch.linspace(-10, 10, 41, dtype=torch.float64)))
    assert found.value == 1
    assert found.diagnostics["unexplained"] == pytest.approx(0.25 / 28.25, abs=1e-12)
    assert found.diagnostics["unexplained"] == pytest.approx(0.00885, abs=5e-6)
    assert found.diagnostics["mean_squared_error"] == pytest.approx(0.25, abs=1e-12)
    assert found.diagnostics["bound"]["theorem"] is None
    assert found.diagnostics["mean_squared_error"] <= found.diagnostics["bound"]["corollary"]
    turned = {"offsets": ((-3.0, -3.0), (4.0, 4.0)), "variances": (0.1, 0.1), "weights": (1.0, 2.0)}
    tilted = MixtureFlow(MixtureConfig.model_validate(turned), flow=make_flow("river"), dtype=torch.float64)
    axes = principal_axes(tilted)
    close(axes.centre, torch.full((2,), (-3 + 8) / 3).double())
    close(axes.axes[:, 0], torch.full((2,), math.sqrt(0.5)).double())
    close(axes.variances, torch.tensor([0.1 + 98 * 2 / 9, 0.1]).double())
    check_distributions(coder(tilted, dimension=1), torch.randn(9, 2, dtype=torch.float64, generator=generator_of(0)))


def generator_of(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def check_distributions(made: RiemannianAutoencoder, x: Tensor) -> None:
    """E o D = id, D o E is a projection, the base point has the code 0, and gradients go through both."""
    rank = made.dimension
    p = torch.randn(7, rank, generator=generator_of(1), dtype=torch.float64)
    close(made.encode(made.decode(p)), p, atol=1e-10, rtol=1e-10)
    once = made.project(x)
    close(made.project(once), once, atol=1e-10, rtol=1e-10)
    close(made.encode(made.base_point()[None]), torch.zeros(1, rank).double(), atol=1e-12, rtol=0)
    close(made.residuals(once), torch.zeros(len(x)).double(), atol=1e-9, rtol=0)
    assert torch.autograd.gradcheck(made.project, (x[:2].clone().requires_grad_(),))


@pytest.mark.parametrize("rank", [1, 2, 3, 4])
def test_distributions_of_an_untrained_flow(make_flow: MakeFlow, rank: int, generator: torch.Generator) -> None:
    flow = make_flow("coupling")
    made = coder(flow, dimension=rank)
    x = torch.randn(9, 4, generator=generator, dtype=torch.float64)
    check_distributions(made, x)
    variances = principal_axes(flow).variances
    assert variances.tolist() == sorted(variances.tolist(), reverse=True)
    if rank == 4:
        close(made.project(x), x)


def test_the_dimension_falls_with_what_may_be_left(make_flow: MakeFlow) -> None:
    flow = make_flow("coupling")
    ranks = [coder(flow, unexplained=step / 40).dimension for step in range(41)]
    assert ranks == sorted(ranks, reverse=True)
    assert (ranks[0], ranks[-1]) == (4, 1)


def test_the_base_as_it_becomes_is_the_one_that_is_read(make_flow: MakeFlow) -> None:
    flow = make_flow("coupling")
    made = coder(flow, unexplained=0.01)
    with torch.no_grad():
        base_of(flow).log_std.copy_(torch.tensor([-4.0, 1.0, -5.0, 0.5]).double())
        base_of(flow).mean.copy_(torch.tensor([3.0, 0.0, 0.0, -1.0]).double())
    assert made.latent_shape == (2,)
    assert principal_axes(flow).axes.tolist() == [1, 3, 0, 2]
    close(
        made.encode(flow.inverse(torch.tensor([[3.0, 0.7, 0.0, -0.5]]).double())[0]),
        torch.tensor([[0.7, 0.5]]).double(),
    )


def test_a_base_with_a_full_covariance_is_turned() -> None:
    flow = IdentityFlow(IdentityConfig(event_shape=(2,)), dtype=torch.float64)
    flow.base = QuadraticPotential(QuadraticConfig(covariance=((2.0, 1.0), (1.0, 2.0)), location=(1.0, -1.0))).double()  # type: ignore[assignment]
    axes = principal_axes(flow)
    close(axes.variances, torch.tensor([3.0, 1.0]).double())
    close(axes.axes[:, 0].abs(), torch.full((2,), math.sqrt(0.5)).double())
    close(axes.centre, torch.tensor([1.0, -1.0]).double())
    check_distributions(coder(flow, dimension=1), torch.randn(5, 2, generator=generator_of(2), dtype=torch.float64))


def test_axes_of_three_coordinates_are_columns() -> None:
    flow = IdentityFlow(IdentityConfig(event_shape=(3,)), dtype=torch.float64)
    rows = ((2.0, 0.9, 0.1), (0.9, 1.0, 0.3), (0.1, 0.3, 0.5))
    flow.base = QuadraticPotential(QuadraticConfig(covariance=rows)).double()  # type: ignore[assignment]
    values, vectors = torch.linalg.eigh(torch.tensor(rows, dtype=torch.float64))
    close(principal_axes(flow).variances, values.flip(0))
    x = torch.randn(5, 3, generator=generator_of(2), dtype=torch.float64)
    for rank in (1, 2):
        kept_axes = vectors[:, -rank:]
        close(coder(flow, dimension=rank).project(x), x @ kept_axes @ kept_axes.mT)


def test_a_tail_of_just_the_share_is_dropped() -> None:
    variances = torch.tensor([1.0, 2.0, 1.0, 0.0])
    assert [significant_components(variances, share) for share in (0.0, 0.24, 0.25, 0.5, 1.0)] == [3, 3, 2, 1, 1]


def test_the_base_of_a_flow_that_is_trained_for_geometry(generator: torch.Generator) -> None:
    flow = IdentityFlow(IdentityConfig(event_shape=(3,)), dtype=torch.float64)
    base = AnisotropicNormal((3,), start=1.0, floor=1e-6, learned=True).double()
    flow.base = base  # type: ignore[assignment]
    base.set_variances(torch.tensor([0.01, 4.0, 2.0], dtype=torch.float64))
    axes = principal_axes(flow)
    close(axes.variances, torch.tensor([4.0, 2.0, 0.01], dtype=torch.float64))
    assert axes.axes.tolist() == [1, 2, 0]
    made = coder(flow, unexplained=0.01)
    x = flow.sample(500, generator=generator)
    close(made.encode(x), x[:, [1, 2]])
    found = made.estimate(x)
    assert (found.value, found.diagnostics["warnings"]) == (2, [])
    assert found.diagnostics["mean_squared_error"] == pytest.approx(float(x[:, 0].square().mean()))


def test_images_and_single_precision() -> None:
    variances = tuple(1.0 / (1 + i) ** 4 for i in range(16))
    flow = IdentityFlow(IdentityConfig(event_shape=(1, 4, 4), variances=variances))
    made = coder(flow, unexplained=0.05)
    x = flow.sample(50, generator=generator_of(0))
    found = made.estimate(x)
    assert made.encode(x).dtype == torch.float32
    assert made.project(x).shape == x.shape
    assert found.diagnostics["decoded_axes"].shape == (2, 9, 1, 4, 4)
    assert "decoded_grid" not in found.diagnostics
    close(found.diagnostics["decoded_axes"][1, :, 0, 0, 1], torch.linspace(-0.75, 0.75, 9))


def test_grids_reach_three_deviations(make_flow: MakeFlow) -> None:
    made = coder(make_flow("banana"))
    grid = made.decode_grid()
    along = torch.linspace(-6, 6, 100, dtype=torch.float64)
    close(grid, torch.stack([along.square() / 9, along], dim=1))
    plane = coder(make_flow("banana"), dimension=2).decode_grid(per_axis=5, width=2.0)
    assert plane.shape == (5, 5, 2)
    close(plane[2, 0], torch.tensor([-1.0, 0.0]).double())
    close(plane[4, 4], torch.tensor([16 / 9 + 1.0, 4.0]).double())


@torch.no_grad()
def test_a_data_set_is_read_piece_by_piece(make_flow: MakeFlow, generator: torch.Generator) -> None:
    flow = make_flow("river")
    x = flow.sample(90, generator=generator)
    streamed = StreamedDataset(x=x[:0], fetch=lambda index: Dataset(x=x[index], index=index), size=len(x))
    whole = coder(flow).estimate(x)
    pieces = coder(flow, batch_size=7).estimate(streamed)
    for name in ("residuals", "measured_variances"):
        close(whole.diagnostics[name], pieces.diagnostics[name])
    close(whole.diagnostics["residuals"], coder(flow).residuals(x))


def test_what_is_warned_of_is_said(make_flow: MakeFlow, generator: torch.Generator) -> None:
    flow = make_flow("banana")
    x = flow.sample(400, generator=generator)
    assert coder(flow).estimate(x).diagnostics["warnings"] == []

    def warned(*factors: float) -> str:
        z = flow(x)[0] * torch.tensor(factors, dtype=torch.float64)
        return " ".join(coder(flow).estimate(flow.inverse(z)[0]).diagnostics["warnings"])

    assert "the points are not of the flow's distribution" in warned(2.0, 2.0)
    assert "the points are not of the flow's distribution" in warned(2.0, 1.0)
    assert "the points are not of the flow's distribution" not in warned(0.1, 1.0)
    assert "2 would be kept, and not 1" in warned(1.4, 0.75)
    assert warned(1.1, 0.95) == ""
    flow = IdentityFlow(IdentityConfig(event_shape=(6,)), dtype=torch.float64)
    flow.base = StandardNormal()
    found = coder(flow).estimate(torch.randn(50, 6, generator=generator, dtype=torch.float64))
    assert found.value == 6
    assert any("all variances of the flow's base are equal" in text for text in found.diagnostics["warnings"])
    few = coder(make_flow("coupling"), dimension=1, bound_points=20).estimate(
        make_flow("coupling").sample(200, generator=generator)
    )
    assert any("far from an isometry" in text for text in few.diagnostics["warnings"])


def test_numbers_of_coordinates_that_points_do_not_bear_out() -> None:
    def warned(*measured: float, rank: int) -> list[str]:
        variances = torch.tensor([1.0, 0.8, 0.02]).double()
        return warnings_of_variances(variances, torch.tensor(measured).double(), rank, 0.1)

    assert warned(1.5, 0.2, 0.02, rank=2) == []
    assert warned(1.5, 0.15, 0.02, rank=2) == []
    assert "1 would be kept, and not 2" in warned(1.5, 0.05, 0.02, rank=2)[0]
    assert "2 would be kept, and not 1" in warned(1.5, 0.4, 0.02, rank=1)[0]


def test_a_volume_that_differs_is_warned_of_for_the_theorem_alone() -> None:
    bound = ErrorBound(9, beta=0.1, log_constant=0.0, theorem=1.0, lipschitz=1.0, corollary=1.0, volume_spread=0.51)
    (warning,) = warnings_of_bound(0.5, 0.1, bound)
    assert warning.startswith("log |det J| differs by 0.51 from point to point")
    assert warnings_of_bound(0.5, 0.1, replace(bound, volume_spread=0.49)) == []
    assert warnings_of_bound(0.5, 0.1, replace(bound, beta=None, log_constant=None, theorem=None)) == []


def test_the_bound_that_points_exceed_is_reported(make_flow: MakeFlow) -> None:
    flow = make_flow("banana")
    found = coder(flow, bound_points=1).estimate(around(flow, 3.0, torch.zeros(1).double()).repeat(20, 1))
    assert any("is above the bound" in text for text in found.diagnostics["warnings"])


def test_what_rounding_leaves_is_no_warning_where_nothing_is_dropped(make_flow: MakeFlow) -> None:
    x = make_flow("banana").sample(50, generator=torch.Generator().manual_seed(0)) + 0.1
    found = RiemannianAutoencoder(RiemannianAutoencoderConfig(dimension=2), flow=make_flow("banana")).estimate(x)
    assert found.diagnostics["bound"]["theorem"] == 0
    assert found.diagnostics["warnings"] == []


def test_a_given_number_is_no_estimate(make_flow: MakeFlow) -> None:
    flow = make_flow("banana")
    found = coder(flow, dimension=1).estimate(around(flow, 0.5))
    assert found.quantity == "given latent dimension"
    assert "their number was given, and not estimated" in found.diagnostics["note"]
    assert coder(flow).estimate(around(flow, 0.5)).quantity == "intrinsic dimension"
