"""Codes that a network is shown as an image beside the event."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scorefold.errors import ConfigError
from scorefold.interfaces import Progress
from scorefold_registry import Host
from scorefold_scorevae.scorevae.decoding import CodeBeside
from scorefold_toolkit.training import fit

DECODER = {"use": "network:conv-decoder", "config": {"channels": [4]}}
UNET = {"use": "network:unet", "config": {"channels": [4, 4], "attention": [], "groups": 2, "blocks": 1}}
ENCODER = {"use": "network:half-unet", "config": {"channels": [4, 8], "blocks": 1, "groups": 2}}
TRAINING = {"steps": 30, "batch_size": 16, "learning_rate": 1e-2, "warmup": 0, "ema": None, "schedule": "constant"}


@pytest.fixture(scope="module")
def digits(host: Host) -> Any:
    return host.create("data:digits", {"limit": 100, "range": [-1, 1]})


@pytest.fixture(scope="module")
def code(host: Host, digits: Any) -> Any:
    prior = host.create("score:analytic", {"gaussian": True, "process": "vp"}, data=digits)
    return host.create("score:scorevae", {"latent": 3, "encoder": ENCODER}, prior=prior, data=digits).eval()


def made(host: Host, digits: Any, code: Any, name: str, **config: Any) -> Any:
    torch.manual_seed(0)
    shared = {"network": UNET, "code_decoder": DECODER, "training": TRAINING, **config}
    if name == "score:scorevae-plus":
        return host.create(name, shared, code=code, data=digits)
    return host.create(name, {"latent": 3, "encoder": ENCODER, "process": "vp", **shared}, data=digits)


@torch.no_grad()
def stir(network: nn.Module) -> None:
    """Moves the weights: those that a U-Net ends with are 0 at the start."""
    for parameter in network.parameters():
        parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("name", ["score:scorevae-plus", "score:diff-decoder"])
def test_the_network_sees_the_image_of_the_code_alone(host: Host, digits: Any, code: Any, name: str) -> None:
    model = made(host, digits, code, name)
    network = model.network
    assert isinstance(network, CodeBeside)
    seen: list[Tensor] = []
    network.network.register_forward_hook(lambda _module, given, _answer: seen.append(given[2]))
    x, t, z = torch.randn(2, 1, 8, 8), torch.tensor([0.3, 0.6]), torch.randn(2, 3)
    model.eval().noise(x, t, z)
    assert torch.equal(seen[0], network.decoder(z))
    assert seen[0].shape == (2, 1, 8, 8)
    given = {"progress": Progress(1, 2, "fit"), "generator": torch.Generator().manual_seed(0)}
    stir(network)
    model.loss(digits.load("train"), **given).value.backward()
    for part in (network.network, network.decoder):
        assert all(parameter.grad is not None and bool(parameter.grad.any()) for parameter in part.parameters())


@pytest.mark.parametrize("name", ["score:scorevae-plus", "score:diff-decoder"])
def test_it_is_trained_and_comes_back_as_saved(host: Host, digits: Any, code: Any, name: str) -> None:
    model, again = (made(host, digits, code, name) for _ in range(2))
    before = {key: value.clone() for key, value in model.network.decoder.state_dict().items()}
    fit(model, digits.load("train"), model.training_config)
    after = model.network.decoder.state_dict()
    assert all(not torch.equal(before[key], after[key]) for key in before)
    again.load_state_dict(model.state_dict())
    x, t, z = torch.randn(2, 1, 8, 8), torch.tensor([0.3, 0.6]), torch.randn(2, 3)
    with torch.no_grad():
        torch.testing.assert_close(again.eval().noise(x, t, z), model.eval().noise(x, t, z), rtol=0, atol=0)
        other = model.noise(x, t, z.flip(0))
    assert not torch.allclose(other, model.noise(x, t, z).detach())


def test_the_corrector_starts_at_zero_with_an_image_too(host: Host, digits: Any, code: Any) -> None:
    model = made(host, digits, code, "score:scorevae-plus").eval()
    x, t, z = torch.randn(2, 1, 8, 8), torch.tensor([0.3, 0.6]), torch.randn(2, 3)
    torch.testing.assert_close(model.noise(x, t, z), code.noise(x, t, z), rtol=0, atol=0)


def test_a_code_that_may_be_dropped_is_an_image_too(host: Host, digits: Any, code: Any) -> None:
    model = made(host, digits, code, "score:diff-decoder", condition_dropout=0.2).eval()
    stir(model.network)
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([0.3, 0.6])
    with torch.no_grad():
        assert not torch.allclose(model.noise(x, t), model.noise(x, t, torch.zeros(2, 3)))


def test_events_that_are_no_images_have_no_decoder(host: Host) -> None:
    sphere = host.create("data:sphere", {"dimension": 2, "ambient": 4, "points": 100})
    network = {"use": "network:mlp", "config": {"width": 8, "blocks": 1}}
    config = {"latent": 2, "encoder": network, "network": network, "code_decoder": DECODER}
    with pytest.raises(
        ConfigError, match=r"takes images \(C, H, W\) or \(H, W\); the shape of what goes out is \(4,\)"
    ):
        host.create("score:diff-decoder", config, data=sphere)
    linear = host.create("score:diff-decoder", {**config, "code_decoder": network}, data=sphere)
    assert isinstance(linear.network, nn.Module)
    assert linear.encode(torch.zeros(3, 4)).shape == (3, 2)


@pytest.mark.parametrize("name", ["score:diff-decoder", "score:scorevae-plus"])
@pytest.mark.parametrize("where", ["network", "code_decoder"])
def test_networks_that_take_statistics_are_refused(host: Host, digits: Any, code: Any, name: str, where: str) -> None:
    with pytest.raises(ConfigError, match=f"takes statistics of events alone, and {name} gives it codes"):
        made(host, digits, code, name, **{where: {"use": "network:manifold-mlp"}})
