"""Small networks, smooth and with weights of some size, and a prior that has weights and dropout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from scorefold.data import Condition, ConditionSpec, DataSpec, EventScale
from scorefold.interfaces import Network
from scorefold_standard.config import DenoisingConfig, MLPConfig
from scorefold_standard.networks.mlp import MLP
from scorefold_standard.scores import Denoising


class Built(Network):
    """A builder that calls a function with the two shapes, under a seed of its own or, without one, under torch's.

    With ``conditioned`` the function gets the time and the condition that were asked for, too.
    """

    def __init__(self, make: Callable[..., nn.Module], seed: int | None = 0, *, conditioned: bool = False) -> None:
        self.make, self.seed, self.conditioned = make, seed, conditioned

    def build(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        *,
        time: bool = False,
        condition: ConditionSpec | None = None,
    ) -> nn.Module:
        further = (time, condition) if self.conditioned else ()
        if self.seed is None:
            return self.make(in_shape, out_shape, *further)
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            return self.make(in_shape, out_shape, *further)


class Smooth(nn.Module):
    """A layer of tanh between two linear ones; the noise level enters beside the event."""

    def __init__(self, in_shape: tuple[int, ...], out_shape: tuple[int, ...], width: int = 5) -> None:
        super().__init__()
        self.out_shape = out_shape
        self.first = nn.Linear(in_shape[0] + 1, width)
        self.last = nn.Linear(width, out_shape[0])

    def forward(self, x: Tensor, t: Tensor | None = None, condition: Condition | None = None) -> Tensor:
        assert t is not None
        out: Tensor = self.last(torch.tanh(self.first(torch.cat([x, t[:, None] / 5], 1))))
        return out


class Attending(nn.Module):
    """Self-attention of the coordinates of an event, by torch's own function; a coordinate is a token."""

    def __init__(self, in_shape: tuple[int, ...], out_shape: tuple[int, ...], width: int = 4) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.randn(in_shape[0], width))
        self.to_all = nn.Linear(width, 3 * width)
        self.last = nn.Linear(in_shape[0] * width, out_shape[0])

    def forward(self, x: Tensor, t: Tensor | None = None, condition: Condition | None = None) -> Tensor:
        assert t is not None
        tokens = torch.tanh(x[..., None] + self.place + t[:, None, None] / 5)
        query, key, value = self.to_all(tokens)[:, None].chunk(3, dim=-1)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.last(mixed.flatten(1))
        return out


NETWORKS = {"tanh": Built(Smooth), "attention": Built(Attending)}


def neural_prior(dimension: int = 3, dropout: float = 0.0, **config: Any) -> Denoising:
    """A score model with weights, none of them 0, in evaluation mode: as one is loaded that was trained."""
    network = MLP(MLPConfig(width=16, blocks=1, dropout=dropout))
    data = DataSpec((dimension,), EventScale(mean=0.0, std=1.0))
    with torch.random.fork_rng():
        torch.manual_seed(3)
        prior = Denoising(DenoisingConfig(network=network, process="vp", **config), data=data)
        for parameter in prior.parameters():
            nn.init.normal_(parameter, std=0.2)
    return prior.double().eval()
