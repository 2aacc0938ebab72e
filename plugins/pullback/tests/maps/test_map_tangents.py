"""Tangents beside the points are Jacobian-vector products, with gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import TypeAdapter

from scorefold_pullback.maps.build import build_map
from scorefold_pullback.maps.checkerboard import can_push, push_tangents
from scorefold_pullback.maps.config import MapConfig
from scorefold_testing.contract import stir


@pytest.mark.parametrize("activation", ["silu", "tanh", "relu", "gelu", "elu"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"rotations": True, "layers": 3},
        {"scale": "published"},
        {"masks": "mixed"},
        {"masks": "nested"},
        {"scale": "none"},
    ],
    ids=str,
)
@pytest.mark.parametrize("features", [2, 3, 4, 5])
def test_tangents_are_jacobian_vector_products(features: int, settings: dict[str, Any], activation: str) -> None:
    torch.manual_seed(0)
    config = {"name": "coupling", "width": 8, "activation": activation, **settings}
    phi = build_map(TypeAdapter(MapConfig).validate_python(config), (features,)).double()
    stir(phi, torch.Generator().manual_seed(1))
    assert can_push(phi)
    x, t = torch.randn(6, features).double(), torch.randn(3, 6, features).double()
    z, log_det, moved = push_tangents(phi, x, t)
    torch.testing.assert_close(z, phi(x)[0])
    torch.testing.assert_close(log_det, phi(x)[1])
    expected = torch.func.vmap(lambda v: torch.func.jvp(lambda a: phi(a)[0], (x,), (v,))[1])(t)
    torch.testing.assert_close(moved, expected)
    parameters = list(phi.parameters())
    found = torch.autograd.grad(moved.square().sum(), parameters, allow_unused=True)
    wanted = torch.autograd.grad(expected.square().sum(), parameters, allow_unused=True)
    for a, b in zip(found, wanted, strict=True):
        zero = torch.zeros(()).double()
        torch.testing.assert_close((zero if a is None else a).sum(), (zero if b is None else b).sum())


@pytest.mark.parametrize("config", [{"name": "spline"}, {"name": "regular"}, {"name": "coupling"}])
def test_other_maps_are_not_taken(config: dict[str, Any]) -> None:
    features = 1 if config["name"] == "coupling" else 2
    assert not can_push(build_map(TypeAdapter(MapConfig).validate_python(config), (features,)))
