"""Draws from opposite noise: with the score of a Gaussian, each sampler is affine in its noise."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from scorefold.diffusion import SAMPLERS, VP, time_grid
from scorefold.random import opposite_noise

PROCESS, MEAN = VP(), torch.tensor([3.0, -2.0], dtype=torch.float64)


def score(x: Tensor, t: Tensor) -> Tensor:
    """The score of N(MEAN, 1) with the process' noise."""
    signal, scale = PROCESS.coefficients(x, t)
    return -(x - signal * MEAN) / (signal**2 + scale**2)


@pytest.mark.parametrize("name", SAMPLERS)
def test_opposite_noise_gives_the_mirror_image_of_a_gaussian_draw(name: str) -> None:
    """The middle of two such draws is the mean, whatever is drawn."""

    def draw(generator: torch.Generator) -> Tensor:
        x = PROCESS.sample_prior((6, 2), generator=generator, like=MEAN)
        return SAMPLERS[name](score, PROCESS, x, time_grid(PROCESS, 60, "karras"), generator=generator)[0]

    generator = torch.Generator().manual_seed(5)
    opposite = opposite_noise(generator)
    first = draw(generator)
    middle = (first + draw(opposite)) / 2
    torch.testing.assert_close(middle, middle[:1].expand(6, 2))
    torch.testing.assert_close(middle[0], MEAN, rtol=0, atol=0.05)
    assert float((first - MEAN).abs().min(1).values.max()) > 0.1
    assert not torch.equal(draw(generator), first)  # it goes on after the first draw, not after the opposite one
