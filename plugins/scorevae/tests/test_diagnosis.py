"""What is reported of a trained encoder: its bound, its parts over time, its coverage, and when it says nothing."""

from __future__ import annotations

import math

import pytest
import torch
from vae_gaussians import auto_encoder, real, worked_decoder

from scorefold.data import Dataset
from scorefold.diffusion import VE, VP, LinearLogSNR, PerComponent
from scorefold.errors import ConfigError
from scorefold.interfaces import TensorSource
from scorefold.stage import StageContext
from scorefold_scorevae.scorevae.diagnosis import best_residual, collapse_weight, marginal_gain, over_time
from scorefold_scorevae.scorevae.encoder import time_level
from scorefold_verbs.assess import assess
from scorefold_verbs.config import AssessOptions, LikelihoodOptions, SampleOptions
from scorefold_verbs.likelihoods import evaluate_likelihood
from scorefold_verbs.sample import sample


@pytest.fixture
def worked():
    distribution = worked_decoder()
    prior = distribution.prior()
    return distribution, auto_encoder(prior, 2, distribution.encoder(prior), beta=0.01)


def test_the_evidence_bound_of_the_exact_encoder_is_the_likelihood(worked, generator) -> None:
    distribution, model = worked
    x = distribution.draw(20, generator)
    exact = torch.distributions.MultivariateNormal(model.prior.mean, model.prior.covariance).log_prob(x)
    draws = torch.stack([model.elbo(x, generator=generator, draws=400) for _ in range(25)])
    found, error = draws.mean(0), draws.std(0) / math.sqrt(len(draws))
    assert float(error.max()) < 0.3
    # Student's quantiles of 25 draws for a chance of 1e-6: of any of 20 points, and of their mean.
    assert bool(((found - exact).abs() < 7.6 * error).all())
    assert abs(float((found - exact).mean())) < 6.5 * float(draws.mean(1).std()) / math.sqrt(len(draws))


def test_the_evidence_bound_of_a_worse_encoder_is_lower(worked, generator) -> None:
    distribution, model = worked
    x = distribution.draw(200, generator)
    best = float(model.elbo(x, generator=generator, draws=400).mean())
    right = model.posterior
    model.posterior = lambda x, t: (right(x, t)[0] + t[:, None].sqrt(), right(x, t)[1])
    assert float(model.elbo(x, generator=generator, draws=400).mean()) < best - 0.1


def test_exact_intervals_hold_the_code_nine_times_in_ten_at_all_times(worked, generator) -> None:
    distribution, model = worked
    x = distribution.draw(4000, generator)
    seen = over_time(model, x, generator)
    assert bool(((seen.coverage - 0.9).abs() < 0.02).all())
    numbers, warnings, arrays = model.diagnose_codes(x, generator)
    assert not warnings
    assert {"times", "coverage", "data term", "size of the prior", "size of the encoder"} == set(arrays)
    assert all(math.isfinite(number) for number in numbers.values())
    nats, bits = (numbers[f"evidence lower bound ({unit})"] for unit in ("nats", "bits a dimension"))
    assert bits == pytest.approx(-nats / 4 / math.log(2))
    right = model.posterior
    model.posterior = lambda x, t: (right(x, t)[0], right(x, t)[1] - 3 * (t > 0.01)[:, None])
    assert "of the codes" in model.diagnose_codes(x, generator)[1][0]


def test_the_parts_over_time_are_those_of_the_closed_form(worked, generator) -> None:
    distribution, model = worked
    seen = over_time(model, distribution.draw(20_000, generator), generator, count=5)
    # Half the trace of the covariance of the noise given x_t and z; the events given z have variance r.
    signal, scale = (value.flatten() for value in model.process.coefficients(seen.times[:, None], seen.times))
    expected = 4 * signal**2 * distribution.r / (signal**2 * distribution.r + scale**2) / 2
    assert torch.allclose(seen.data, expected, rtol=0.03)
    assert float(seen.sizes["encoder"][-1]) < 0.02 * float(seen.sizes["encoder"].max())


def test_a_code_that_says_nothing_is_reported_with_its_cause(worked) -> None:
    _, model = worked
    x = real([[0.1, 0.2, 0.3, 0.4]])
    assert model.training_warnings(Dataset(x)) == ()
    silent = auto_encoder(model.prior, 2, lambda x, t: (0 * x[:, :2], 0 * x[:, :2]), beta=0.1)
    assert "from 0.0892 on" in silent.training_warnings(Dataset(x))[0]
    quiet = auto_encoder(model.prior, 2, silent.posterior, beta=0.01)
    assert "beta_warmup" in quiet.training_warnings(Dataset(x))[0]
    whole = auto_encoder(model.prior, 2, silent.posterior, beta=1.0, weighting="likelihood")
    assert "from 1 on" in whole.training_warnings(Dataset(x))[0]


def test_water_filling() -> None:
    process = VP(t_min=1e-3)
    kappa = real([1e-4, 1e-3, 0.01, 0.04, 0.1, 0.25, 1.0, 4.0, 100.0])
    table = real([0.00166, 0.00695, 0.02107, 0.03686, 0.05029, 0.06458, 0.08234, 0.08924, 0.07422])
    assert torch.allclose(marginal_gain(process, kappa), table, atol=6e-6)
    assert collapse_weight(process) == pytest.approx(0.0893, abs=5e-5)
    for beta, residual in ((0.01, 0.002028), (0.02, 0.00888), (0.05, 0.0981), (0.001, 5.3e-5)):
        assert best_residual(process, beta) == pytest.approx(residual, rel=8e-3)
    assert best_residual(process, 0.1) is None
    assert collapse_weight(PerComponent((2,), LinearLogSNR(t_end=real([0.5, 1.0])))) is None


def test_water_filling_of_any_process_follows_its_units() -> None:
    # Noise ten times as large has the same gain at a hundred times the residual.
    kappa = real([0.01, 0.1, 1.0])
    assert torch.allclose(marginal_gain(VE(0.1, 100.0), 100 * kappa), marginal_gain(VE(0.01, 10.0), kappa), rtol=1e-6)


@pytest.mark.parametrize("verb", ["sample", "evaluate", "assess"])
def test_verbs_that_take_conditions_from_data_say_which_ones_take_codes(worked, verb) -> None:
    _, model = worked
    data = TensorSource(torch.zeros(8, 4, dtype=torch.float64))
    run, options = {
        "sample": (sample, SampleOptions()),
        "evaluate": (evaluate_likelihood, LikelihoodOptions()),
        "assess": (assess, AssessOptions()),
    }[verb]
    with pytest.raises(ConfigError, match="data hold no codes"):
        run(model, {"data": data}, options, StageContext("stage"))


def test_times_are_shown_as_the_logarithm_of_the_noise_or_evenly_from_minus_ten_to_ten() -> None:
    process = VE(0.1, 100.0)
    t = torch.tensor([process.t_min, (process.t_min + process.t_max) / 2, process.t_max], dtype=torch.float64)
    assert time_level(process, t, "linear").tolist() == pytest.approx([-10, 0, 10], abs=1e-9)
    assert time_level(process, t)[[0, 2]].tolist() == pytest.approx([math.log(0.1), math.log(100)])
