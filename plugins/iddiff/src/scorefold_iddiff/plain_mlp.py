"""The perceptron of the paper's Euclidean experiments: linear layers and activations, the time as one more input."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

from scorefold.data import Condition, ConditionSpec
from scorefold.errors import ConfigError
from scorefold.interfaces import Prepares
from scorefold_iddiff.config import PlainMLPConfig
from scorefold_toolkit.nn import ACTIVATIONS, ModuleNetwork


class PlainNetwork(nn.Module, Prepares):
    """The expected noise of x (B, *in_shape) at noise levels t (B,), from x as it is in the units of the data, about
    their mean, and, where it has a time, 999 s with s = log(sigma / sigma_min) / log(sigma_max / sigma_min), the time
    of the variance-exploding process.

    Until it is prepared the unit of the data is 1.
    """

    prediction = "eps"
    unit: Tensor

    def __init__(
        self,
        config: PlainMLPConfig,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        *,
        time: bool,
        condition: None = None,
    ) -> None:
        super().__init__()
        self.out_shape, self.time = tuple(out_shape), time
        self.low, self.high = (math.log(sigma) for sigma in config.sigmas)
        self.register_buffer("unit", torch.ones(()))
        sizes = [math.prod(in_shape) + time, *[config.width] * (config.layers - 1), math.prod(out_shape)]
        self.layers = nn.ModuleList(nn.Linear(inside, outside) for inside, outside in itertools.pairwise(sizes))
        self.activation = ACTIVATIONS[config.activation]

    def prepare(self, x: Tensor, unit: float, generator: torch.Generator) -> None:
        """Takes the unit of the data."""
        self.unit.fill_(unit)

    def forward(self, x: Tensor, t: Tensor | None = None, condition: Condition | None = None) -> Tensor:
        h = x.flatten(1)
        if self.time:
            if t is None:
                raise ConfigError("the network was built with a time and got none")
            # What it is given has unit size at every level.
            h = h * (self.unit**2 + (2 * t).exp()).sqrt()[:, None]
            h = torch.cat([h, 999 * (t[:, None] - self.low) / (self.high - self.low)], dim=1)
        for layer in self.layers[:-1]:
            h = self.activation(layer(h))
        out: Tensor = self.layers[-1](h)
        return out.reshape(-1, *self.out_shape)


class PlainMLP(ModuleNetwork):
    """Builds ``PlainNetwork`` modules for events of any shape, flattened. Raises ``ConfigError`` for a condition, which
    the published network has not.

    >>> from scorefold_registry import Host
    >>> network = Host.discover().create("network:plain-mlp").build((100,), (100,), time=True)
    >>> sum(parameter.numel() for parameter in network.parameters())
    21395556
    """

    module = PlainNetwork

    def check(self, in_shape: tuple[int, ...], out_shape: tuple[int, ...], condition: ConditionSpec | None) -> None:
        """Raises ``ConfigError`` for a condition."""
        if condition is not None:
            raise ConfigError("network:plain-mlp takes no condition", hint="use network:mlp")
