"""The values of the loss with exact scores, by quadrature and by the loss itself."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from vae_gaussians import auto_encoder, worked_decoder
from vae_quadrature import signs, times

from scorefold.data import Dataset
from scorefold.interfaces import Loss, Progress
from scorefold_scorevae.scorevae.model import ScoreVAE

PAIR = worked_decoder()
CONDITIONAL = [0.04] * 4
"""The eigenvalues of the covariance of x given z."""
UNCONDITIONAL = [0.04, 0.04, 0.54, 2.04]
"""The eigenvalues of the covariance of x."""
KL = (math.log(1 + 2 / 0.04) + math.log(1 + 0.5 / 0.04)) / 2
"""The mean of KL(q(z | x) || N(0, I)) where codes of data are N(0, I)."""


def exact_model(t_min: float, **config: object) -> ScoreVAE:
    prior = PAIR.prior(t_min)
    return auto_encoder(prior, 2, PAIR.encoder(prior), **config)


def silent_model(t_min: float, **config: object) -> ScoreVAE:
    """Its code says nothing of x, so that it is the prior."""
    zeros = torch.zeros(1, 2, dtype=torch.float64)
    return auto_encoder(PAIR.prior(t_min), 2, lambda x, t: (zeros.expand(len(x), 2), zeros.expand(len(x), 2)), **config)


def loss(model: ScoreVAE, batch: Tensor, generator: torch.Generator) -> Loss:
    return model.loss(Dataset(x=batch), progress=Progress(0, 1, "encoder"), generator=generator)


@torch.no_grad()
def expected_square(model: ScoreVAE) -> tuple[Tensor, Tensor, Tensor]:
    """Times, their weights, and the mean of 1/2 ||eps-hat - eps||^2 at each, all (T,)."""
    draws = signs(10)
    z, noise, eps = draws[:, :2], draws[:, 2:6], draws[:, 6:]
    x0 = z @ PAIR.W.mT + PAIR.m + PAIR.r**0.5 * noise
    t, weights = times(model.process.t_min)
    found = []
    for time in t:
        at = time.expand(len(x0))
        x = model.process.perturb(x0, at, eps)
        found.append((model.noise(x, at, z) - eps).square().sum(1).mean() / 2)
    return t, weights, torch.stack(found)


@pytest.mark.parametrize(
    ("t_min", "conditional", "unconditional"), [(1e-5, 0.16192, 0.36294), (1e-3, 0.16010, 0.36131)]
)
def test_the_data_term_with_exact_scores(t_min: float, conditional: float, unconditional: float) -> None:
    for model, value, eigenvalues in (
        (exact_model(t_min), conditional, CONDITIONAL),
        (silent_model(t_min), unconditional, UNCONDITIONAL),
    ):
        t, weights, squares = expected_square(model)
        signal, scale = model.process.coefficients(t[:, None], t)
        k = torch.tensor(eigenvalues, dtype=torch.float64)
        torch.testing.assert_close(squares, (signal**2 * k / (signal**2 * k + scale**2)).sum(1) / 2)
        assert float((weights * squares).sum()) == pytest.approx(value, abs=6e-6)


@pytest.mark.parametrize("t_min", [1e-5, 1e-3])
def test_the_integral_of_the_likelihood_weighting(t_min: float) -> None:
    """int g^2 / scale^2 (the square) dt = 1/2 sum ln[(1 + k SNR(t_min)) / (1 + k SNR(t_max))]."""
    for model, eigenvalues in ((exact_model(t_min), CONDITIONAL), (silent_model(t_min), UNCONDITIONAL)):
        t, weights, squares = expected_square(model)
        rate = model.process.dispersion(t[:, None], t) ** 2 / model.process.coefficients(t[:, None], t)[1] ** 2
        integral = (1 - t_min) * (weights * rate[:, 0] * squares).sum()
        assert float(integral) == pytest.approx(likelihood_term(model, eigenvalues), rel=1e-6)


def likelihood_term(model: ScoreVAE, eigenvalues: list[float]) -> float:
    ends = torch.tensor([model.process.t_min, model.process.t_max], dtype=torch.float64)
    high, low = model.process.log_snr(ends).exp().tolist()
    return sum(math.log((1 + k * high) / (1 + k * low)) for k in eigenvalues) / 2


@pytest.mark.parametrize(("t_min", "value"), [(1e-5, 0.16192), (1e-3, 0.16010)])
def test_the_loss_draws_from_these_means(t_min: float, value: float, generator: torch.Generator) -> None:
    model = exact_model(t_min, beta=0.3)
    x = PAIR.draw(200_000, generator)
    found = loss(model, x, generator)
    assert float(found.parts["data"]) == pytest.approx(value, abs=1.5e-3)
    assert float(found.parts["kl"]) == pytest.approx(KL, rel=5e-3)
    assert float(found.value.detach()) == pytest.approx(float(found.parts["data"] + 0.3 * found.parts["kl"]))
    silent = loss(silent_model(t_min), x, generator)
    assert float(silent.parts["data"]) == pytest.approx({1e-5: 0.36294, 1e-3: 0.36131}[t_min], abs=3e-3)
    assert float(silent.parts["kl"]) == 0


def test_the_edm_weighting_is_a_mean_over_log_normal_levels(generator: torch.Generator) -> None:
    """E_r 1/2 (1 + r^2) sum k / (k + (r s)^2), with ln r from N(-0.507, 1.2^2) and s the deviation of the data."""
    quantiles = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    r = (1.2 * torch.special.ndtri(quantiles) - 0.507).exp()[:, None]
    x = PAIR.draw(200_000, generator)
    for build, eigenvalues in ((exact_model, CONDITIONAL), (silent_model, UNCONDITIONAL)):
        model = build(1e-3, weighting="edm")
        k = torch.tensor(eigenvalues, dtype=torch.float64)
        wanted = ((1 + r**2) * k / (k + (r * model.event_scale.std) ** 2)).sum(1).mean() / 2
        assert float(loss(model, x, generator).parts["data"]) == pytest.approx(float(wanted), rel=0.02)


def test_times_by_importance_change_the_variance_and_not_the_value(generator: torch.Generator) -> None:
    """1,000 batches of 64 each way, at t_min = 1e-3: uniform times leave 28 times the variance (measured)."""
    variances = {}
    for name in ("stratified", "log-snr"):
        model = exact_model(1e-3, weighting="likelihood", times=name)
        x = PAIR.draw(64_000, generator)
        values = torch.stack([loss(model, batch, generator).parts["data"] for batch in x.split(64)])
        error = float(values.std()) / len(values) ** 0.5
        assert float(values.mean()) == pytest.approx(likelihood_term(model, CONDITIONAL), abs=5 * error), name
        variances[name] = float(values.var())
    assert variances["stratified"] > 10 * variances["log-snr"]


def test_the_reference_of_the_loss_is_that_of_the_prior_alone() -> None:
    x = PAIR.prior(1e-3).process.sample_prior((64, 4), generator=None, like=torch.zeros(1, dtype=torch.float64))
    model = auto_encoder(PAIR.prior(1e-3), 2)
    torch.nn.init.ones_(list(model.encoder.parameters())[-1])

    def own(of: ScoreVAE) -> float:
        return float(loss(of, x, torch.Generator().manual_seed(3)).value.detach())

    found = model.loss_reference(Dataset(x), lambda: own(model), "encoder")
    assert found.of == "the prior alone, without a code"
    assert found.value == pytest.approx(own(silent_model(1e-3)), rel=1e-12)
    assert found.value != pytest.approx(own(model), rel=1e-3)
