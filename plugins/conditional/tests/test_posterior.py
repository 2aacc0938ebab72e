"""The problem with a known posterior: its samples, its density and its mean agree with one another and with Bayes."""

from __future__ import annotations

import math

import pytest
import torch

from scorefold_conditional.config import PosteriorConfig
from scorefold_conditional.posterior import PosteriorSource, RingPosterior
from scorefold_toolkit.distributions import log_density

RING = RingPosterior(PosteriorConfig())


def test_the_posterior_is_bayes_rule() -> None:
    """p(x | y) = p(x) N(y; x_1, tau^2) / p(y), with p(y) by quadrature over x_1."""
    source = PosteriorSource(PosteriorConfig(points=50))
    batch = source.load("train")
    x, y = batch.x.double(), batch.condition.double()  # type: ignore[union-attr]
    likelihood = torch.distributions.Normal(x[:, 0], 0.3).log_prob(y[:, 0])
    wide = math.sqrt(0.2**2 + 0.3**2)
    evidence = torch.distributions.Normal(RING.means[:, 0], wide).log_prob(y).logsumexp(1) - math.log(8)
    expected = log_density(source.distribution(), x) + likelihood - evidence
    torch.testing.assert_close(RING.log_prob(x, y), expected, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(batch.truth["log_density"], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("y", [-2.0, 0.4, 1.41])
def test_density_mean_and_draws_agree(y: float) -> None:
    grid = torch.linspace(-4, 4, 401, dtype=torch.float64)
    points = torch.cartesian_prod(grid, grid)
    given = torch.tensor([[y]], dtype=torch.float64)
    mass = RING.log_prob(points, given.expand(len(points), 1)).exp() * 0.02**2
    assert float(mass.sum()) == pytest.approx(1, abs=1e-6)
    mean = (mass[:, None] * points).sum(0)
    torch.testing.assert_close(RING.mean(given)[0], mean, atol=1e-6, rtol=0)
    draws = RING.sample(20_000, given, torch.Generator().manual_seed(0))[:, 0]
    deviation = (mass[:, None] * (points - mean) ** 2).sum(0).sqrt()
    assert bool(((draws.mean(0) - mean).abs() < 5 * deviation / math.sqrt(20_000)).all())
    torch.testing.assert_close(draws.std(0), deviation, rtol=0.03, atol=0)


def test_draws_for_several_conditions_keep_to_their_own() -> None:
    y = torch.tensor([[-2.0], [2.0]])
    draws = RING.sample(100, y, torch.Generator().manual_seed(0))
    assert draws.shape == (100, 2, 2)
    assert float(draws[:, 0, 0].max()) < 0 < float(draws[:, 1, 0].min())


@pytest.mark.parametrize(("sigma_x", "sigma_y"), [(0.0, 0.0), (0.5, 0.0), (0.5, 0.3)])
def test_the_score_is_the_gradient_of_the_posterior_of_noised_data(sigma_x: float, sigma_y: float) -> None:
    """Noise on y alone is more noise_std; noise on x widens each Gaussian of the posterior."""
    y = torch.tensor([[0.3], [-1.2]], dtype=torch.float64)
    x = torch.randn(2, 2, dtype=torch.float64, requires_grad=True)
    noisy = RingPosterior(PosteriorConfig(noise_std=math.hypot(0.3, sigma_y)))
    weights, means, stds = noisy.given(y)
    wide = (stds**2 + sigma_x**2).sqrt()
    parts = torch.distributions.Normal(means, wide).log_prob(x[:, None]).sum(2)
    (gradient,) = torch.autograd.grad(torch.logsumexp(weights.log() + parts, 1).sum(), x)
    torch.testing.assert_close(RING.score(x.detach(), y, sigma_x, sigma_y), gradient)
