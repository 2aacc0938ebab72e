"""Glow without its split: how it starts, what it is made of, and the images that it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from scorefold.errors import ConfigError
from scorefold_pullback.maps.build import build_map
from scorefold_pullback.maps.config import GlowMapConfig
from scorefold_toolkit.nn import ActNorm, AffineCoupling, LULinear, Squeeze


def images(rows: int, *shape: int) -> torch.Tensor:
    return 3 * torch.randn(rows, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 2


def count(module: nn.Module, kind: type[nn.Module]) -> int:
    return sum(isinstance(part, kind) for part in module.modules())


def test_the_published_design_has_its_parts() -> None:
    """3 levels of a squeeze, 7 steps of three layers, and one more mixing of channels."""
    phi = build_map(GlowMapConfig(levels=3, steps=7, channels=8, blocks=3), (1, 32, 32))
    assert count(phi, Squeeze) == 3
    assert count(phi, ActNorm) == count(phi, AffineCoupling) == 21
    assert count(phi, LULinear) == 24
    widths = [layer.log_scale.numel() for layer in phi.modules() if isinstance(layer, ActNorm)]
    assert widths == [4] * 7 + [16] * 7 + [64] * 7  # nothing is split off
    halves = [layer.swap for layer in phi.modules() if isinstance(layer, AffineCoupling)]
    assert halves == 3 * [False, True, False, True, False, True, False]


@pytest.mark.parametrize("linear", ["lu", "orthogonal"])
def test_it_starts_as_a_rigid_motion(linear: Any) -> None:
    torch.manual_seed(0)
    phi = build_map(GlowMapConfig(channels=4, linear=linear), (1, 8, 8)).double()
    x = images(6, 1, 8, 8)
    z, log_det = phi(x)
    torch.testing.assert_close(
        torch.cdist(z.flatten(1), z.flatten(1)), torch.cdist(x.flatten(1), x.flatten(1)), rtol=1e-5, atol=0
    )
    torch.testing.assert_close(log_det, torch.zeros(6, dtype=x.dtype), rtol=0, atol=1e-5)


def test_it_starts_normalised_by_data_once() -> None:
    torch.manual_seed(0)
    phi = build_map(GlowMapConfig(levels=1, steps=1, channels=4), (2, 4, 4)).double()
    x = images(200, 2, 4, 4)
    z = phi.initialise(x)
    torch.testing.assert_close(z, phi(x)[0])
    assert abs(float(z.detach().mean())) < 1e-6
    assert float(z.detach().std()) == pytest.approx(1, abs=1e-2)
    again = phi.initialise(10 * x)
    torch.testing.assert_close(again, phi(10 * x)[0])


@pytest.mark.parametrize("shape", [(6,), (4, 4), (1, 2, 4, 4)])
def test_events_that_are_no_images_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"map: glow needs images \(C, H, W\)(.|\n)*map: coupling takes any shape"):
        build_map(GlowMapConfig(), shape)


def test_images_that_do_not_halve_are_refused_with_the_nearest_sizes() -> None:
    with pytest.raises(
        ConfigError, match=r"glow map of 2 levels needs .* multiples of 4; images are 10 x 8(.|\n)*8 x 8 and 12 x 8"
    ):
        build_map(GlowMapConfig(), (1, 10, 8))
