"""A corrector that is trained together with the encoder of a ScoreVAE."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scorefold.data import Dataset
from scorefold.errors import ConfigError
from scorefold.interfaces import Progress
from scorefold_registry import Host
from scorefold_scorevae.scorevae.encoder import corrector_noise
from scorefold_toolkit.training import fit

NETWORK = {"use": "network:mlp", "config": {"width": 16, "blocks": 1, "activation": "tanh"}}


@pytest.fixture
def ports(host: Host) -> dict[str, Any]:
    data = host.create("data:sphere", {"dimension": 2, "ambient": 4, "points": 300})
    prior = host.create("score:analytic", {"gaussian": True, "process": "edm"}, data=data)
    return {"data": data, "prior": prior}


def made(host: Host, ports: dict[str, Any], **config: Any) -> Any:
    usual = {"latent": 2, "encoder": NETWORK, "weighting": "edm", "beta": 0.1}
    return host.create("score:scorevae", {**usual, **config}, generator=torch.Generator().manual_seed(0), **ports)


def points(model: Any) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    t = model.process.time_at(torch.logspace(-2, 1, 5))
    return torch.randn(5, 4, generator=generator), t, torch.randn(5, 2, generator=generator)


class Constant(nn.Module):
    """1 everywhere, and what it was shown."""

    def forward(self, x: Tensor, level: Tensor, z: Tensor) -> Tensor:
        self.shown = x
        return torch.ones_like(x)


def test_a_corrector_starts_at_no_change(host: Host, ports: dict[str, Any]) -> None:
    with_one, without = made(host, ports, corrector=NETWORK), made(host, ports)
    with_one.encoder.load_state_dict(without.encoder.state_dict())
    x, t, z = points(with_one)
    torch.testing.assert_close(with_one.score(x, t, z), without.score(x, t, z))
    assert set(with_one.parts(x, t, z)) == {"prior", "encoder", "corrector"}


def test_the_parts_add_up_to_the_score(host: Host, ports: dict[str, Any]) -> None:
    model = made(host, ports, corrector=NETWORK)
    model.corrector = Constant()
    x, t, z = points(model)
    parts = model.parts(x, t, z)
    assert parts["corrector"].abs().min() > 0
    total = model.process.score_from_noise(sum(parts.values()), x, t)
    torch.testing.assert_close(model.score(x, t, z), total)
    torch.testing.assert_close(model.bind(z)(x, t), total)


def test_at_high_noise_the_answer_is_a_change_of_the_event(host: Host, ports: dict[str, Any]) -> None:
    """x + sigma^2 score moves by the deviation of the data where sigma is large, and by sigma where it is small."""
    model, network = made(host, ports), Constant()
    x, z = torch.ones(2, 4), torch.zeros(2, 2)
    sigma = torch.tensor([1e-2, 60.0])
    noise = corrector_noise(network, model, x, model.process.time_at(sigma), z, "edm")
    spread = model.event_scale.std
    torch.testing.assert_close(-sigma * noise[:, 0], -torch.tensor([1e-2, spread]), rtol=1e-3, atol=0)
    # What it is shown is the best linear guess of the event.
    torch.testing.assert_close(
        network.shown[:, 0], (1 - model.event_scale.mean) * spread / (spread**2 + sigma**2), rtol=1e-4, atol=1e-6
    )
    plain = corrector_noise(network, model, x, model.process.time_at(sigma), z, "sigma2")
    assert torch.equal(plain, torch.ones_like(plain))


def test_a_training_moves_both_and_beats_the_encoder_alone(host: Host, ports: dict[str, Any]) -> None:
    losses = {}
    for corrector in (None, NETWORK):
        training = {"steps": 600, "batch_size": 64, "validate_every": 1000, "learning_rate": 3e-3}
        model = made(host, ports, corrector=corrector, beta=0.01, training=training)
        modules = model.phases()[0].modules
        before = [[value.clone() for value in module.parameters()] for module in modules]
        fit(model, ports["data"].load("train"), model.training_config, seed=0)
        for olds, module in zip(before, modules, strict=True):
            assert any(not torch.equal(old, new) for old, new in zip(olds, module.parameters(), strict=True))
        test = Dataset(ports["data"].load("train").x)
        generator = torch.Generator().manual_seed(2)
        runs = [model.loss(test, progress=Progress(0, 1, ""), generator=generator) for _ in range(20)]
        losses[corrector is None] = float(sum(loss.value.detach() for loss in runs)) / 20
    assert losses[False] < 0.95 * losses[True]


def test_the_reference_is_the_prior_alone(host: Host, ports: dict[str, Any]) -> None:
    model = made(host, ports, corrector=NETWORK)
    model.corrector = Constant()
    x, t, z = points(model)
    seen: list[Tensor] = []

    def loss() -> float:
        seen.append(model.noise(x, t, z))
        return 0.0

    model.loss_reference(Dataset(x), loss, "encoder")
    torch.testing.assert_close(seen[0], model.prior.noise(x, t))
    assert (model.noise(x, t, z) - seen[0]).abs().max() > 1e-3


def test_it_is_saved_with_the_encoder(host: Host, ports: dict[str, Any], tmp_path: Any) -> None:
    model = made(host, ports, corrector=NETWORK)
    nn.init.ones_(model.corrector.last.bias)
    host.save(model.eval(), tmp_path / "code", bundle=True)
    x, t, z = points(model)
    assert torch.equal(host.load(tmp_path / "code").score(x, t, z), model.score(x, t, z))


def test_a_second_corrector_is_refused(host: Host, ports: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="has a corrector already"):
        host.create("score:scorevae-plus", {"network": NETWORK}, code=made(host, ports, corrector=NETWORK).eval())


def test_levels_of_noise_belong_to_the_weighting_edm(host: Host, ports: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="noise_levels needs weighting: edm"):
        made(host, ports, weighting="sigma2", noise_levels={"name": "lognormal", "mean": 1.0})
