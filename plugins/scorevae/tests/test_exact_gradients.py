"""The gradient of ln q is the gradient of a density, an event's own, and can be differentiated again by the weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.func import functional_call
from vae_gaussians import auto_encoder
from vae_networks import NETWORKS, neural_prior

from scorefold.data import Dataset
from scorefold.interfaces import Progress
from scorefold_scorevae.scorevae.model import ScoreVAE
from scorefold_toolkit.training.phases import LossModule


def model_of(network: str, **config: object) -> ScoreVAE:
    return auto_encoder(neural_prior(), 2, encoder=NETWORKS[network], **config)


def point(rows: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    x = torch.randn(rows, 3, generator=generator, dtype=torch.float64)
    t = torch.rand(rows, generator=generator, dtype=torch.float64) * 0.98 + 0.01
    return x, t, torch.randn(rows, 2, generator=generator, dtype=torch.float64)


def log_density(model: ScoreVAE, x: Tensor, t: Tensor, z: Tensor, *, logdet: bool = True) -> Tensor:
    """ln q(z | x, t) up to a constant, without its log-determinant where that is left out: (B,)."""
    mean, log_variance = model.posterior(x, t)
    return -0.5 * ((z - mean) ** 2 / log_variance.exp() + (log_variance if logdet else 0)).sum(1)


@pytest.mark.parametrize("logdet", [True, False])
@pytest.mark.parametrize("network", NETWORKS)
def test_finite_differences_of_the_density(network: str, logdet: bool, generator: torch.Generator) -> None:
    """Without the log-determinant only the quadratic form is differentiated."""
    model = model_of(network, logdet=logdet)
    x, t, z = point(6, generator)
    step, slopes = 1e-6, []
    for axis in torch.eye(3, dtype=torch.float64):
        ends = [log_density(model, x + sign * step * axis, t, z, logdet=logdet) for sign in (1, -1)]
        slopes.append((ends[0] - ends[1]) / (2 * step))
    torch.testing.assert_close(model.correction(x, t, z), torch.stack(slopes, 1), rtol=1e-6, atol=1e-8)
    assert model.correction(x, t, z).abs().min() > 1e-4


@pytest.mark.parametrize("network", NETWORKS)
def test_the_gradient_of_an_event_is_its_own(network: str, generator: torch.Generator) -> None:
    """The batch is differentiated as a sum; one by one the events give the same."""
    model = model_of(network)
    x, t, z = point(6, generator)
    batch = model.correction(x, t, z)
    alone = torch.cat([model.correction(x[i : i + 1], t[i : i + 1], z[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(batch, alone, rtol=1e-12, atol=1e-14)
    others = torch.cat([x[:1], 10 * x[1:]])
    torch.testing.assert_close(model.correction(others, t, z)[0], batch[0], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("config", [{}, {"logdet": False}, {"weighting": "likelihood"}, {"checkpoint": True}], ids=str)
@pytest.mark.parametrize("network", NETWORKS)
def test_the_weights_gradient_through_both_derivatives(network: str, config: dict[str, object]) -> None:
    """gradcheck of the whole loss, by all weights of the encoder: z, both of its uses, and the gradient in x."""
    model = model_of(network, beta=0.3, **config).train()  # activations are recomputed in training alone
    x = torch.randn(3, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    loss, names = LossModule(model), [f"model.encoder.{name}" for name, _ in model.encoder.named_parameters()]

    def value(*weights: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(6)
        given = (Dataset(x=x), Progress(0, 1, "encoder"), generator)
        found: Tensor = functional_call(loss, dict(zip(names, weights, strict=True)), given)[0]
        return found

    weights = [weight.detach().clone().requires_grad_() for weight in model.encoder.parameters()]
    assert len(weights) >= 4
    # A linear layer's bias at the output does not move the gradient in x; all weights move the loss.
    gradients = torch.autograd.grad(value(*weights), weights)
    assert all(gradient.abs().max() > 1e-6 for gradient in gradients)
    assert gradcheck(value, weights, eps=1e-6, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("network", NETWORKS)
def test_the_score_given_a_code_can_be_differentiated_by_x(network: str, generator: torch.Generator) -> None:
    """As likelihoods by the probability flow do, in both modes of differentiation."""
    model = model_of(network)
    x, t, z = point(2, generator)
    assert gradcheck(lambda point: model.correction(point, t, z), x.requires_grad_(), eps=1e-6, atol=1e-6)


def test_gradients_are_on_inside_and_the_answer_carries_none_outside(generator: torch.Generator) -> None:
    model = model_of("tanh")
    x, t, z = point(4, generator)
    with torch.no_grad():
        found = model.correction(x, t, z)
        assert not torch.is_grad_enabled()
    assert not found.requires_grad
    assert not x.requires_grad
    assert x.grad is None
    assert all(parameter.grad is None for parameter in model.parameters())
    torch.testing.assert_close(found, model.correction(x, t, z).detach())
