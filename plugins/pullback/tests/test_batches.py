"""Every map of a geometry on pairs, one to many and many to many, in blocks of rows, and with no D x D matrix."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from scorefold.data import DataSpec
from scorefold_pullback.config import CoshConfig, IsoPullbackConfig, PullbackConfig, QuadraticConfig
from scorefold_pullback.geometry import chart
from scorefold_pullback.geometry.chart import Chart
from scorefold_pullback.geometry.iso import IsoPullback
from scorefold_pullback.geometry.pullback import Pullback
from scorefold_pullback.potentials import Cosh, QuadraticPotential
from scorefold_standard.config import AffineCouplingConfig
from scorefold_standard.coupling_flows import CouplingFlow
from scorefold_testing.contract import stir
from scorefold_toolkit.nn import Quadratic

Make = Callable[..., Pullback]
Call = Callable[..., Tensor]
close = torch.testing.assert_close
S = torch.tensor([0.3, 0.9], dtype=torch.float64)

MAPS: dict[str, Call] = {
    "exp": lambda space, x, y, v, w: space.exp(x, v),
    "log": lambda space, x, y, v, w: space.log(x, y),
    "distance": lambda space, x, y, v, w: space.distance(x, y),
    "geodesic": lambda space, x, y, v, w: space.geodesic(x, y, S),
    "transport": lambda space, x, y, v, w: space.transport(x, y, v),
    "inner": lambda space, x, y, v, w: space.inner(x, v, w),
    "norm": lambda space, x, y, v, w: space.norm(x, v),
}


def space_called(kind: str, make_geometry: Make) -> Pullback | IsoPullback:
    space = make_geometry("coupling", psi=Cosh(CoshConfig()) if kind == "cosh" else None)
    return IsoPullback(IsoPullbackConfig(), flow=space.flow) if kind == "iso" else space


@pytest.fixture
def given(generator: torch.Generator) -> Tensor:
    """x, y, v, w of six rows."""
    return torch.randn(4, 6, 4, generator=generator, dtype=torch.float64) * 0.7


@pytest.mark.parametrize(
    ("kind", "name"), [(k, n) for k in ("quadratic", "cosh", "iso") for n in MAPS if (k, n) != ("iso", "transport")]
)
def test_pairs_one_to_many_and_many_to_many(make_geometry: Make, given: Tensor, kind: str, name: str) -> None:
    space, call = space_called(kind, make_geometry), MAPS[name]
    pairs = call(space, *given)
    close(pairs, torch.cat([call(space, *given[:, i : i + 1]) for i in range(6)]))
    first = given[:, :1].expand_as(given)
    for one in range(4):  # one argument is a row for all rows of the others, and the others are for all of its rows
        for alone in (True, False):
            short = [given[i, :1] if (i == one) == alone else given[i] for i in range(4)]
            full = [first[i] if (i == one) == alone else given[i] for i in range(4)]
            expected = call(space, *full)
            close(call(space, *short).expand_as(expected), expected)
    # Many to many: the points of x with the points of y, as rows in the order of a distance matrix.
    x, y = given[0, :3].repeat_interleave(2, 0), given[1, :2].repeat(3, 1)
    grid = call(space, x, y, given[2], given[3]).unflatten(0, (3, 2))
    for i in range(3):
        for j in range(2):
            k = 2 * i + j
            answer = call(space, given[0, i][None], given[1, j][None], given[2, k][None], given[3, k][None])
            close(grid[i, j], answer[0])
    if name == "distance":
        close(grid, space.distance_matrix(given[0, :3], given[1, :2]))


@pytest.mark.parametrize("name", MAPS)
def test_blocks_of_rows_change_nothing(
    make_geometry: Make, given: Tensor, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    space, call = make_geometry("coupling"), MAPS[name]
    whole = call(space, *given)
    monkeypatch.setattr(chart, "BLOCK_ROWS_ON_CPU", 4)
    close(call(space, *given), whole)
    asking = given.clone().requires_grad_()
    (slope,) = torch.autograd.grad(call(space, *asking).sum(), asking)
    monkeypatch.undo()
    close(slope, torch.autograd.grad(call(space, *asking).sum(), asking)[0])


def test_no_more_rows_than_a_block_go_through_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def doubled(x: Tensor) -> Tensor:
        seen.append(len(x))
        return 2 * x

    double = Chart(doubled, lambda w: w / 2)
    x = torch.arange(10.0)[:, None].expand(10, 3)
    monkeypatch.setattr(chart, "BLOCK", 12)
    assert torch.equal(double(x), 2 * x)
    value, tangent = double.push(x, torch.ones_like(x))
    assert torch.equal(value, 2 * x)
    assert torch.equal(tangent, torch.full_like(x, 2))
    assert seen == [4, 4, 2] * 2
    monkeypatch.setattr(chart, "BLOCK", 1)
    assert double.inverse(x[:2]).shape == (2, 3)  # one row at a time where even one is more than a block


def test_maps_of_many_coordinates_form_no_matrix() -> None:
    """A matrix of 40,000 x 40,000 numbers would be 13 GB."""
    torch.manual_seed(0)
    flow = CouplingFlow(AffineCouplingConfig(layers=2, hidden=(4,), linear="none"), data=DataSpec((40_000,)))
    stir(flow, torch.Generator().manual_seed(1))
    space = Pullback(PullbackConfig(), flow=flow.double().eval())
    x, y, v, w = torch.randn(4, 2, 40_000, dtype=torch.float64)
    with torch.no_grad():
        close(space.exp(x, space.log(x, y)), y, rtol=1e-6, atol=1e-6)
        close(space.norm(x, space.log(x, y)), space.distance(x, y))
        close(space.inner(y, space.transport(x, y, v), space.transport(x, y, w)), space.inner(x, v, w))
        close(space.geodesic(x, y, S).shape, (2, 2, 40_000))
        assert space.mean(x).shape == (40_000,)


def test_a_quadratic_psi_enters_lengths_alone(make_geometry: Make, given: Tensor) -> None:
    """Variances from 1e-200 to 1e200 would cost all digits on a way through grad psi and back, and no gradient of a map
    that psi cancels in reaches it."""
    psi = QuadraticPotential(QuadraticConfig(variances=(1e-200, 1e200, 1.0, 3.0)), dtype=torch.float64)
    space, plain = make_geometry("coupling", psi=psi), make_geometry("coupling", metric="latent")
    for name in ("exp", "log", "geodesic", "transport"):
        assert torch.equal(MAPS[name](space, *given), MAPS[name](plain, *given))
    assert torch.equal(space.mean(given[0]), plain.mean(given[0]))
    assert not torch.equal(space.distance(given[0], given[1]), plain.distance(given[0], given[1]))
    base = space.flow.base
    assert isinstance(base, Quadratic)
