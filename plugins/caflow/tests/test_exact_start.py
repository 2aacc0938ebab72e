"""The start: identities that see no condition, and normalisations by a batch of the training data."""

from __future__ import annotations

import math

import pytest
import torch
from caflow_models import KINDS, draws, image_flow, levels
from torch import Tensor

from scorefold.config import TrainingConfig
from scorefold.data import Dataset, TensorSpec
from scorefold.interfaces import Progress
from scorefold_caflow.flow.model import ImageFlow
from scorefold_caflow.layers import AffineInjector, MixtureCoupling
from scorefold_toolkit.nn import ActNorm, AffineCoupling
from scorefold_toolkit.training import fit


def pairs(count: int, seed: int = 0) -> Dataset:
    """Images with something to normalise: correlated, off centre, given a noisy copy."""
    w = 3 + 2 * draws(count, 1, 8, 8, seed=seed) + draws(count, 1, 1, 1, seed=seed + 1)
    return Dataset(x=w, condition=0.3 * w - 5 + draws(count, 1, 8, 8, seed=seed + 2))


def started(kind: str, data: Dataset, **settings) -> ImageFlow:
    flow = image_flow(kind, perturbed=0.0, **settings)
    flow.prepare(data, torch.Generator().manual_seed(0))
    return flow


@pytest.mark.parametrize("kind", KINDS)
def test_at_the_start_the_condition_changes_nothing_but_its_networks_learn(kind) -> None:
    data = pairs(64)
    settings = {"injectors": True} if kind == "cinn" else {}
    flow = started(kind, data, **settings)
    w, y = data.x[:4], data.condition[:4].clone().requires_grad_()
    density = flow.log_prob(w, y)
    (gradient,) = torch.autograd.grad(density.sum(), y, retain_graph=True, allow_unused=True)
    assert gradient is None or not bool(gradient.any())
    assert torch.equal(density, flow.log_prob(w, y.flip(0)))
    volumes: list[Tensor] = []
    for module in flow.modules():
        if isinstance(module, AffineCoupling | AffineInjector):
            module.register_forward_hook(lambda module, arguments, result: volumes.append(result[1]))
    flow.log_prob(w, y)
    assert len(volumes) > 3
    assert not any(bool(one.any()) for one in volumes)
    loss = flow.loss(data.take(torch.arange(32)), progress=Progress(0, 1, "joint"), generator=torch.Generator())
    loss.value.backward()
    lasts = [
        module.last
        for name, module in flow.named_modules()
        if hasattr(module, "last") and isinstance(module.last, torch.nn.Conv2d)
    ]
    assert len(lasts) > 3
    assert all(bool(last.weight.grad.any()) for last in lasts)


@torch.no_grad()
def test_a_mixture_coupling_starts_with_components_apart_and_is_not_far_from_the_identity() -> None:
    flow = image_flow(perturbed=0.0, translation={"steps": 1, "hidden": 6, "coupling": "mixture"})
    mixtures = [module for module in flow.modules() if isinstance(module, MixtureCoupling)]
    assert mixtures
    channels = mixtures[0].kept + mixtures[0].moved
    x = draws(3, channels, 2, 2)
    width = mixtures[0].conditioner.from_condition.in_channels
    z, _ = mixtures[0](x, draws(3, width, 2, 2))
    assert float((z - x).abs().max()) < 0.5 * float(x.abs().max())
    assert not torch.equal(z, x)


@pytest.mark.parametrize("kind", KINDS)
def test_normalisations_start_from_the_training_data(kind) -> None:
    data = pairs(200)
    flow = started(kind, data)
    norms = [module for module in flow.modules() if isinstance(module, ActNorm)]
    assert norms
    assert all(bool(norm.initialised) for norm in norms)
    assert float(flow.split.mean) == pytest.approx(float(data.condition.mean()))
    # On the batch that they started from (all of it, since it has fewer than 256 points), latents have unit size.
    z, _ = flow(data.x, data.condition)
    for latent in flow.unpack(z):
        assert float(latent.detach().square().mean()) == pytest.approx(1, abs=0.3)
    # The last latent of all is what a rotation made of normalised channels: its mean square is 1.
    unsplit = {"caflow": (0, 2), "shared": (0, 2), "entry": (0, 1), "dual-glow": (0, 1), "cinn": (0,)}[kind]
    together = [flow.unpack(z)[place].detach() for place in unsplit]
    for rows in together:
        assert float(rows.square().mean()) == pytest.approx(1, abs=1e-5)
        bits = 0.5 * math.log2(2 * math.pi) + float(rows.square().mean()) / (2 * math.log(2))
        assert bits == pytest.approx(2.0471, abs=5e-5)


def test_a_shared_block_starts_from_all_scales_at_once() -> None:
    spec = TensorSpec((1, 16, 16))
    data = Dataset(draws(100, 1, 16, 16), draws(100, 1, 16, 16, seed=5))
    flow = started("shared", data, event=(1, 16, 16), condition=spec, scales=3)
    seen: list[Tensor] = []
    block = flow.parts.translation.inner[0][0]
    norm = next(module for module in block.modules() if isinstance(module, ActNorm))
    block.squeeze.register_forward_hook(lambda module, arguments, result: seen.append(result[0]))
    flow(data.x, data.condition)
    (joined,) = seen
    assert len(joined) == 200
    z, _ = norm(joined)
    assert torch.allclose(z.mean((0, 2, 3)), torch.zeros_like(z[0, :, 0, 0]), atol=1e-9)
    assert torch.allclose(z.std((0, 2, 3), correction=0), torch.ones_like(z[0, :, 0, 0]), atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_normalisations_start_once_and_from_nothing_else(kind) -> None:
    flow = image_flow(kind, perturbed=0.0)
    w, y = draws(4, 1, 8, 8), draws(4, 1, 8, 8, seed=4)
    norms = [module for module in flow.modules() if isinstance(module, ActNorm)]
    flow.train()
    flow(w, y)
    flow.inverse(w, y)
    flow.sample(2, y)
    flow.loss(Dataset(w, y), progress=Progress(0, 1, "joint"), generator=torch.Generator())
    assert not any(bool(norm.initialised) or bool(norm.log_scale.any()) for norm in norms)
    data = pairs(64)
    flow.prepare(data, torch.Generator().manual_seed(0))
    state = {name: value.clone() for name, value in flow.state_dict().items()}
    flow.prepare(pairs(64, seed=50), torch.Generator().manual_seed(1))
    assert all(torch.equal(value, state[name]) for name, value in flow.state_dict().items())
    other = image_flow(kind, perturbed=0.0, seed=7)
    other.load_state_dict(state)
    assert torch.equal(other.log_prob(data.x, data.condition), flow.log_prob(data.x, data.condition))


def test_training_starts_normalisations_before_validation_and_from_training_data_alone() -> None:
    data, held_out = pairs(64), pairs(64, seed=70)
    held_out = Dataset(x=100 * held_out.x, condition=held_out.condition)
    states = []
    for validation in (None, held_out):
        flow = image_flow(perturbed=0.0)
        fit(flow, data, TrainingConfig(steps=3, batch_size=16, validate_every=1, ema=None), validation=validation)
        states.append(flow.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    # And the average starts from the normalised model: after no more than a step it is not the unnormalised one.
    averaged = image_flow(perturbed=0.0)
    fit(averaged, data, TrainingConfig(steps=1, batch_size=16, ema=0.999, learning_rate=1e-9))
    scales = [float(m.log_scale.detach().abs().max()) for m in averaged.modules() if isinstance(m, ActNorm)]
    assert min(scales) > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_constant_images_start_finite(kind) -> None:
    flow = image_flow(kind, perturbed=0.0, scale=levels(4))
    w, y = torch.full((20, 1, 8, 8), 2.0, dtype=torch.float64), torch.zeros(20, 1, 8, 8, dtype=torch.float64)
    w[:, :, ::2] = torch.randint(4, (20, 1, 4, 8), generator=torch.Generator().manual_seed(0)).double()
    flow.prepare(Dataset(w, y), torch.Generator().manual_seed(0))
    assert bool(flow.log_prob(w, y).isfinite().all())
    assert bool(flow.sample(5, y[:2], generator=torch.Generator().manual_seed(0)).isfinite().all())
