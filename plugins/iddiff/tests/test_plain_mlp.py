"""The published perceptron: its size, what it sees, and what it refuses."""

from __future__ import annotations

import math

import pytest
import torch

from scorefold.data import TensorSpec
from scorefold.errors import ConfigError
from scorefold_iddiff.config import PlainMLPConfig
from scorefold_iddiff.plain_mlp import PlainMLP, PlainNetwork


def test_published_size() -> None:
    """Linear(101, 2048), five of Linear(2048, 2048), Linear(2048, 100)."""
    expected = 101 * 2048 + 2048 + 5 * (2048**2 + 2048) + 2048 * 100 + 100
    network = PlainMLP(PlainMLPConfig()).build((100,), (100,), time=True)
    assert sum(parameter.numel() for parameter in network.parameters()) == expected == 21_395_556
    assert sum(isinstance(layer, torch.nn.Linear) for layer in network.modules()) == 7


def test_it_sees_the_event_in_the_units_of_the_data_and_the_time_from_0_to_999() -> None:
    network = PlainMLP(PlainMLPConfig(width=8, layers=2)).build((3,), (3,), time=True)
    assert isinstance(network, PlainNetwork)
    network.prepare(torch.zeros(1, 3), 0.1, torch.Generator())
    seen = list[torch.Tensor]()
    network.layers[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    x, sigma = torch.tensor([[0.05, -0.1, 0.2]]).expand(3, 3), torch.tensor([0.01, 0.2, 4.0])
    network(x / (0.1**2 + sigma**2).sqrt()[:, None], sigma.log())
    assert torch.allclose(seen[0][:, :3], x)
    middle = 999 * math.log(0.2 / 0.01) / math.log(400)
    assert torch.allclose(seen[0][:, 3], torch.tensor([0.0, middle, 999.0]), atol=1e-2)


def test_a_condition_and_falling_noise_are_refused() -> None:
    with pytest.raises(ConfigError, match="takes no condition"):
        PlainMLP(PlainMLPConfig()).build((3,), (3,), time=True, condition=TensorSpec((1,)))
    with pytest.raises(ValueError, match="the first must be the smaller one"):
        PlainMLPConfig(sigmas=(4.0, 0.01))
