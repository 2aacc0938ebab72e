"""Data that are not Gaussian: right, missing and wrong-signed log-determinants come out as different losses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from vae_gaussians import auto_encoder, real
from vae_points import MatchedMoments, TwoPoints, score_given_code
from vae_quadrature import dense_normal, normal, times

from scorefold.data import Dataset
from scorefold.diffusion import DiffusionProcess
from scorefold.interfaces import Progress
from scorefold_scorevae.scorevae.model import ScoreVAE

LOSSES = {"without code": 0.0609, "exact": 0.0052, "log-det": 0.0391, "missing": 0.0527, "wrong sign": 0.0933}
"""Sigma2-weighted data terms for uniform times in [1e-3, 1], as published with the method's test values.

Two of them were drawn and not integrated: the quadrature here, another one, and 24 million draws agree on 0.05262 for
the missing and 0.09321 for the wrong-signed log-determinant.
"""


def model_with(logdet: bool, t_min: float = 1e-3) -> ScoreVAE:
    prior = TwoPoints(t_min)
    return auto_encoder(prior, 1, MatchedMoments(prior.process), logdet=logdet)


def test_the_fields_at_a_point() -> None:
    model, parity = model_with(True), model_with(False)
    x, t, z = real([[0.3]]), real([0.3]), real([[0.9]])
    prior, right = model.score(x, t), model.correction(x, t, z)
    exact = score_given_code(model.process, x, t, z)
    found = [
        float(value.detach()) for value in (prior, exact, right, parity.correction(x, t, z), exact - prior - right)
    ]
    assert found == pytest.approx([-0.18093, 0.54508, 0.65974, 0.41192, 0.06628], abs=6e-6)


@pytest.fixture(scope="module")
def losses() -> dict[str, float]:
    """The data term of every field, by quadrature over times, noise and codes of the point 1 (the distribution is
    symmetric)."""
    right, parity = model_with(True), model_with(False)
    process = right.process
    (noise, noise_weights), (codes, code_weights) = dense_normal(), normal(24)
    eps = noise.repeat_interleave(len(codes))[:, None]
    z = 1 + 0.5 * codes.repeat(len(noise))[:, None]
    weights = (noise_weights[:, None] * code_weights).reshape(-1)
    totals = dict.fromkeys(LOSSES, 0.0)
    for time, time_weight in zip(*times(process.t_min, nodes=80), strict=True):
        t = time.expand(len(eps))
        x = process.perturb(torch.ones_like(eps), t, eps)
        for name, score in fields(right, parity, process, x, t, z).items():
            square = (process.noise_from_score(score, x, t) - eps).square()[:, 0] / 2
            totals[name] += float(time_weight * (weights * square).sum())
    return totals


@torch.no_grad()
def fields(
    right: ScoreVAE, parity: ScoreVAE, process: DiffusionProcess, x: Tensor, t: Tensor, z: Tensor
) -> dict[str, Tensor]:
    prior, with_term, without = right.score(x, t), right.correction(x, t, z), parity.correction(x, t, z)
    return {
        "without code": prior,
        "exact": score_given_code(process, x, t, z),
        "log-det": prior + with_term,
        "missing": prior + without,
        "wrong sign": prior + 2 * without - with_term,
    }


def test_the_losses_separate_the_log_determinants(losses: dict[str, float]) -> None:
    for name, value in LOSSES.items():
        assert losses[name] == pytest.approx(value, abs=1.1e-4), name
    assert losses["missing"] == pytest.approx(0.05262, abs=6e-6)
    assert losses["wrong sign"] == pytest.approx(0.09321, abs=6e-6)
    assert losses["exact"] < losses["log-det"] < losses["missing"] < losses["without code"] < losses["wrong sign"]


def test_the_loss_of_the_model_is_one_of_them(losses: dict[str, float], generator: torch.Generator) -> None:
    """400,000 draws, of which rare ones are large: good to 0.002, while the two differ by 0.0135."""
    x = torch.randint(0, 2, (400_000, 1), generator=generator).double() * 2 - 1
    for logdet, name in ((True, "log-det"), (False, "missing")):
        found = model_with(logdet).loss(Dataset(x=x), progress=Progress(0, 1, "encoder"), generator=generator)
        assert float(found.parts["data"]) == pytest.approx(losses[name], abs=4e-3)
        assert float(found.parts["kl"]) == pytest.approx(0.8181, abs=6e-5)


def test_the_right_log_determinant_is_a_gradient_of_the_density(generator: torch.Generator) -> None:
    model = model_with(True)
    x = torch.randn(50, 1, generator=generator, dtype=torch.float64)
    z = torch.randn(50, 1, generator=generator, dtype=torch.float64)
    t = torch.rand(50, generator=generator, dtype=torch.float64) * 0.9 + 0.1

    def log_density(x: Tensor) -> Tensor:
        mean, log_variance = model.posterior(x, t)
        return torch.distributions.Normal(mean, (log_variance / 2).exp()).log_prob(z)

    step = 1e-6
    slope = (log_density(x + step) - log_density(x - step)) / (2 * step)
    torch.testing.assert_close(model.correction(x, t, z), slope, rtol=1e-6, atol=1e-7)
    assert (model_with(False).correction(x, t, z) - slope).abs().max() > 0.1
