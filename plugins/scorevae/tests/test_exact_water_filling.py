"""The best encoder of Gaussian data is reverse water-filling in closed form, and training finds it."""

from __future__ import annotations

import pytest
import torch
from vae_gaussians import GaussianScore, auto_encoder, real
from vae_networks import Built
from vae_water_filling import (
    LinearInTime,
    best_encoder,
    exact_terms,
    loss_by_variance,
)

from scorefold.config import TrainingConfig
from scorefold.diffusion import VP
from scorefold_scorevae.scorevae.diagnosis import best_residual, collapse_weight, marginal_gain
from scorefold_toolkit.training import fit

VARIANCES = [2.0, 0.5, 0.1, 0.01]
GAINS = {
    1e-4: 0.00166,
    1e-3: 0.00695,
    0.01: 0.02107,
    0.04: 0.03686,
    0.1: 0.05029,
    0.25: 0.06458,
    1.0: 0.08234,
    4.0: 0.08924,
    100.0: 0.07422,
}
"""f(kappa), for times uniform in [1e-3, 1]."""
WORKED = {
    (0.02, 2): (0.11840, 4.7238, 0.21288),
    (0.02, 4): (0.07635, 5.9937, 0.19622),
    (0.01, 4): (0.03343, 8.9476, 0.12291),
}
"""Data term, KL and total of the best encoder, by beta and number of code units."""


def prior() -> GaussianScore:
    return GaussianScore(torch.zeros(4, dtype=torch.float64), torch.diag(real(VARIANCES)), t_min=1e-3)


def test_the_gain_is_the_slope_of_the_data_term() -> None:
    """f(kappa) = 2 d(data term) / d(ln kappa), and KL = ln(lam / kappa) / 2: f = beta at the best encoder."""
    kappa = real(list(GAINS))
    found = marginal_gain(VP(t_min=1e-3), kappa)
    assert torch.allclose(found, real(list(GAINS.values())), rtol=0, atol=6e-6)
    step = 1e-5
    difference = loss_by_variance(kappa * (1 + step)) - loss_by_variance(kappa * (1 - step))
    torch.testing.assert_close(difference / step, found, rtol=1e-4, atol=1e-7)


def test_no_variance_pays_for_a_code_above_the_peak() -> None:
    assert collapse_weight(VP(t_min=1e-3)) == pytest.approx(0.0893, abs=5e-5)
    assert best_residual(VP(t_min=1e-3), 0.0893) is None
    assert residual(0.0892) < 4.5


@pytest.mark.parametrize(
    ("beta", "kappa", "digit"),
    [(0.01, 0.002028, 6e-7), (0.02, 0.00888, 6e-6), (0.05, 0.0981, 6e-5), (0.001, 5.3e-5, 6e-7)],
)
def test_what_is_left_of_a_direction(beta: float, kappa: float, digit: float) -> None:
    assert residual(beta) == pytest.approx(kappa, abs=digit)


def residual(beta: float) -> float:
    found = best_residual(VP(t_min=1e-3), beta)
    assert found is not None
    return found


@pytest.mark.parametrize("case", WORKED, ids=str)
def test_the_worked_optimum_and_its_neighbours(case: tuple[float, int]) -> None:
    beta, units = case
    kappa = [min(variance, residual(beta)) for variance in VARIANCES[:units]]
    found = exact_terms(auto_encoder(prior(), units, best_encoder(prior(), VARIANCES, kappa)), VARIANCES, beta)
    data, kl, total = WORKED[case]
    assert found.data == pytest.approx(data, abs=6e-6)
    assert found.kl == pytest.approx(kl, abs=6e-5)
    assert found.total == pytest.approx(total, abs=6e-6)
    for unit, factor in ((0, 1.2), (0, 0.8), (1, 1.2), (1, 0.8)):
        other = [value * (factor if place == unit else 1) for place, value in enumerate(kappa)]
        model = auto_encoder(prior(), units, best_encoder(prior(), VARIANCES, other))
        assert exact_terms(model, VARIANCES, beta).total > found.total + 1e-5


def test_codes_that_say_nothing_are_best_at_a_large_beta() -> None:
    silent = best_encoder(prior(), VARIANCES, VARIANCES)
    found = exact_terms(auto_encoder(prior(), 4, silent), VARIANCES, 0.1)
    assert found.data == pytest.approx(0.35774, abs=6e-6)
    assert found.kl == pytest.approx(0, abs=1e-12)


def test_the_evidence_bound_stores_all_it_can_below_a_beta_of_one() -> None:
    """With the likelihood weighting kappa = beta / ((1 - beta) SNR(t_min)), a hundredth of the variance of the
    noise at t_min for beta = 0.01; from beta = 1 on, no code is worth its price."""
    distribution = GaussianScore(torch.zeros(2, dtype=torch.float64), torch.diag(real([2.0, 0.5])), t_min=1e-3)
    snr = float(distribution.process.log_snr(real([1e-3])).exp())

    def total(beta: float, kappa: float) -> float:
        encoder = best_encoder(distribution, [2.0, 0.5], [kappa, kappa])
        return exact_terms(auto_encoder(distribution, 2, encoder, weighting="likelihood"), [2.0, 0.5], beta).total

    for beta in (0.01, 0.5):
        best = beta / (1 - beta) / snr
        assert max(total(beta, best) - total(beta, factor * best) for factor in (0.5, 0.8, 1.25, 2)) < -1e-4
    rising = [total(1.0, kappa) for kappa in (0.49, 0.1, 0.01, 1e-4, 1e-6)]
    assert rising == sorted(rising)


@pytest.mark.parametrize(
    ("beta", "units", "best", "steps"),
    [(0.02, 2, 0.21288, 1000), (0.01, 4, 0.12291, 2000), (0.1, 4, 0.35774, 1000)],
    ids=["0.02", "0.01", "0.1"],
)
def test_training_finds_the_optimum(
    beta: float, units: int, best: float, steps: int, generator: torch.Generator
) -> None:
    """Adam with batches of 256, within 2 % of the optimum (0.95, 0.86 and 0.0 %); above the peak the
    code collapses."""
    training = TrainingConfig(steps=steps, batch_size=256, learning_rate=1e-2, warmup=50, ema=0.99, log_every=500)
    distribution = prior()
    model = auto_encoder(distribution, units, encoder=Built(LinearInTime), beta=beta, training=training).float()
    x = torch.randn(100_000, 4, generator=generator) * real(VARIANCES).sqrt().float()
    fit(model, x, training)
    found = exact_terms(model.double(), VARIANCES, beta)
    assert best - 2e-5 < found.total < 1.02 * best
    if beta == 0.1:
        assert found.kl < 1e-3
    else:
        assert found.kl > 4
