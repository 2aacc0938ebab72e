"""The corrector between the Gaussian encoder's score and the exact one, where both are closed forms: two points."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from vae_gaussians import auto_encoder, real
from vae_points import MatchedMoments, TwoPoints, score_given_code
from vae_quadrature import dense_normal, normal, times

from scorefold.config import TrainingConfig
from scorefold.data import Dataset
from scorefold.interfaces import Progress
from scorefold_scorevae.config import ScoreVAEPlusConfig
from scorefold_scorevae.scorevae.model import ScoreVAE
from scorefold_scorevae.scorevae.plus import ScoreVAEPlus
from scorefold_standard.config import MLPConfig
from scorefold_standard.networks.mlp import MLP
from scorefold_toolkit.training import fit

X, T, Z = real([[0.3]]), real([0.3]), real([[0.9]])


@pytest.fixture
def code() -> ScoreVAE:
    prior = TwoPoints()
    return auto_encoder(prior, 1, MatchedMoments(prior.process))


def corrected(code: ScoreVAE, **config: object) -> ScoreVAEPlus:
    network = MLP(MLPConfig(width=64, blocks=2))
    return ScoreVAEPlus(ScoreVAEPlusConfig(network=network, **config), code=code).double().eval()  # type: ignore[arg-type]


def with_exact_corrector(model: ScoreVAEPlus) -> ScoreVAEPlus:
    """What is missing from the model's score, as a noise, in place of its network's answer."""
    code, process = model.code, model.process

    def corrector(x: Tensor, t: Tensor, z: Tensor) -> Tensor:
        has = code.score(x, t, z if model.config.encoder_term else None)
        return process.noise_from_score(score_given_code(process, x, t, z) - has, x, t)

    model.corrector = corrector
    return model


@torch.no_grad()
def data_term(model: ScoreVAE | ScoreVAEPlus) -> float:
    """The mean of 1/2 (eps-hat - eps)^2 over times, noise and codes of the point 1 (the distribution is symmetric)."""
    (noise, noise_weights), (codes, code_weights) = dense_normal(401), normal(24)
    eps = noise.repeat_interleave(len(codes))[:, None]
    z = 1 + 0.5 * codes.repeat(len(noise))[:, None]
    weights = (noise_weights[:, None] * code_weights).reshape(-1)
    total = 0.0
    for time, weight in zip(*times(model.process.t_min, nodes=40), strict=True):
        t = time.expand(len(eps))
        error = model.noise(model.process.perturb(torch.ones_like(eps), t, eps), t, z) - eps
        total += float(weight * (weights * error.square()[:, 0]).sum() / 2)
    return total


def points(count: int, seed: int) -> Tensor:
    return torch.randint(0, 2, (count, 1), generator=torch.Generator().manual_seed(seed)).double() * 2 - 1


def test_it_starts_as_the_code_that_it_corrects(code: ScoreVAE) -> None:
    model = corrected(code)
    torch.testing.assert_close(model.score(X, T, Z), code.score(X, T, Z), rtol=0, atol=0)
    given = {"batch": Dataset(x=points(50, 0)), "progress": Progress(0, 1, "corrector")}
    ours, theirs = (part.loss(**given, generator=torch.Generator().manual_seed(1)) for part in (model, code))
    torch.testing.assert_close(ours.value.detach(), theirs.parts["data"])
    noise = real([[-1.0], [0.5]])
    assert torch.equal(model.decode(Z, noise=noise, steps=4), code.decode(Z, noise=noise, steps=4))
    assert torch.equal(model.encode(X), code.encode(X))


@pytest.mark.parametrize("encoder_term", [True, False])
def test_the_exact_corrector_reaches_the_exact_loss(code: ScoreVAE, encoder_term: bool) -> None:
    model = with_exact_corrector(corrected(code, encoder_term=encoder_term))
    assert float(model.score(X, T, Z).detach()) == pytest.approx(0.54508, abs=6e-6)
    if encoder_term:
        assert float((model.score(X, T, Z) - code.score(X, T, Z)).detach()) == pytest.approx(0.06628, abs=6e-6)
    assert data_term(model) == pytest.approx(0.0052, abs=6e-5)
    assert data_term(code) == pytest.approx(0.0391, abs=6e-5)


def test_guidance_weighs_encoder_and_corrector_together(code: ScoreVAE) -> None:
    model = with_exact_corrector(corrected(code))
    prior, exact = code.score(X, T), score_given_code(code.process, X, T, Z)
    torch.testing.assert_close(model.bind(Z, guidance=2.0)(X, T), prior + 2 * (exact - prior))
    assert torch.equal(model.bind(Z, guidance=0)(X, T), prior)
    assert torch.equal(model.score(X, T), prior)


def test_training_a_corrector_repairs_the_score_and_leaves_the_code(code: ScoreVAE) -> None:
    """800 steps take the data term from 0.0391 three quarters of the way to the exact score's 0.0052 (0.0133)."""
    training = TrainingConfig(steps=800, batch_size=256, learning_rate=3e-3, warmup=20, ema=0.99, log_every=400)
    model = corrected(code)
    before = {name: value.clone() for name, value in code.state_dict().items()}
    fit(model, points(5000, 2), training)
    assert 0.0052 < data_term(model) < 0.0160
    assert all(torch.equal(value, before[name]) for name, value in code.state_dict().items())
    assert all(parameter.grad is None for parameter in code.parameters())
    assert not any(module.training for module in code.modules())


def test_the_reference_of_its_loss_is_that_of_the_code_alone(code: ScoreVAE) -> None:
    model, x = corrected(code), torch.ones(64, 1, dtype=torch.float64)

    def own() -> float:
        generator = torch.Generator().manual_seed(3)
        return float(model.loss(Dataset(x), progress=Progress(0, 1, "corrector"), generator=generator).value.detach())

    start = own()  # its network answers 0 until it is trained
    torch.nn.init.ones_(list(model.network.parameters())[-1])
    found = model.loss_reference(Dataset(x), own, "corrector")
    assert found.value == pytest.approx(start, rel=1e-12)
    assert own() != pytest.approx(start, rel=1e-3)
