"""What every map keeps, whatever its kind: exact inverses and log-determinants, by every way of differentiating."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from scorefold_pullback.maps.build import build_map
from scorefold_pullback.maps.config import MapConfig
from scorefold_testing.contract import stir
from scorefold_toolkit.nn import Bijection

Case = tuple[Mapping[str, Any], tuple[int, ...]]

SMALL = {"width": 8, "blocks": 1}
CASES: list[Case] = [
    *(({"name": "coupling", **SMALL}, (features,)) for features in range(1, 6)),
    ({"name": "coupling", "scale": "published", "activation": "relu", **SMALL}, (3,)),
    ({"name": "coupling", "rotations": True, "layers": 3, **SMALL}, (4,)),
    ({"name": "coupling", "masks": "mixed", "layers": 6, **SMALL}, (5,)),
    ({"name": "coupling", "masks": "mixed", "layers": 4, **SMALL}, (1,)),
    ({"name": "coupling", "masks": "nested", "layers": 3, **SMALL}, (7,)),
    ({"name": "coupling", "scale": "none", **SMALL}, (4,)),
    ({"name": "spline", "masks": "nested", "layers": 2, **SMALL}, (1,)),
    ({"name": "spline", "masks": "mixed", "rotations": True, "layers": 4, **SMALL}, (4,)),
    ({"name": "coupling", **SMALL}, (2, 3)),
    *(({"name": "spline", "bins": 4, **SMALL}, (features,)) for features in range(1, 6)),
    ({"name": "spline", "rotations": True, "bound": 2.0, **SMALL}, (3,)),
    ({"name": "spline", **SMALL}, (1, 2, 2)),
    *(({"name": "regular", "blocks": 2, "reflections": 2}, (features,)) for features in range(1, 6)),
    ({"name": "regular", "blocks": 2, "order": 1}, (2, 3)),
    ({"name": "regular", "blocks": 1, "channels": 4, "order": 4}, (1, 4, 3)),
    ({"name": "regular", "blocks": 1, "channels": 4, "kernel": 5}, (2, 3, 3)),
    ({"name": "glow", "levels": 1, "steps": 2, "channels": 6}, (3, 2, 2)),
    ({"name": "glow", "levels": 2, "steps": 1, "channels": 4, "linear": "orthogonal"}, (1, 4, 4)),
    *(
        ({"name": "zuko", "flow": "NSF", "options": {"bins": 4, "transforms": 2}}, (features,))
        for features in (1, 2, 5)
    ),
    ({"name": "zuko", "flow": "MAF", "options": {"randperm": True, "hidden_features": [16]}}, (4,)),
    ({"name": "zuko", "flow": "RealNVP", "activation": "tanh"}, (3,)),
    ({"name": "zuko", "flow": "NICE", "options": {"randmask": True}}, (1, 2, 2)),
]


def made(case: Case, *, dtype: torch.dtype = torch.float64, stirred: bool = True) -> Bijection:
    config, shape = case
    torch.manual_seed(0)
    built = build_map(TypeAdapter(MapConfig).validate_python(config), shape).to(dtype)
    built.initialise(points(case, 64).to(dtype))
    if stirred:
        stir(built, torch.Generator().manual_seed(1))
    return built


def points(case: Case, rows: int = 5) -> Tensor:
    draws = torch.randn(rows, *case[1], generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return 1.5 * draws + 0.25


def jacobian(function: Any, x: Tensor) -> Tensor:
    """(B, D, D), one event at a time."""
    size = math.prod(x.shape[1:])
    rows = [torch.autograd.functional.jacobian(lambda v: function(v[None])[0][0], row) for row in x]
    return torch.stack(rows).reshape(len(x), size, size)


def marked(case: Case) -> Any:
    return pytest.param(case, marks=pytest.mark.needs("zuko") if case[0]["name"] == "zuko" else ())


def named(case: Case) -> str:
    return "-".join(str(part) for part in [*case[0].values(), *case[1]])


@pytest.fixture(params=map(marked, CASES), ids=named)
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


def test_the_inverse_is_exact_and_log_determinants_cancel(case: Case) -> None:
    phi, x = made(case), points(case, 50)
    z, log_det = phi(x)
    assert z.shape == x.shape
    assert log_det.shape in ((), (50,))
    assert (z - x).abs().max() > 0.01
    back, log_det_back = phi.inverse(z)
    assert (back - x).abs().max() <= 1e-9
    assert (log_det + log_det_back).abs().max() <= 1e-9


def test_single_precision_inverts_to_single_precision(case: Case) -> None:
    phi, x = made(case, dtype=torch.float32), points(case, 50).float()
    z, log_det = phi(x)
    assert z.dtype == log_det.dtype == torch.float32
    # Points lie up to 5 out, whose last bit is 5e-7, and a map stretches by up to 1000. Half precision errs by 2e-3.
    assert (phi.inverse(z)[0] - x).abs().max() <= 5e-4


def test_log_determinants_are_those_of_the_jacobian(case: Case) -> None:
    phi, x = made(case), points(case)
    z, log_det = phi(x)
    expected = torch.linalg.slogdet(jacobian(phi, x))[1]
    torch.testing.assert_close(log_det.expand(len(x)), expected, rtol=1e-9, atol=1e-9)
    back = torch.linalg.slogdet(jacobian(phi.inverse, z))[1]
    torch.testing.assert_close(back, -expected, rtol=1e-8, atol=1e-8)


def test_forward_mode_is_the_jacobian_in_both_directions(case: Case) -> None:
    phi, x = made(case), points(case)
    v = torch.randn(x.shape, generator=torch.Generator().manual_seed(3), dtype=x.dtype)
    z, tangent = torch.func.jvp(lambda at: phi(at)[0], (x,), (v,))
    expected = torch.einsum("bij,bj->bi", jacobian(phi, x), v.flatten(1))
    torch.testing.assert_close(tangent.flatten(1), expected, rtol=1e-9, atol=1e-9)
    back = torch.func.jvp(lambda at: phi.inverse(at)[0], (z,), (tangent,))[1]
    torch.testing.assert_close(back, v, rtol=1e-7, atol=1e-7)


def test_vmap_gives_what_a_batch_gives(case: Case) -> None:
    phi, x = made(case), points(case)
    z = torch.func.vmap(lambda row: phi(row[None])[0][0])(x)
    torch.testing.assert_close(z, phi(x)[0], rtol=1e-12, atol=1e-12)
    jacobians = torch.func.vmap(torch.func.jacfwd(lambda row: phi(row[None])[0][0]))(x)
    torch.testing.assert_close(jacobians.reshape(len(x), z[0].numel(), -1), jacobian(phi, x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_gradients_pass_twice_and_through_forward_mode(case: Case, direction: str) -> None:
    """An isometry penalty differentiates Jacobian products by the parameters."""
    phi = made(case)
    function = phi if direction == "forward" else phi.inverse
    x = points(case).requires_grad_()
    z, log_det = function(x)
    (slope,) = torch.autograd.grad((z.square().sum() + log_det.sum()), x, create_graph=True)
    parameters = [parameter for parameter in phi.parameters() if parameter.requires_grad]
    once = torch.autograd.grad(slope.square().sum(), parameters, allow_unused=True, retain_graph=True)
    assert all(grad is None or bool(grad.isfinite().all()) for grad in once)
    assert any(grad is not None and bool((grad != 0).any()) for grad in once)

    tangent = torch.func.jvp(lambda at: function(at)[0], (x.detach(),), (torch.ones_like(x),))[1]
    through = torch.autograd.grad(tangent.square().sum(), parameters, allow_unused=True)
    assert all(grad is None or bool(grad.isfinite().all()) for grad in through)
    assert any(grad is not None and bool((grad != 0).any()) for grad in through)


def test_batches_of_none_and_of_one(case: Case) -> None:
    phi, x = made(case), points(case, 3)
    for direction in (phi, phi.inverse):
        z, log_det = direction(x[:0])
        assert z.shape == (0, *case[1])
        assert log_det.shape in ((), (0,))
        torch.testing.assert_close(direction(x[:1])[0], direction(x)[0][:1], rtol=1e-12, atol=1e-12)


def test_a_state_makes_the_same_map_of_another_start(case: Case) -> None:
    phi, x = made(case), points(case)
    torch.manual_seed(77)
    other = build_map(TypeAdapter(MapConfig).validate_python(case[0]), case[1]).double()
    assert not torch.equal(other(x)[0], phi(x)[0])
    other.load_state_dict(phi.state_dict())
    assert torch.equal(other(x)[0], phi(x)[0])
    assert torch.equal(other.inverse(x)[0], phi.inverse(x)[0])


def test_one_seed_makes_one_map(case: Case) -> None:
    first, second = made(case).state_dict(), made(case).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
