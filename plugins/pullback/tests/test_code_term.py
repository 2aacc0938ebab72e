"""The error of codes in a flow's loss: closed forms, its draws, its order, its units, and what training makes of it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from scorefold.data import Condition, Dataset, DataSpec, EventScale
from scorefold.interfaces import Flow, Loss, Progress
from scorefold_pullback.autoencoder.estimator import RiemannianAutoencoder
from scorefold_pullback.config import RiemannianAutoencoderConfig
from scorefold_pullback.flows.anisotropic import AnisotropicFlow
from scorefold_pullback.flows.config import AnisotropicConfig
from scorefold_pullback.flows.objective import code_penalty, drawn_counts
from scorefold_testing.contract import stir
from scorefold_toolkit.nn import StandardNormal
from scorefold_toolkit.numerics import jacobian
from scorefold_toolkit.training import fit

SMALL: dict[str, Any] = {"name": "coupling", "layers": 4, "width": 16, "blocks": 1}
WIDTHS = torch.tensor([3.0, 2.0, 1.0, 0.1], dtype=torch.float64)


class Shear(Flow):
    """z = (x_1, x_2 - slope x_1)."""

    def __init__(self, slope: float) -> None:
        super().__init__((2,), StandardNormal())
        self.slope = nn.Parameter(torch.tensor(slope, dtype=torch.float64))

    def forward(self, x: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        return torch.stack((x[:, 0], x[:, 1] - self.slope * x[:, 0]), 1), x.new_zeros(len(x))

    def inverse(self, z: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        return torch.stack((z[:, 0], z[:, 1] + self.slope * z[:, 0]), 1), z.new_zeros(len(z))


def normal(rows: int, size: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def turned(rows: int = 300) -> Tensor:
    """Normal points of four widths along random axes."""
    return normal(rows, 4) * WIDTHS @ torch.linalg.qr(normal(4, 4, seed=9))[0] + 0.5


def prepared(x: Tensor, *, scale: float = 2.0, stirred: bool = True, **config: Any) -> AnisotropicFlow:
    torch.manual_seed(0)
    chosen = AnisotropicConfig.model_validate({"map": SMALL, "isometry": "full", **config})
    flow = AnisotropicFlow(chosen, data=DataSpec(tuple(x.shape[1:]), EventScale(std=scale))).double()
    flow.prepare(Dataset(x), torch.Generator().manual_seed(0))
    if stirred:
        stir(flow.map, torch.Generator().manual_seed(1))
    return flow


def loss_of(flow: AnisotropicFlow, x: Tensor, generator: torch.Generator | None = None) -> Loss:
    drawn = torch.Generator().manual_seed(3) if generator is None else generator
    return flow.loss(Dataset(x), progress=Progress(0, 1, "fit"), generator=drawn)


def probabilities(size: int) -> Tensor:
    k = torch.arange(1, size + 1, dtype=torch.float64)
    return ((k + 1) / k).log() / math.log(size + 1)


@pytest.mark.parametrize("size", [1, 2, 784])
def test_counts_are_uniform_in_the_logarithm(size: int) -> None:
    rows = 200_000
    counts = drawn_counts(rows, size, generator=torch.Generator().manual_seed(0), like=WIDTHS)
    expected = probabilities(size)
    assert float(expected.sum()) == pytest.approx(1)
    found = torch.bincount(counts.long(), minlength=size + 1)[1:] / rows
    assert len(found) == size
    assert bool(((found - expected).abs() <= 5 * (expected * (1 - expected) / rows).sqrt() + 1e-9).all())


@pytest.mark.parametrize("kept", [1, 2, 3, 4])
def test_at_the_start_a_code_loses_what_a_pca_does(kept: int) -> None:
    x = turned()
    flow = prepared(x, stirred=False)
    squares = torch.linalg.eigvalsh((x - x.mean(0)).mT @ (x - x.mean(0)) / len(x)).flip(0)
    found = code_penalty(flow, x, flow(x)[0], flow.base.variances, torch.full((len(x),), kept))
    assert float(found.detach()) == pytest.approx(float(squares[kept:].sum()), rel=1e-9, abs=1e-20)


def test_the_part_of_the_loss_is_a_pca_s_remainder_in_variances_of_the_data() -> None:
    x = turned()
    flow = prepared(x, stirred=False, code_weight=0.3)
    squares = torch.linalg.eigvalsh((x - x.mean(0)).mT @ (x - x.mean(0)) / len(x)).flip(0)
    remainders = torch.stack([squares[k:].sum() for k in range(1, 5)])
    expected = float((probabilities(4) * remainders).sum()) / 2.0**2
    parts = [float(loss_of(flow, x, torch.Generator().manual_seed(n)).parts["code"]) for n in range(400)]
    found = torch.tensor(parts, dtype=torch.float64)
    assert float(found.mean()) == pytest.approx(expected, abs=5 * float(found.std()) / 20)
    assert float(found.std()) / 20 < 0.02 * expected


def test_the_order_of_a_code_is_that_of_the_variances() -> None:
    """A shear of slope a loses (x_2 - a x_1)^2 without its second coordinate, and x_1^2 (1 + a^2) without its first."""
    x, slope = normal(50, 2), 0.7
    flow = Shear(slope)
    one = torch.ones(50)
    for variances, expected in (
        ((2.0, 1.0), (x[:, 1] - slope * x[:, 0]).square()),
        ((1.0, 1.0), (x[:, 1] - slope * x[:, 0]).square()),  # equal ones are in the order they stand in
        ((1.0, 2.0), (1 + slope**2) * x[:, 0].square()),
    ):
        found = code_penalty(flow, x, flow(x)[0], torch.tensor(variances), one)
        assert float(found.detach()) == pytest.approx(float(expected.mean()), rel=1e-12)
    all_kept = code_penalty(flow, x, flow(x)[0], torch.tensor([2.0, 1.0]), 2 * one)
    assert float(all_kept.detach()) == pytest.approx(0, abs=1e-25)


def test_each_point_has_its_own_count() -> None:
    x, slope = normal(50, 2), 0.7
    flow, counts = Shear(slope), torch.arange(50) % 2 + 1
    found = code_penalty(flow, x, flow(x)[0], torch.tensor([2.0, 1.0]), counts)
    expected = ((x[:, 1] - slope * x[:, 0]).square() * (counts == 1)).mean()
    assert float(found.detach()) == pytest.approx(float(expected), rel=1e-12)


def test_the_gradient_leads_to_the_regression_of_the_narrow_on_the_wide() -> None:
    """d/da (x_2 - a x_1)^2 = -2 x_1 (x_2 - a x_1), through the decoder alone: the kept coordinate does not move."""
    x, slope = normal(50, 2), 0.7
    flow = Shear(slope)
    code_penalty(flow, x, flow(x)[0], torch.tensor([2.0, 1.0]), torch.ones(50)).backward()
    expected = (-2 * x[:, 0] * (x[:, 1] - slope * x[:, 0])).mean()
    assert float(flow.slope.grad or 0) == pytest.approx(float(expected), rel=1e-12)


def test_the_gradient_passes_through_the_encoder_as_well() -> None:
    """With its first coordinate dropped, x_2 - a x_1 is decoded as it is: d/da of x_1^2 (1 + a^2) is 2 a x_1^2."""
    x, slope = normal(50, 2), 0.7
    flow = Shear(slope)
    code_penalty(flow, x, flow(x)[0], torch.tensor([1.0, 2.0]), torch.ones(50)).backward()
    assert float(flow.slope.grad or 0) == pytest.approx(float((2 * slope * x[:, 0].square()).mean()), rel=1e-12)


@pytest.mark.parametrize("kept", [1, 3])
def test_it_is_the_error_of_the_auto_encoder(kept: int) -> None:
    x = turned()
    flow = prepared(x)
    coder = RiemannianAutoencoder(RiemannianAutoencoderConfig(dimension=kept), flow=flow)
    found = code_penalty(flow, x, flow(x)[0], flow.base.variances, torch.full((len(x),), kept))
    assert float(found.detach()) == pytest.approx(float(coder.residuals(x).detach().square().mean()), rel=1e-9)


def test_a_weight_of_zero_leaves_the_loss_to_the_bit() -> None:
    x = turned()
    settings: dict[str, Any] = {"isometry": "sliced", "directions": 2, "noise": 0.1, "hessian_weight": 0.1}
    draws = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    plain, coded = prepared(x, **settings), prepared(x, code_weight=0.3, **settings)
    without, with_code = loss_of(plain, x, draws[0]), loss_of(coded, x, draws[1])
    assert set(with_code.parts) - set(without.parts) == {"code"}
    assert all(torch.equal(without.parts[name], with_code.parts[name]) for name in without.parts)
    total = float(without.value.detach()) + 0.3 * float(with_code.parts["code"])
    assert float(with_code.value.detach()) == pytest.approx(total, rel=1e-12)
    # Nothing is drawn for it either.
    drawn_counts(len(x), 4, generator=draws[0], like=x)
    assert torch.equal(draws[0].get_state(), draws[1].get_state())


def test_units_of_the_data_do_not_change_it() -> None:
    x = turned()
    for settings in ({}, {"whiten": True}):
        here = prepared(x, code_weight=1, noise=0.1, **settings)
        there = prepared(1000 * x, scale=2000.0, code_weight=1, noise=100.0, **settings)
        one, other = loss_of(here, x).parts["code"], loss_of(there, 1000 * x).parts["code"]
        assert float(one) == pytest.approx(float(other), rel=1e-9)
        assert float(one) > 1e-3


def test_the_error_is_that_of_the_points_without_noise() -> None:
    """Kept coordinates lose the noise, of variance 1, and dropped ones their own variance alone."""
    x = normal(20_000, 2) * WIDTHS[1:3]
    parts = loss_of(prepared(x, stirred=False, code_weight=1, noise=1.0), x).parts
    assert float(parts["code"]) == pytest.approx(2 / 2.0**2, rel=0.05)


def test_a_likelihood_is_no_reference_of_a_loss_with_codes() -> None:
    x = Dataset(turned())
    assert prepared(x.x).loss_reference(x, lambda: 0.0, "fit") is not None
    assert prepared(x.x, code_weight=1).loss_reference(x, lambda: 0.0, "fit") is None


def test_several_modes_have_no_order_of_coordinates() -> None:
    with pytest.raises(ValidationError, match="code_weight is for one mode"):
        AnisotropicConfig(modes=2, code_weight=1)


@pytest.mark.parametrize("start", ["pca", "none"])
def test_layers_on_coordinates_of_equal_widths(start: str) -> None:
    """The start is the same flow; both directions, the volume and Jacobian products agree after it moved."""
    x = turned()
    whitened = prepared(x, stirred=False, whiten=True, start=start, variance_floor=1e-9)
    plain = prepared(x, stirred=False, start=start, variance_floor=1e-9)
    assert torch.allclose(whitened(x)[0], plain(x)[0], atol=1e-12)
    assert torch.allclose(whitened.log_prob(x), plain.log_prob(x), atol=1e-9)
    entered = whitened._standard(x)
    assert torch.allclose(entered.square().mean(0), torch.ones(4, dtype=torch.float64), rtol=1e-6)
    stir(whitened.map, torch.Generator().manual_seed(1))
    x = x[:5]
    z, log_det = whitened(x)
    matrices = jacobian(lambda y: whitened(y)[0], x)
    assert torch.allclose(whitened.inverse(z)[0], x, atol=1e-9)
    assert torch.allclose(log_det, torch.linalg.slogdet(matrices)[1], atol=1e-9)
    directions = torch.eye(4, dtype=torch.float64)[:, None].expand(4, 5, 4)
    assert torch.allclose(whitened.with_products(x, directions)[2], matrices.permute(2, 0, 1), atol=1e-9)


def test_a_state_without_widths_is_that_of_layers_on_the_coordinates_as_they_are() -> None:
    x = turned(20)
    assert "widths" not in prepared(x).state_dict()
    assert "widths" in prepared(x, whiten=True).state_dict()


def test_a_parabola_is_decoded_from_one_number() -> None:
    """x_2 = 0.3 (x_1^2 - 1) and a little noise: one number of a PCA leaves the variance of x_2, 0.18."""
    x = normal(4000, 1)
    points = torch.cat((x, 0.3 * (x.square() - 1)), 1) + 0.02 * normal(4000, 2, seed=1)
    nested = {"name": "coupling", "layers": 2, "width": 16, "blocks": 1, "masks": "nested"}
    training = {"steps": 200, "batch_size": 128, "learning_rate": 5e-3, "warmup": 20, "ema": None}
    settings: dict[str, Any] = {"map": nested, "whiten": True, "code_weight": 10, "volume_weight": 0}
    flow = prepared(points, stirred=False, scale=1.0, training=training, **settings)
    fit(flow, points, flow.training_config, seed=0)
    coder = RiemannianAutoencoder(RiemannianAutoencoderConfig(dimension=1), flow=flow)
    assert float(coder.residuals(points).detach().square().mean()) < 0.1 * 0.18
