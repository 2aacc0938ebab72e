"""The prior is what it was: its weights, its mode, its samples, and no graph runs through it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from vae_gaussians import auto_encoder, real, worked_decoder
from vae_networks import NETWORKS, neural_prior

from scorefold.config import TrainingConfig
from scorefold.data import Dataset
from scorefold.diffusion import SAMPLERS, time_grid
from scorefold.interfaces import Progress
from scorefold_scorevae.scorevae.model import ScoreVAE
from scorefold_standard.scores import Denoising
from scorefold_toolkit.training import fit

TRAINING = TrainingConfig(steps=12, batch_size=16, warmup=2, learning_rate=1e-2, validate_every=5)


class Watch:
    """What every call of a module saw: (its mode, whether gradients were recorded, whether its answer carries one)."""

    def __init__(self, module: nn.Module) -> None:
        self.seen: list[tuple[bool, bool, bool]] = []
        module.register_forward_hook(self)

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], answer: Tensor) -> None:
        self.seen.append((module.training, torch.is_grad_enabled(), answer.requires_grad))


@pytest.fixture
def prior() -> Denoising:
    return neural_prior(dropout=0.5)


@pytest.fixture
def model(prior: Denoising) -> ScoreVAE:
    return auto_encoder(prior, 2, encoder=NETWORKS["tanh"], training=TRAINING)


def test_training_leaves_the_prior_alone(model: ScoreVAE, prior: Denoising, generator: torch.Generator) -> None:
    x = torch.randn(64, 3, generator=generator, dtype=torch.float64)
    before = {name: value.clone() for name, value in prior.state_dict().items()}
    encoder = [value.detach().clone() for value in model.encoder.parameters()]
    watch = Watch(prior.network)
    fit(model, x, TRAINING, validation=x[:16])
    assert len(watch.seen) >= TRAINING.steps + 2
    assert set(watch.seen) == {(False, False, False)}
    assert all(torch.equal(value, before[name]) for name, value in prior.state_dict().items())
    assert all(parameter.grad is None for parameter in prior.parameters())
    assert not any(torch.equal(*pair) for pair in zip(encoder, model.encoder.parameters(), strict=True))


def test_a_step_by_hand_leaves_the_prior_alone(model: ScoreVAE, prior: Denoising, generator: torch.Generator) -> None:
    """With an optimiser over everything, and the model in training mode."""
    model.train()
    before = [value.detach().clone() for value in prior.parameters()]
    optimiser = torch.optim.Adam(model.parameters(), lr=0.1)
    watch = Watch(prior.network)
    x = torch.randn(16, 3, generator=generator, dtype=torch.float64)
    model.loss(Dataset(x=x), progress=Progress(0, 1, "encoder"), generator=generator).value.backward()
    optimiser.step()
    assert watch.seen == [(False, False, False)]
    assert all(parameter.grad is None for parameter in prior.parameters())
    assert all(torch.equal(*pair) for pair in zip(before, prior.parameters(), strict=True))
    assert all(parameter.grad is not None for parameter in model.encoder.parameters())


def test_the_prior_stays_in_evaluation_mode(model: ScoreVAE, prior: Denoising) -> None:
    for mode in (True, False, True):
        assert model.train(mode) is model
        assert model.training is mode
        assert model.encoder.training is mode
        assert not any(module.training for module in prior.modules())
    model.eval()
    assert not model.training
    assert not model.encoder.training


def test_dropout_of_the_prior_is_off(model: ScoreVAE, prior: Denoising) -> None:
    model.train()
    x, t = torch.ones(4, 3).double(), real([0.3]).expand(4)
    assert torch.equal(model.score(x, t), model.score(x, t))
    assert torch.equal(model.score(x, t), prior.score(x, t))


def test_a_code_that_says_nothing_leaves_the_prior(prior: Denoising, generator: torch.Generator) -> None:
    zeros = torch.zeros(5, 2, dtype=torch.float64)
    model = auto_encoder(prior, 2, lambda x, t: (zeros, zeros))
    x = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    t, z = torch.linspace(0.01, 1, 5).double(), torch.randn(5, 2, generator=generator, dtype=torch.float64)
    assert torch.equal(model.noise(x, t, z), prior.noise(x, t))
    assert torch.equal(model.score(x, t, z), prior.score(x, t))
    found = model.loss(Dataset(x=x), progress=Progress(0, 1, "encoder"), generator=generator)
    assert float(found.parts["kl"]) == 0


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_no_guidance_is_the_unconditional_sampler_to_the_bit(model: ScoreVAE, prior: Denoising, sampler: str) -> None:
    noise, z = torch.randn(2, 5, 3).double()[0], torch.randn(5, 2).double()
    times = time_grid(prior.process, 6, "karras")
    ours = model.decode(
        z, noise=noise, guidance=0, sampler=sampler, steps=6, generator=torch.Generator().manual_seed(1)
    )
    with torch.no_grad():
        theirs, _ = SAMPLERS[sampler](
            prior.score, prior.process, noise, times, generator=torch.Generator().manual_seed(1)
        )
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours, model.decode(z, noise=noise, sampler=sampler, steps=6))


def test_without_a_code_the_model_samples_as_its_prior(model: ScoreVAE, prior: Denoising) -> None:
    drawn = [part.sample(4, steps=5, generator=torch.Generator().manual_seed(2)) for part in (model, prior)]
    assert torch.equal(*drawn)


def test_code_and_noise_bring_an_event_back(generator: torch.Generator) -> None:
    """Twice the steps: a quarter of the error of the noise, whose way is of second order, and an eighth of the error
    of the way there and back, since the leading errors of a step and of the step back cancel."""
    pair = worked_decoder()
    prior = pair.prior(1e-3)
    model = auto_encoder(prior, 2, pair.encoder(prior))
    x = pair.draw(8, generator)
    z = model.encode(x)
    exact = model.encode_noise(x, z, steps=1024)
    ways, returns = [], []
    for steps in (32, 64, 128):
        noise = model.encode_noise(x, z, steps=steps)
        ways.append(float((noise - exact).norm()))
        returns.append(float((model.decode(z, noise=noise, steps=steps) - x).norm()))
    assert ways[1] / ways[2] == pytest.approx(4, abs=0.3)
    assert returns[1] / returns[2] == pytest.approx(8, abs=0.3)
    assert returns[2] < 1e-3 * float(x.norm())
