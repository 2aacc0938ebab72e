"""Score models as k-diffusion's denoiser."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from scheduler_toys import (
    PROCESSES,
    SHAPE,
    GaussianScore,
    components,
    speeds,
    start,
)

from scorefold.diffusion import (
    SAMPLERS,
    VP,
    time_grid,
)
from scorefold.errors import ConfigError, ShapeError
from scorefold_nonuniform.diffusers.pipeline import Denoiser, ScoreUNet


@pytest.mark.parametrize("name", PROCESSES)
def test_a_denoiser_is_the_expected_datum(name: str) -> None:
    """Of N(0.3, 0.6^2) coordinates with noise sigma: (0.36 x + 0.3 sigma^2) / (0.36 + sigma^2), in coefficients."""
    process = PROCESSES[name]()
    denoiser = Denoiser(GaussianScore(process).double())
    times = torch.tensor([0.05, 0.2, 0.5, 0.9], dtype=torch.float64)
    sigma = denoiser.sigmas(times)
    _, turn, back = components(process)
    x = torch.randn(4, *SHAPE, dtype=torch.float64)
    square = sigma.reshape(4, *[1] * 3) ** 2 if sigma.dim() == 1 else sigma**2
    mean = turn(torch.full_like(x, 0.3))
    expected = back((0.36 * turn(x) + square * mean) / (0.36 + square))
    torch.testing.assert_close(denoiser(x, sigma), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(denoiser.time_of(sigma), times, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", PROCESSES)
def test_eulers_method_of_k_diffusion_is_our_ddim(name: str) -> None:
    """x' = x + (sigma' - sigma) (x - D(x, sigma)) / sigma, with a sigma for each component."""
    process = PROCESSES[name]()
    inner, turn, back = components(process)
    model = GaussianScore(process).double()
    denoiser, times = Denoiser(model), time_grid(process, 14)
    start_signal = inner.coefficients(torch.zeros(1, *SHAPE), times[:1])[0]
    end_signal = inner.coefficients(torch.zeros(1, *SHAPE), times[-1:])[0]
    noise = start(process)
    z = turn(noise) / start_signal
    for sigma, following in pairwise(denoiser.sigmas(times)):
        expected = turn(denoiser(back(z), sigma.expand(len(z), *sigma.shape)))
        z = z + (following - sigma) * (z - expected) / sigma
    ours, _ = SAMPLERS["ddim"](model.score, process, noise, times)
    torch.testing.assert_close(back(end_signal * z), ours, rtol=1e-6, atol=1e-6)


def test_a_denoiser_refuses_noise_that_its_process_has_not() -> None:
    denoiser = Denoiser(GaussianScore(speeds()).double())
    sigma = denoiser.sigmas(torch.tensor([0.3], dtype=torch.float64))
    with pytest.raises(ConfigError, match="passes through no time"):
        denoiser(torch.zeros(1, *SHAPE, dtype=torch.float64), sigma.flip(-1))
    with pytest.raises(ShapeError, match="sigma has shape"):
        denoiser.time_of(sigma[:, :1])
    model = GaussianScore(VP())
    model.event_shape = (4,)
    with pytest.raises(ShapeError, match="a pipeline draws images"):
        ScoreUNet(model)
