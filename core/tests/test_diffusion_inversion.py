"""The grid of Karras et al., and Heun's method from data to noise, against Gaussian distributions and against
itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from scorefold.diffusion import (
    VE,
    VP,
    DiffusionProcess,
    LinearLogSNR,
    PerComponent,
    SubVP,
    heun,
    time_grid,
)
from scorefold_toolkit.probability_flow import invert_heun

F64 = torch.float64


def gaussian(process: DiffusionProcess, variance: float):
    def score(x: Tensor, t: Tensor) -> Tensor:
        signal, scale = process.coefficients(x, t)
        return -x / (signal**2 * variance + scale**2)

    return score


def test_the_karras_grid_has_their_noise_levels() -> None:
    process = VE(0.002, 80.0)
    times = time_grid(process, 17, "karras")
    ramp = torch.linspace(0, 1, 18, dtype=F64)
    expected = (80 ** (1 / 7) + ramp * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    sigma = process.coefficients(torch.zeros(18, 1, dtype=F64), times)[1][:, 0]
    assert torch.allclose(sigma, expected, rtol=1e-6)


@pytest.mark.parametrize("process", [VE(), VP(), SubVP()], ids=["ve", "vp", "subvp"])
def test_the_karras_grid_of_any_process_is_even_in_the_seventh_root_of_noise_to_signal(process) -> None:
    times = time_grid(process, 12, "karras")
    assert float(times[0]) == process.t_max
    assert float(times[-1]) == process.t_min
    steps = (-process.log_snr(times) / 14).exp().diff()
    assert torch.allclose(steps, steps.mean().expand(12), rtol=1e-6)


@pytest.mark.parametrize("process", [VP(), VE(0.01, 20)], ids=["vp", "ve"])
def test_noise_of_an_event_brings_it_back_at_order_two(process, generator) -> None:
    x = torch.randn(5, 3, dtype=F64, generator=generator)
    score = gaussian(process, 0.25)
    errors = []
    for steps in (40, 80, 160):
        times = time_grid(process, steps, "karras")
        noise, _ = invert_heun(score, process, x, times)
        errors.append(float((heun(score, process, noise, times)[0] - x).abs().max()))
    assert errors[-1] < 1e-3
    assert 3.5 < errors[0] / errors[1] < 9
    assert 3.5 < errors[1] / errors[2] < 9


def test_noise_is_where_the_exact_flow_ends(generator) -> None:
    process, variance = VP(), 0.25
    x = torch.randn(4, 2, dtype=F64, generator=generator)
    times = time_grid(process, 400, "karras")
    noise, _ = invert_heun(gaussian(process, variance), process, x, times)
    ends = process.coefficients(torch.zeros(2, 1, dtype=F64), times[[0, -1]])
    spread = (ends[0] ** 2 * variance + ends[1] ** 2).sqrt().flatten()
    assert torch.allclose(noise, x * spread[0] / spread[1], rtol=1e-4)


def test_components_that_end_early_come_back_too() -> None:
    process = PerComponent((2,), LinearLogSNR(t_end=torch.tensor([0.5, 1.0], dtype=F64)))
    x = torch.tensor([[0.4, -0.7]], dtype=F64)
    times = time_grid(process, 60)
    score = gaussian(process, 0.25)
    noise, _ = invert_heun(score, process, x, times)
    assert torch.allclose(heun(score, process, noise, times)[0], x, atol=2e-2)
