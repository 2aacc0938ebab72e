"""The schedule, the velocity and the score of Gaussian data, whose flow is known."""

from __future__ import annotations

import math

import pytest
import torch
from schedule_rates import check_rates
from torch import Tensor

from scorefold.data import Dataset, EventScale
from scorefold.diffusion import VE
from scorefold.errors import ShapeError
from scorefold.interfaces import Progress
from scorefold_flowmatching.claims.exact import exact_flow
from scorefold_toolkit.config.common import LogitNormalLevels
from scorefold_toolkit.probability_flow import decode_noise, encode_noise
from scorefold_toolkit.score_matching.losses import Rectified, denoising_score_matching
from scorefold_toolkit.score_matching.noise_levels import NoiseLevels


def at(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(
    ("mean", "velocity", "noise"), [(0.0, 0.5882352941, 1.4117647059), (2.0, -2.2352941176, -0.5647058824)]
)
def test_velocity_and_noise_of_a_gaussian(mean: float, velocity: float, noise: float) -> None:
    """N(mean, 1/4) at t = 0.3, x = 1."""
    flow = exact_flow(0.5, EventScale(mean=mean, std=1.0))
    x, t = at(1.0)[:, None], at(0.3)
    assert flow.velocity(x, t).item() == pytest.approx(velocity, abs=1e-9)
    assert flow.noise(x, t).item() == pytest.approx(noise, abs=1e-9)
    assert flow.score(x, t).item() == pytest.approx(-noise / 0.3, abs=1e-8)


def test_units_change_no_answer_but_its_units() -> None:
    small, large = exact_flow(0.5, EventScale()), exact_flow(0.5, EventScale(mean=7.0, std=3.0))
    x, t = torch.randn(20, 1, dtype=torch.float64), torch.rand(20, dtype=torch.float64) * 0.9 + 0.05
    moved = 3 * x + 7 * (1 - t[:, None])
    torch.testing.assert_close(large.noise(moved, t), small.noise(x, t), rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(large.velocity(moved, t), 3 * small.velocity(x, t) - 7, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("t_end", [0.6, 0.999])
def test_the_prior_spreads_as_data_of_that_deviation_do_at_the_end(t_end: float) -> None:
    path = Rectified(2.0, t_end=t_end)
    signal, scale = path.signal_scale(at(t_end))
    assert path.prior_scale == pytest.approx(float((4 * signal**2 + scale**2).sqrt()), rel=1e-12)


def test_rates_are_those_of_the_kernel() -> None:
    check_rates(Rectified(2.0), torch.linspace(0.01, 0.99, 30, dtype=torch.float64))


def test_it_is_any_diffusion_at_the_same_noise() -> None:
    """score(x) = score_ve(x / (1 - t), sigma = t / (1 - t)) / (1 - t), here of N(0, 1/4)."""
    flow = exact_flow(0.5, EventScale())
    process = VE(1e-3, 100.0)
    x, t = torch.randn(9, 1, dtype=torch.float64), torch.linspace(0.05, 0.95, 9, dtype=torch.float64)
    sigma = t / (1 - t)
    there = -(x / (1 - t[:, None])) / (0.25 + sigma[:, None] ** 2)
    torch.testing.assert_close(process.noise_to_signal(process.time_at(sigma)), sigma)
    torch.testing.assert_close(flow.score(x, t), there / (1 - t[:, None]))


def test_times_are_logit_normal() -> None:
    flow = exact_flow(0.5, EventScale())
    levels = NoiseLevels(flow.process, LogitNormalLevels(), 1.0)
    density = 1 / (levels.importance(at(0.5, 0.1)) * (flow.process.t_max - flow.process.t_min))
    torch.testing.assert_close(density, at(1.595769, 0.396575), rtol=1e-5, atol=0)
    drawn = levels.times(20_000, like=at(0.0), generator=torch.Generator().manual_seed(0))
    assert torch.logit(drawn).mean().item() == pytest.approx(0, abs=0.01)
    assert torch.logit(drawn).std().item() == pytest.approx(1, abs=0.01)


def test_the_loss_is_denoising_with_the_weights_of_flow_matching() -> None:
    flow = exact_flow(0.7, EventScale(mean=1.0, std=2.0))
    x0 = 1 + 2 * torch.randn(400, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    seeded = torch.Generator().manual_seed(2)
    ours = flow.loss(Dataset(x0), progress=Progress(0, 1, "main"), generator=seeded).value
    seeded = torch.Generator().manual_seed(2)
    times = NoiseLevels(flow.process, LogitNormalLevels(), 2.0).times(400, like=x0, generator=seeded)
    theirs = denoising_score_matching(
        flow.noise, flow.process, x0, weighting="flow", spread=2.0, times=times, generator=seeded
    )
    assert ours.item() == pytest.approx(theirs.mean().item(), rel=1e-8)


def test_the_likelihood_of_gaussian_data_is_exact() -> None:
    flow = exact_flow(0.5, EventScale(mean=1.0, std=2.0), (3,), t_min=1e-5)
    x = 1 + torch.randn(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    exact = torch.distributions.Normal(1.0, 1.0).log_prob(x).sum(1)
    torch.testing.assert_close(flow.log_prob(x), exact, atol=0.01, rtol=0)


@pytest.mark.parametrize("sampler", ["edm", "heun", "dpmpp-2m", "ddim", "euler-maruyama"])
def test_samples_of_every_sampler_have_the_distribution_of_the_data(sampler: str) -> None:
    flow = exact_flow(0.5, EventScale(mean=1.0, std=2.0), (2,))
    x = flow.sample(4000, sampler=sampler, steps=200, generator=torch.Generator().manual_seed(0))
    assert x.mean().item() == pytest.approx(1, abs=0.06)
    assert x.std().item() == pytest.approx(1, rel=0.05)


def test_the_prior_is_the_distribution_at_the_last_time() -> None:
    flow = exact_flow(1.0, EventScale(mean=5.0, std=2.0), t_max=0.9)
    x = flow.process.sample_prior((40_000, 1), generator=torch.Generator().manual_seed(0), like=at(0.0))
    assert x.mean().item() == pytest.approx(0.5, abs=0.046)
    assert x.std().item() == pytest.approx(2 * math.hypot(0.9, 0.1), rel=0.02)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ShapeError, match="shape"):
        exact_flow(0.5, EventScale()).velocity(at(1.0, 2.0)[None], at(0.5))


def test_noise_of_normal_data_is_their_standard_coordinate() -> None:
    """For data N(m, c^2) the flow takes x(1) = z to m + c z; between ends short of 0 and 1 it keeps (x - a m) / d."""
    flow = exact_flow(0.5, EventScale(mean=2.0, std=1.0))
    x = at(2.0, 2.5, 0.5)[:, None]
    (a, b), (a_end, b_end) = (flow.process.coefficients(x, at(t)) for t in (flow.process.t_min, flow.process.t_max))
    deviation, deviation_end = ((0.25 * p**2 + q**2).sqrt() for p, q in ((a, b), (a_end, b_end)))
    noise = encode_noise(flow, x, steps=1000)
    torch.testing.assert_close(noise, 2 * a_end + (x - 2 * a) * deviation_end / deviation, atol=2e-4, rtol=0)
    torch.testing.assert_close(noise, (x - 2) / 0.5, atol=1e-2, rtol=0)
    torch.testing.assert_close(decode_noise(flow, noise, steps=1000), x, atol=1e-6, rtol=0)
