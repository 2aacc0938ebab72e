"""What a prior in half precision and recomputed activations change: nothing, or by less than is stated."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from scorefold.data import Dataset, DataSpec, EventScale
from scorefold.interfaces import Network, Progress
from scorefold_scorevae.config import HalfUNetConfig, ScoreVAEConfig
from scorefold_scorevae.half_unet import HalfUNet
from scorefold_scorevae.scorevae.model import ScoreVAE
from scorefold_standard.config import DenoisingConfig, MLPConfig, UNetConfig
from scorefold_standard.networks.mlp import MLP
from scorefold_standard.networks.unet import UNet
from scorefold_standard.scores import Denoising

CASES: dict[str, tuple[tuple[int, ...], Network, Network]] = {
    "mlp": ((64,), MLP(MLPConfig(width=64, blocks=2)), MLP(MLPConfig(width=48, blocks=2, dropout=0.3))),
    "images": (
        (1, 8, 8),
        UNet(UNetConfig(channels=(8, 16), groups=4)),
        HalfUNet(HalfUNetConfig(channels=(8, 16), groups=4, blocks=1, dropout=0.3)),
    ),
}
"""Shape of events, network of the prior, network of the encoder."""
CHANGE = 0.02
"""Of loss and gradient by a prior in bfloat16, relative; measured 0.0001 to 0.0007 and 0.001 to 0.006."""


def build(case: str, **options: Any) -> ScoreVAE:
    """Options change the model and not its weights, none of which are 0."""
    shape, prior_network, encoder = CASES[case]
    data = DataSpec(shape, EventScale())
    torch.manual_seed(0)
    prior = Denoising(DenoisingConfig(network=prior_network, process="vp"), data=data)  # type: ignore[arg-type]
    for parameter in prior.network.parameters():
        if parameter.dim() > 1 and not bool(parameter.any()):
            nn.init.normal_(parameter, std=0.05)
    config = ScoreVAEConfig(latent=4, encoder=encoder, **options)
    return ScoreVAE(config, prior=prior.eval(), data=data)  # type: ignore[arg-type]


def loss(model: ScoreVAE) -> Tensor:
    """The same draws at every call, dropout's too."""
    torch.manual_seed(1)
    x = torch.randn(64, *model.event_shape)
    return model.loss(
        Dataset(x=x), progress=Progress(0, 1, "encoder"), generator=torch.Generator().manual_seed(2)
    ).value


def loss_and_gradient(model: ScoreVAE) -> tuple[float, Tensor]:
    value = loss(model)
    value.backward()
    weights = list(model.encoder.parameters())
    return float(value.detach()), torch.cat([weight.grad.flatten() for weight in weights if weight.grad is not None])


def kept(model: ScoreVAE) -> int:
    """Bytes that a loss keeps for its backward pass, each storage once."""
    storages: dict[int, int] = {}
    alive = []

    def pack(value: Tensor) -> Tensor:
        storages[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        alive.append(value)
        return value

    with saved_tensors_hooks(pack, lambda value: value):
        loss(model)
    return sum(storages.values())


@pytest.mark.parametrize("case", CASES)
def test_recomputed_activations_are_the_same_to_the_bit(case: str) -> None:
    """With dropout, whose draws come again, through both derivatives; and less is kept."""
    plain, recomputed = build(case), build(case, checkpoint=True)
    value, gradient = loss_and_gradient(plain)
    again, other = loss_and_gradient(recomputed)
    assert again == value
    assert torch.equal(other, gradient)
    assert kept(recomputed) < 0.85 * kept(plain)


@pytest.mark.parametrize("case", CASES)
def test_a_prior_in_half_precision_changes_the_training_by_less_than_stated(case: str) -> None:
    value, gradient = loss_and_gradient(build(case))
    half = build(case, prior_precision="bf16")
    seen: list[torch.dtype] = []
    for module in half.prior.network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.register_forward_hook(lambda module, inputs, answer: seen.append(answer.dtype))
    encoder_seen: list[torch.dtype] = []
    half.encoder.register_forward_hook(lambda module, inputs, answer: encoder_seen.append(answer.dtype))
    again, other = loss_and_gradient(half)
    assert set(seen) == {torch.bfloat16}
    assert set(encoder_seen) == {torch.float32}
    assert 0 < abs(again / value - 1) < CHANGE
    assert 1e-5 < float((other - gradient).norm() / gradient.norm()) < CHANGE


@pytest.mark.parametrize("case", CASES)
def test_what_is_drawn_is_in_full_precision_whatever_the_training(case: str) -> None:
    plain, half = build(case).eval(), build(case, prior_precision="bf16", checkpoint=True).eval()
    x, t, z = torch.randn(4, *plain.event_shape), torch.rand(4) * 0.9 + 0.05, torch.randn(4, 4)
    with torch.no_grad():
        assert torch.equal(plain.score(x, t, z), half.score(x, t, z))
        assert torch.equal(plain.decode(z, noise=x, steps=3), half.decode(z, noise=x, steps=3))
