"""Trained flows whose base has several modes: where they start, what is learned, and what the geometry makes of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from scorefold.data import Dataset, DataSpec, EventScale
from scorefold.errors import DataError
from scorefold.interfaces import Phase, Progress
from scorefold_pullback.autoencoder.latent_axes import principal_axes
from scorefold_pullback.config import PullbackConfig
from scorefold_pullback.flows.anisotropic import AnisotropicFlow
from scorefold_pullback.flows.config import AnisotropicConfig, IdentityConfig
from scorefold_pullback.flows.linear import IdentityFlow
from scorefold_pullback.flows.mixture import SharedMixture
from scorefold_pullback.flows.objective import find_parts
from scorefold_pullback.geometry.figures import geometry_figures
from scorefold_pullback.geometry.pullback import Pullback
from scorefold_testing.contract import stir

close = torch.testing.assert_close
CENTRES = torch.tensor([[0.0, 0.0, 0.0], [40.0, 0.0, 0.0], [0.0, 60.0, 0.0]], dtype=torch.float64)
INSIDE = torch.tensor([[2.0, 1.0, 0.0], [1.0, 2.0, 0.0], [0.0, 0.0, 0.01]], dtype=torch.float64)
SHARES = (0.2, 0.3, 0.5)


def groups(rows: int = 4000) -> Tensor:
    """Points of three groups that lie far apart and have the same covariance."""
    generator = torch.Generator().manual_seed(0)
    counts = [int(share * rows) for share in SHARES]
    noise = torch.randn(rows, 3, generator=generator, dtype=torch.float64) @ torch.linalg.cholesky(INSIDE).mT
    points: Tensor = CENTRES.repeat_interleave(torch.tensor(counts), dim=0) + noise
    return points


def prepared(x: Tensor, **config: Any) -> AnisotropicFlow:
    torch.manual_seed(0)
    small = {"name": "coupling", "layers": 2, "width": 16, "blocks": 1}
    chosen = AnisotropicConfig.model_validate({"map": small, "modes": 3, **config})
    scale = EventScale(mean=float(x.mean()), std=float(x.std()))
    flow = AnisotropicFlow(chosen, data=DataSpec(tuple(x.shape[1:]), scale)).double()
    flow.prepare(Dataset(x), torch.Generator().manual_seed(0))
    return flow


def base_of(flow: AnisotropicFlow) -> SharedMixture:
    assert isinstance(flow.base, SharedMixture)
    return flow.base


def test_it_starts_as_the_mixture_of_the_groups() -> None:
    x = groups()
    flow = prepared(x, variance_floor=1e-9)
    base = base_of(flow)
    parts = x.split([int(share * len(x)) for share in SHARES])
    apart = torch.cat([part - part.mean(0) for part in parts])
    inside = apart.mT @ apart / len(x)
    close(base.variances.detach(), torch.linalg.eigvalsh(inside).flip(0), rtol=1e-5, atol=0)
    order = base.log_weights.argsort()
    close(base.log_weights[order].exp().detach(), torch.tensor(SHARES, dtype=torch.float64), rtol=1e-9, atol=0)
    found = flow.inverse(base.offsets[order])[0].detach()
    close(found, torch.stack([part.mean(0) for part in parts]), rtol=0, atol=1e-6)
    mixture = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(torch.tensor(SHARES, dtype=torch.float64)),
        torch.distributions.MultivariateNormal(torch.stack([part.mean(0) for part in parts]), inside),
    )
    close(flow.log_prob(x[::40]).detach(), mixture.log_prob(x[::40]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("start", ["none", "pca"])
def test_without_axes_of_their_own_groups_start_along_the_coordinates(start: str) -> None:
    x = groups().reshape(-1, 3, 1)
    base = base_of(prepared(x, start=start))
    inside = INSIDE.diagonal() if start == "none" else torch.tensor([3.0, 1.0, 0.01], dtype=torch.float64)
    close(base.variances.detach(), inside.reshape(3, 1), rtol=0.05, atol=2e-3)
    assert base.offsets.shape == (3, 3, 1)


@pytest.mark.parametrize("offset", [0, 1e8])
def test_units_and_a_place_far_from_0_leave_the_start_as_it_is(offset: float) -> None:
    x = groups(400)
    here, there = base_of(prepared(x)), base_of(prepared(1e6 * x + offset))
    close(1e12 * here.variances, there.variances, rtol=1e-6, atol=0)
    close(here.places, there.places, rtol=1e-6, atol=1e-9)
    close(here.log_weights, there.log_weights)


def test_columns_that_do_not_vary_and_many_coordinates_start_too() -> None:
    x = groups(400)
    constant = torch.cat([x, torch.full((len(x), 1), 101_325.0, dtype=torch.float64)], dim=1)
    close(base_of(prepared(constant)).log_weights, base_of(prepared(x)).log_weights)
    turn = torch.linalg.qr(torch.randn(60, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64))[0]
    wide = x @ turn.mT
    shares = find_parts(wide, 3, torch.Generator().manual_seed(0)).weights
    close(shares, torch.tensor(sorted(SHARES, reverse=True), dtype=torch.float64))
    with pytest.raises(DataError, match="no mixture of 2 normal distributions fits") as error:
        find_parts(torch.tensor([[1.0], [float("inf")]]), 2, torch.Generator().manual_seed(0))
    assert error.value.hint == "set modes: 1, or leave out columns that do not vary"


def test_means_and_shares_are_learned_at_the_rate_of_the_base() -> None:
    x = groups(400)
    flow = prepared(x, isometry_weight=0.0, volume_weight=0.0)
    base = base_of(flow)
    stir(base, torch.Generator().manual_seed(1))
    _, of_base = flow.parameter_groups(Phase("fit", (flow,)))
    assert {id(parameter) for parameter in of_base["params"]} == {
        id(parameter) for parameter in (base.places, base.logits, base.normal.log_variances)
    }
    flow.loss(Dataset(x), progress=Progress(0, 1, "fit"), generator=torch.Generator().manual_seed(0)).value.backward()
    with torch.no_grad():
        z = flow(x)[0]
        apart = z[:, None] - base.offsets
        held = (base.log_weights - 0.5 * (apart.square() / base.variances).sum(2)).softmax(1)
        slope = -(held[..., None] * apart / base.variances).mean(0) * base.unit
        close(base.places.grad, slope)
        close(base.logits.grad, base.log_weights.exp() - held.mean(0))


def test_fixed_variances_leave_means_and_shares_to_learn() -> None:
    flow = prepared(groups(400), variances="fixed")
    assert [name for name, _ in base_of(flow).named_parameters()] == ["places", "logits"]
    # The spread is a number of single precision.
    torch.testing.assert_close(flow.base.variances, torch.full((3,), flow.spread**2).double(), rtol=1e-6, atol=0)


def test_its_geometry_is_exact_and_its_axes_hold_what_lies_between_groups() -> None:
    x = groups(400)
    flow = prepared(x)
    stir(flow.map, torch.Generator().manual_seed(1))
    flow.requires_grad_(False).eval()
    space = Pullback(PullbackConfig(), flow=flow)
    a, b = x[:20], x[-20:]
    close(space.exp(a, space.log(a, b)), b, rtol=1e-7, atol=1e-7)
    base = base_of(flow)
    values = torch.linalg.eigvalsh(base.covariance()).flip(0)
    close(principal_axes(flow).variances, values)
    between = base.covariance() - base.variances.diag()
    assert float(between.trace()) > 100 * float(base.variances.sum())


def test_the_chart_has_lines_around_each_mode() -> None:
    base = SharedMixture.fixed(
        (2,), torch.tensor([[0.0, -6.0], [0.0, 6.0]]), torch.tensor([1.0, 2.0]), torch.tensor([0.25, 1.0])
    )
    flow = IdentityFlow(IdentityConfig(event_shape=(2,)), dtype=torch.float64)
    flow.base = base  # type: ignore[assignment]
    lines = geometry_figures(Pullback(PullbackConfig(), flow=flow))["chart"].axes[0].lines
    heights = [np.asarray(line.get_ydata(), dtype=float) for line in lines]
    ends = torch.tensor([[height.min(), height.max()] for height in heights])
    assert len(lines) == 44
    along = ends[ends[:, 1] - ends[:, 0] > 1]
    assert sorted(map(tuple, along.unique(dim=0).tolist())) == [(-8.5, -3.5), (3.5, 8.5)]


def test_parts_of_single_points_are_refused_by_their_number() -> None:
    x = torch.tensor([[0.0, 1.0], [2.0, 3.0]]).repeat(10, 1)
    with pytest.raises(DataError, match="2 different points for a base of 3 modes") as error:
        find_parts(x, 3, torch.Generator().manual_seed(0))
    assert error.value.hint == "give more points, or set modes to 2 or less"
    assert find_parts(x, 2, torch.Generator().manual_seed(0)).weights.tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"variances": "closed-form"}, "set variances: learned, or modes: 1"),
        ({"hessian_weight": 1.0}, "set it to 0, or modes: 1"),
        ({"modes": 0}, "greater than or equal to 1"),
    ],
    ids=str,
)
def test_settings_that_do_not_go_with_modes(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        AnisotropicConfig.model_validate({"modes": 2, **config})


def test_straight_lines_of_images_join_the_ends_that_are_shown() -> None:
    """Draws leave the limits of pixels, and are cut there. The middle of the line below is the mean of the cut ends."""
    flow = IdentityFlow(IdentityConfig(event_shape=(1, 4, 4)))
    flow.event_scale = EventScale(low=0.0, high=1.0)
    figure = geometry_figures(Pullback(PullbackConfig(), flow=flow))["geodesics"]
    assert figure.axes[0].get_title() == "Each 2 rows: a geodesic, the straight line"
    grid = torch.as_tensor(figure.axes[0].images[0].get_array())
    first, middle, last = (grid[5:9, 5 * place : 5 * place + 4] for place in (0, 4, 8))
    assert {0.0, 1.0} <= set(first.flatten().tolist())
    close(middle, (first + last) / 2, atol=1e-6, rtol=0)
