"""The penalties of the training objective, held to closed forms and to the flow's own derivatives."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from scorefold.errors import DataError
from scorefold.interfaces import Flow
from scorefold_pullback.config import IsoPullbackConfig
from scorefold_pullback.flows.objective import (
    Isometry,
    hessian_penalty,
    isometry_penalty,
    unit_vectors,
    volume_penalty,
    with_cotangents,
)
from scorefold_pullback.geometry.chart import Diagnosis, diagnose_flow
from scorefold_pullback.geometry.iso import IsoPullback
from scorefold_pullback.geometry.pullback import Pullback
from scorefold_toolkit.nn import StandardNormal
from scorefold_toolkit.numerics import jacobian

MakeFlow = Callable[..., Flow]


def isometry(flow: Flow, x: Tensor, kind: Any, count: int = 1, seed: int = 0) -> float:
    directions = unit_vectors(kind, x, count, torch.Generator().manual_seed(seed))
    return float(isometry_penalty(kind, directions, with_cotangents(flow, x, directions)[2]).detach())


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def drawn(flow: Flow) -> Tensor:
    return flow.sample(50, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def rotation(make_flow: MakeFlow) -> Flow:
    return make_flow("linear", rotation=3, dimension=5)


@pytest.fixture
def stretching(make_flow: MakeFlow) -> Flow:
    matrix = [[2.0, 0.0, 1.0], [0.5, 1.0, 0.0], [0.0, 0.0, 0.5]]
    return make_flow("linear", matrix=matrix)


@pytest.mark.parametrize("kind", ["full", "sliced", "length", "angle", "length-angle"])
def test_a_rotation_is_an_isometry(rotation: Flow, kind: Isometry) -> None:
    assert isometry(rotation, normal(20, 5), kind, 3) < 1e-24


SLOPES = (("banana", lambda y: 2 * y / 9), ("river", lambda y: 2 * (2 * y).cos()))


@pytest.mark.parametrize(("name", "slope"), SLOPES)
def test_the_isometry_penalty_of_a_shear_is_that_of_its_slope(
    make_flow: MakeFlow, name: str, slope: Callable[[Tensor], Tensor]
) -> None:
    """|J^T J - I|^2 = 2 c^2 + c^4 for a shear of slope c."""
    x = normal(200, 2)
    c = slope(x[:, 1])
    flow = make_flow(name)
    assert isometry(flow, x, "full") == pytest.approx(float((2 * c**2 + c**4).mean()), rel=1e-12)


def test_the_isometry_penalty_at_the_true_maps(make_flow: MakeFlow) -> None:
    """E[2 c^2 + c^4] is 0.52 on the banana's distribution and 9.96 on the river's."""
    for name, published in (("banana", 0.52), ("river", 9.96)):
        flow = make_flow(name)
        x = flow.sample(200_000, generator=torch.Generator().manual_seed(0))
        assert isometry(flow, x, "full") == pytest.approx(published, rel=0.02)


def test_slices_along_all_coordinates_give_the_full_penalty(stretching: Flow) -> None:
    x = normal(10, 3)
    assert isometry(stretching, x, "sliced", 3) == pytest.approx(isometry(stretching, x, "full"), rel=1e-12)
    # More directions than coordinates are as many as coordinates.
    assert isometry(stretching, x, "sliced", 9) == pytest.approx(isometry(stretching, x, "full"), rel=1e-12)


def test_a_slice_has_the_mean_worked_out_for_random_frames(stretching: Flow) -> None:
    """E |Q^T M Q|^2 over k-frames, which is no multiple of |M|^2 (sheet, section 6)."""
    draws, d, k = 200_000, 3, 2
    j = jacobian(lambda y: stretching(y)[0], normal(1, 3))[0]
    m = j.mT @ j - torch.eye(3, dtype=torch.float64)
    whole, trace = float(m.square().sum()), float(m.trace()) ** 2
    expected = k * (2 * whole + trace) / (d * (d + 2))
    expected += k * (k - 1) * (d * whole - trace) / (d * (d + 2) * (d - 1))
    assert isometry(stretching, torch.zeros(draws, 3, dtype=torch.float64), "sliced", k) == pytest.approx(
        expected, rel=0.02
    )


def test_lengths_and_angles_see_what_they_are_named_for(make_flow: MakeFlow) -> None:
    twice = make_flow("linear", matrix=[[2.0, 0.0], [0.0, 2.0]])
    x = normal(50, 2)
    assert isometry(twice, x, "length", 4) == pytest.approx(1.0, rel=1e-12)
    assert isometry(twice, x, "angle", 4) == pytest.approx(0.0, abs=1e-12)
    assert isometry(twice, x, "length-angle", 4) == pytest.approx(1.0, rel=1e-12)
    shear = make_flow("linear", matrix=[[1.0, 1.0], [0.0, 1.0]])
    both = isometry(shear, x, "length", 4) + isometry(shear, x, "angle", 4)
    assert isometry(shear, x, "angle", 4) > 0.01
    assert isometry(shear, x, "length-angle", 4) == pytest.approx(both, rel=1e-12)


def test_angles_are_those_between_neighbouring_directions(make_flow: MakeFlow) -> None:
    """Two fixed directions, (1, 0) and (0, 1), which the transposed shear takes to (1, 1) and (0, 1)."""
    shear = make_flow("linear", matrix=[[1.0, 1.0], [0.0, 1.0]])
    x = torch.zeros(1, 2, dtype=torch.float64)
    directions = torch.eye(2, dtype=torch.float64)[:, None]
    products = with_cotangents(shear, x, directions)[2]
    assert float(isometry_penalty("angle", directions, products)) == pytest.approx(0.5, rel=1e-12)
    assert float(isometry_penalty("length", directions, products)) == pytest.approx((math.sqrt(2) - 1) ** 2 / 2)


def test_cotangents_are_rows_of_the_jacobian(make_flow: MakeFlow) -> None:
    coupling = make_flow("coupling")
    x = normal(7, *coupling.event_shape)
    directions = unit_vectors("full", x, 1, None)
    z, log_det, products = with_cotangents(coupling, x, directions)
    expected = jacobian(lambda y: coupling(y)[0], x)
    assert torch.allclose(products.transpose(0, 1).flatten(2), expected, atol=1e-12)
    assert torch.allclose(z, coupling(x)[0], atol=1e-12)
    assert torch.allclose(log_det, torch.linalg.slogdet(expected)[1], atol=1e-10)


def test_penalties_reach_the_parameters(make_flow: MakeFlow) -> None:
    coupling = make_flow("coupling")
    x = normal(7, *coupling.event_shape)
    directions = unit_vectors("sliced", x, 2, torch.Generator().manual_seed(0))
    _, log_det, products = with_cotangents(coupling, x, directions)
    for penalty in (
        isometry_penalty("sliced", directions, products),
        volume_penalty("squared", log_det),
        hessian_penalty(coupling, coupling.base, x, torch.Generator().manual_seed(0)),
    ):
        weights = [parameter for parameter in coupling.parameters() if parameter.requires_grad]
        grads = torch.autograd.grad(penalty, weights, retain_graph=True, allow_unused=True)
        assert max(float(g.abs().max()) for g in grads if g is not None) > 0


def test_volumes() -> None:
    log_det = torch.tensor([1.0, -3.0, 0.0])
    assert float(volume_penalty("absolute", log_det)) == pytest.approx(4 / 3)
    assert float(volume_penalty("squared", log_det)) == pytest.approx(10 / 3)


def test_the_hessian_penalty_of_the_banana(make_flow: MakeFlow) -> None:
    """Only phi_1 bends, by -2/9 in x_2, and grad psi weighs it by phi_1 / a_1."""
    flow = make_flow("banana")
    x = normal(50, 2)
    weight = (x[:, 0] - x[:, 1].square() / 9) / 0.25
    expected = (2 / 9 * weight).square().mean()
    assert float(hessian_penalty(flow, flow.base, x, None).detach()) == pytest.approx(float(expected), rel=1e-12)


def test_the_hessian_penalty_has_the_mean_of_the_frobenius_norm(make_flow: MakeFlow) -> None:
    coupling = make_flow("coupling")
    point = normal(1, *coupling.event_shape)
    psi = coupling.base
    slope = psi.grad(coupling(point)[0]).detach()
    hessian = torch.autograd.functional.hessian(lambda y: (coupling(y[None])[0] * slope).sum(), point[0])
    many = point.expand(20_000, *coupling.event_shape)
    found = hessian_penalty(coupling, psi, many, torch.Generator().manual_seed(0)).detach()
    assert float(found) == pytest.approx(float(hessian.square().sum()), rel=0.05)


def test_the_hessian_penalty_of_what_does_not_bend(rotation: Flow, make_flow: MakeFlow) -> None:
    assert float(hessian_penalty(rotation, rotation.base, normal(5, 5), None)) == 0


def test_a_diagnosis_of_the_banana(make_flow: MakeFlow) -> None:
    flow = make_flow("banana")
    x = flow.sample(4000, generator=torch.Generator().manual_seed(0))
    c = 2 * x[:, 1] / 9
    found = diagnose_flow(flow, x)
    assert found.points == 4000
    assert found.isometry == pytest.approx(float((2 * c**2 + c**4).mean()) / 2, rel=1e-12)
    assert (found.volume, found.volume_spread) == (0, 0)
    assert found.inversion < 1e-15
    assert found.nll == pytest.approx(2.8378771, abs=0.05)
    # The singular values of a shear of slope c are sqrt(1 + c^2/4) +- c/2.
    largest = (1 + c**2 / 4).sqrt() + c.abs() / 2
    assert found.largest_stretch == pytest.approx(float(largest.quantile(0.99)), rel=1e-12)
    assert found.smallest_stretch == pytest.approx(float((1 / largest).quantile(0.01)), rel=1e-12)
    assert found.warnings() == []


def test_a_map_that_stretches_unevenly_is_warned_of(make_flow: MakeFlow) -> None:
    flow = make_flow("linear", matrix=[[20.0, 0.0], [0.0, 1.0]])
    (warning,) = diagnose_flow(flow, drawn(flow)).warnings()
    assert "from 1 to 20" in warning
    # One factor for all lengths changes no geodesic.
    even = make_flow("linear", matrix=[[20.0, 0.0], [0.0, 20.0]])
    found = diagnose_flow(even, drawn(even))
    assert found.warnings() == []
    assert found.volume == pytest.approx(math.log(20))


@pytest.mark.parametrize("size", [64, 65])
def test_up_to_64_coordinates_a_diagnosis_sees_every_direction(size: int, make_flow: MakeFlow) -> None:
    """One direction of so many is stretched to three times its length: |J J^T - I|^2 / D is 64 / D."""
    flow = make_flow("linear", matrix=torch.diag(torch.tensor([3.0, *[1.0] * (size - 1)])).tolist())
    found = diagnose_flow(flow, normal(20, size))
    assert (found.largest_stretch == pytest.approx(3)) == (size == 64)
    assert (found.isometry == pytest.approx(64 / size)) == (size == 64)


class Slipping(Flow):
    """z = sinh(x), coordinate by coordinate, with an inverse that is off by 0.01 at one point."""

    def __init__(self) -> None:
        super().__init__((2,), StandardNormal())

    def forward(self, x: Tensor, condition: Any = None) -> tuple[Tensor, Tensor]:
        return x.sinh(), x.cosh().log().sum(1)

    def inverse(self, z: Tensor, condition: Any = None) -> tuple[Tensor, Tensor]:
        return z.asinh() + 0.01 * (z[:, :1] == z[:, 0].max()), -0.5 * (1 + z.square()).log().sum(1)


def test_a_diagnosis_of_a_map_that_changes_volume_and_slips() -> None:
    x = normal(100, 2) + 3
    found, log_det = diagnose_flow(Slipping(), x), x.cosh().log().mean(1)
    assert found.volume == pytest.approx(float(log_det.mean()), rel=1e-12)
    assert found.volume_spread == pytest.approx(float(log_det.std(correction=0)), rel=1e-12)
    spread = float((x - x.mean(0)).square().sum(1).mean().sqrt())
    assert found.inversion == pytest.approx(0.01 * math.sqrt(2) / spread, rel=1e-6)
    assert found.nll == pytest.approx(float(-Slipping().log_prob(x).mean()), rel=1e-12)
    assert found.excess == pytest.approx(float(x.sinh().square().mean() - 1) / 2, rel=0.01)


def test_what_is_warned_of() -> None:
    best = Diagnosis(
        points=9,
        isometry=0.1,
        smallest_stretch=0.5,
        largest_stretch=4.9,
        volume=3.0,
        volume_spread=0.49,
        inversion=9e-4,
        nll=1.0,
        excess=0.49,
    )
    assert best.warnings() == []
    for name, value, text in (
        ("largest_stretch", 5.0, "far from an isometry"),
        ("volume_spread", 0.5, "differs by 0.5 a coordinate"),
        ("inversion", 1e-3, "does not invert"),
        ("excess", 0.5, "latents are 0.5 nats a coordinate less likely"),
    ):
        for much in (value, math.nan):
            (warning,) = replace(best, **{name: much}).warnings()
            assert text.replace("0.5", f"{much:.2g}") in warning


def test_points_of_another_distribution_are_warned_of(make_flow: MakeFlow) -> None:
    flow = make_flow("linear", rotation=3, dimension=100)
    assert diagnose_flow(flow, drawn(flow)).warnings() == []
    (warning,) = diagnose_flow(flow, 1.5 * drawn(flow)).warnings()
    assert "far from the flow's distribution" in warning
    assert diagnose_flow(flow, 1.5 * drawn(flow)).warnings(of_the_distribution=False) == []


def test_what_can_not_be_diagnosed(rotation: Flow) -> None:
    with pytest.raises(DataError, match="held-out points"):
        diagnose_flow(rotation, normal(0, 5))


def test_a_single_point_is_diagnosed_by_the_spread_of_the_data(make_flow: MakeFlow) -> None:
    flow = make_flow("linear", matrix=[[1.0, 0.5], [0.3, 2.0]])
    assert diagnose_flow(flow, normal(1, 2)).warnings() == []


def test_derivatives_that_overflow(make_flow: MakeFlow) -> None:
    with pytest.raises(DataError, match="derivatives of the flow are not finite at 1 of 2 points"):
        diagnose_flow(make_flow("banana"), torch.tensor([[1.0, 1.0], [0.0, 1e200]], dtype=torch.float64))


def test_many_coordinates_are_diagnosed_by_slices(make_flow: MakeFlow) -> None:
    flow = make_flow("linear", rotation=3, dimension=100)
    found = diagnose_flow(flow, normal(20, 100))
    assert found.isometry < 1e-24
    assert found.largest_stretch == pytest.approx(1)


def test_a_geometry_reports_what_its_points_say(make_flow: MakeFlow, make_geometry: Callable[..., Pullback]) -> None:
    uneven = make_flow("linear", matrix=[[20.0, 0.0], [0.0, 1.0]])
    for geometry in (make_geometry(uneven), IsoPullback(IsoPullbackConfig(), flow=uneven)):
        numbers, warnings = geometry.diagnose(drawn(uneven))
        assert numbers["largest_stretch"] == pytest.approx(20)
        assert len(warnings) == 1
