"""Couplings on alternate features: which features move, how they start, the published scale, and refusals."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from scorefold.errors import ConfigError
from scorefold_pullback.maps.build import build_map
from scorefold_pullback.maps.checkerboard import Checkerboard, nested_parts
from scorefold_pullback.maps.config import CouplingMapConfig, MapConfig, SplineMapConfig
from scorefold_pullback.maps.regular import Rotation
from scorefold_testing.contract import stir
from scorefold_toolkit.nn import Bijection, Chain

validate = TypeAdapter(MapConfig).validate_python


def moved(phi: Bijection, seed: int = 0) -> Bijection:
    phi = phi.double()
    stir(phi, torch.Generator().manual_seed(seed))
    return phi


def draws(rows: int, features: int) -> torch.Tensor:
    return torch.randn(rows, features, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


@pytest.mark.parametrize("name", ["coupling", "spline"])
@pytest.mark.parametrize("rotations", [False, True])
@pytest.mark.parametrize("shape", [(1,), (2,), (5,), (1, 2, 3)])
def test_a_map_starts_as_the_identity(name: str, rotations: bool, shape: tuple[int, ...]) -> None:
    x = draws(20, math.prod(shape)).reshape(20, *shape)
    z, log_det = build_map(validate({"name": name, "rotations": rotations}), shape).double()(x)
    torch.testing.assert_close(z, x, rtol=0, atol=1e-12)
    torch.testing.assert_close(log_det, torch.zeros(20, dtype=x.dtype), rtol=0, atol=1e-12)


@pytest.mark.parametrize("config", [{"name": "coupling"}, {"name": "spline"}])
@pytest.mark.parametrize("features", [2, 3, 4, 5])
def test_even_features_move_first_and_odd_ones_next(config: dict[str, Any], features: int) -> None:
    x = draws(10, features)
    first = moved(build_map(validate({**config, "layers": 1}), (features,)))(x)[0] - x
    assert bool((first[:, 1::2] == 0).all())
    assert bool((first[:, 0::2] != 0).all())
    # In a map of two layers whose first one is the identity, only the odd features move.
    two = build_map(validate({**config, "layers": 2}), (features,)).double()
    start = {name: value.clone() for name, value in two.state_dict().items()}
    moved(two).load_state_dict(
        {name: value for name, value in start.items() if name.startswith("moves.0")}, strict=False
    )
    second = two(x)[0] - x
    assert bool((second[:, 0::2].abs() <= 1e-12).all())
    assert bool((second[:, 1::2] != 0).all())


def test_rotations_stand_before_every_two_layers() -> None:
    phi = build_map(CouplingMapConfig(layers=5, rotations=True, masks="alternate"), (4,))
    assert isinstance(phi, Chain)
    kinds = [type(layer) for layer in phi]
    assert kinds == [Rotation, Checkerboard] * 3
    assert [len(layer.moves) for layer in phi if isinstance(layer, Checkerboard)] == [2, 2, 1]


@pytest.mark.parametrize("name", ["coupling", "spline"])
def test_nested_layers_move_a_feature_by_earlier_ones_alone(name: str) -> None:
    """Layers of 16 features keep the first 4, 3, 2 and 1, in this order."""
    phi = moved(build_map(validate({"name": name, "layers": 4, "masks": "nested"}), (16,)))
    assert isinstance(phi, Chain)
    kept = [layer.first for layer in phi if isinstance(layer, Checkerboard)]
    assert kept == nested_parts(4, 16) == [4, 3, 2, 1]
    assert nested_parts(3, 2) == [1, 1, 1]
    jacobian = torch.autograd.functional.jacobian(lambda v: phi(v[None])[0][0], draws(1, 16)[0])
    free = torch.arange(16)[None] < torch.arange(16).clamp_max(4)[:, None]
    assert torch.equal(jacobian != 0, free | torch.eye(16, dtype=torch.bool))


@pytest.mark.parametrize("masks", ["mixed", "alternate", "nested"])
def test_layers_without_scales_keep_volumes(masks: str) -> None:
    phi = moved(build_map(validate({"name": "coupling", "scale": "none", "masks": masks}), (5,)))
    x = draws(10, 5)
    z, log_det = phi(x)
    assert float((z - x).detach().abs().min()) > 0 or masks == "nested"
    assert torch.equal(log_det, torch.zeros(10, dtype=x.dtype))
    matrix = torch.autograd.functional.jacobian(lambda v: phi(v[None])[0][0], x[0])
    assert float(torch.linalg.det(matrix)) == pytest.approx(1, rel=1e-9)
    torch.testing.assert_close(phi.inverse(z)[0], x, rtol=0, atol=1e-9)


def test_nested_masks_need_the_order_of_the_features() -> None:
    with pytest.raises(ValidationError, match="the order of the features, which rotations mix"):
        CouplingMapConfig(masks="nested", rotations=True)


def test_a_feature_is_moved_by_those_of_the_other_parity_alone() -> None:
    phi = moved(build_map(CouplingMapConfig(layers=1), (5,)))
    jacobian = torch.autograd.functional.jacobian(lambda v: phi(v[None])[0][0], draws(1, 5)[0])
    parity = torch.arange(5) % 2
    free = (parity[:, None] == 0) & (parity[None] == 1)
    assert torch.equal(jacobian != 0, free | torch.eye(5, dtype=torch.bool))


def test_the_published_scale_starts_at_its_own_value() -> None:
    """sigmoid(2) + 0.001 = 0.882."""
    phi = build_map(CouplingMapConfig(scale="published", layers=1), (2,)).double()
    z, log_det = phi(torch.tensor([[2.0, 5.0]], dtype=torch.float64))
    scale = 1 / (1 + math.exp(-2)) + 0.001
    assert scale == pytest.approx(0.882, abs=5e-4)
    torch.testing.assert_close(z, torch.tensor([[2.0 * scale, 5.0]], dtype=torch.float64))
    assert float(log_det.detach()) == pytest.approx(math.log(scale))


def test_published_scales_lie_within_their_bounds_and_symmetric_ones_within_theirs() -> None:
    x = 100 * draws(2000, 2)
    for config, low, high in (
        (CouplingMapConfig(scale="published", layers=1), 0.001, 1.001),
        (CouplingMapConfig(scale_bound=1.5, layers=1), math.exp(-1.5), math.exp(1.5)),
    ):
        scales = moved(build_map(config, (2,)))(x)[1].detach().exp()
        assert low <= float(scales.min()) < low + 0.05
        assert high - 0.05 < float(scales.max()) <= high


def test_a_published_layer_has_the_published_number_of_parameters() -> None:
    """About 16.9 thousand a layer in two dimensions in the published code."""

    def count(layers: int) -> int:
        return sum(p.numel() for p in build_map(CouplingMapConfig(layers=layers), (2,)).parameters())

    assert count(1) == (64 + 64) + 4 * (64 * 64 + 64) + (2 * 64 + 2) == 16898
    assert count(24) == 24 * 16898


def test_one_feature_is_mapped_by_constants() -> None:
    x = torch.linspace(-8, 8, 400, dtype=torch.float64)[:, None]
    z, log_det = moved(build_map(CouplingMapConfig(), (1,)))(x)
    assert z.diff(dim=0).std() < 1e-12  # affine
    assert log_det.std() < 1e-12
    curve = moved(build_map(SplineMapConfig(bins=4), (1,)))(x)[0]
    inside = x.abs() <= 5
    assert bool((curve.diff(dim=0) > 0).all())
    assert (curve - x)[inside].abs().max() > 0.05
    torch.testing.assert_close(curve[~inside], x[~inside], rtol=0, atol=1e-12)


def test_splines_are_the_identity_beyond_their_bound() -> None:
    phi = moved(build_map(SplineMapConfig(bound=2.0), (2,)))
    x = torch.tensor([[2.5, -3.0], [-40.0, 7.0]], dtype=torch.float64)
    z, log_det = phi(x)
    torch.testing.assert_close(z, x, rtol=0, atol=1e-12)
    torch.testing.assert_close(log_det, torch.zeros(2, dtype=x.dtype), rtol=0, atol=1e-11)


def test_only_smooth_activations_have_second_derivatives() -> None:
    x = draws(1, 2)[0]

    def curvature(activation: str) -> float:
        phi = moved(build_map(validate({"name": "coupling", "layers": 1, "activation": activation}), (2,)))
        # The shift alone is looked at: x_0 = 0 leaves nothing for the scale to bend.
        at = torch.stack([x[0] * 0, x[1]])
        hessian = torch.autograd.functional.hessian(lambda v: phi(v[None])[0][0, 0], at)
        return float(hessian[1, 1].abs())

    assert curvature("relu") == 0
    assert curvature("silu") > 1e-3


def test_a_bare_name_is_a_map_with_its_defaults() -> None:
    assert validate("coupling") == validate({"name": "coupling"}) == CouplingMapConfig()
    assert validate("spline") == SplineMapConfig()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("splin", "splin"),
        ({"layers": 2}, "name"),
        ({"name": "coupling", "layers": 0}, "greater than or equal to 1"),
        ({"name": "coupling", "bins": 8}, "bins"),
        ({"name": "coupling", "scale": "sigmoid"}, "'symmetric', 'published' or 'none'"),
        ({"name": "coupling", "scale_bound": 0}, "greater than 0"),
        ({"name": "coupling", "activation": "sine"}, "'silu'"),
        ({"name": "coupling", "width": 0}, "greater than or equal to 1"),
        ({"name": "spline", "bins": 1}, "greater than or equal to 2"),
        ({"name": "spline", "bound": -1}, "greater than 0"),
    ],
)
def test_wrong_settings_are_refused_in_words(given: Any, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        validate(given)


@pytest.mark.parametrize("shape", [(), (0,), (2, 0)])
def test_an_event_without_coordinates_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="expected at least one coordinate"):
        build_map(CouplingMapConfig(), shape)


def test_mixed_masks_move_the_second_half_by_all_of_the_first() -> None:
    """Of five features in every second pair of layers 3 and 4 depend on 0, 1 and 2 and not on one another."""
    phi = build_map(CouplingMapConfig(layers=4), (5,)).double()
    with torch.no_grad():
        moves = [move for module in phi.modules() if isinstance(module, Checkerboard) for move in module.moves]
        torch.nn.init.normal_(moves[3].conditioner.last.weight)
    x = torch.randn(1, 5, dtype=torch.float64)
    found = torch.func.jacrev(lambda y: phi(y[None])[0][0])(x[0])
    changed = (found - torch.diag(found.diagonal())).abs() > 1e-12
    expected = torch.zeros(5, 5, dtype=torch.bool)
    expected[3:, :3] = True
    assert torch.equal(changed, expected)
    assert len(moves) == 4
