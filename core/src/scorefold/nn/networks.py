"""Small networks: what couplings are conditioned by, and pieces of larger ones.

All are smooth unless ``relu`` is asked for, since geometries differentiate flows twice. The last layer of a
conditioner starts at 0, so that a coupling starts as the identity.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Activation = Literal["silu", "relu", "tanh", "gelu"]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": functional.silu,
    "relu": functional.relu,
    "tanh": torch.tanh,
    "gelu": functional.gelu,
}


class Conditioner(nn.Module):
    """A multilayer perceptron (B, features) to (B, out), given a condition (B, condition) or none.

    The condition enters the first layer by weights of its own. ``features`` may be 0: the result then depends on
    the condition alone, or is constant.
    """

    def __init__(
        self,
        features: int,
        out: int,
        hidden: Sequence[int] = (64, 64),
        *,
        condition: int = 0,
        activation: Activation = "silu",
    ) -> None:
        super().__init__()
        self.features = features
        self.activation = ACTIVATIONS[activation]
        sizes = [max(features, 1), *hidden, out]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))
        self.from_condition = nn.Linear(condition, sizes[1], bias=False) if condition else None
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        h = x if self.features else x.new_zeros(x.shape[0], 1)
        for depth, layer in enumerate(self.layers):
            h = self.activation(h) if depth else h
            h = layer(h)
            if depth == 0 and self.from_condition is not None and condition is not None:
                h = h + self.from_condition(condition)
        return h


class ConvConditioner(nn.Module):
    """Convolutions 3x3, 1x1, 3x3 from (B, channels, H, W) to (B, out, H, W) (Glow, Kingma and Dhariwal 2018).

    The condition is (B, condition, H, W), or (B, condition, 1, 1) where it is the same everywhere.
    """

    def __init__(
        self,
        channels: int,
        out: int,
        hidden: int = 64,
        *,
        condition: int = 0,
        condition_kernel: int = 3,
        activation: Activation = "silu",
    ) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.first = nn.Conv2d(channels, hidden, 3, padding=1)
        self.middle = nn.Conv2d(hidden, hidden, 1)
        self.last = nn.Conv2d(hidden, out, 3, padding=1)
        kernel = condition_kernel
        self.from_condition = (
            nn.Conv2d(condition, hidden, kernel, padding=kernel // 2, bias=False) if condition else None
        )
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        h = self.first(x)
        if self.from_condition is not None and condition is not None:
            h = h + self.from_condition(condition)
        result: Tensor = self.last(self.activation(self.middle(self.activation(h))))
        return result


class FourierEmbedding(nn.Module):
    """Numbers t (B,) as (B, width): sines and cosines of 2 pi f t at fixed frequencies f, geometric in a range.

    For noise levels on a log scale, of order -10 to 10, the default range resolves differences of about 0.1.
    """

    frequencies: Tensor

    def __init__(self, width: int, lowest: float = 0.02, highest: float = 2.0) -> None:
        super().__init__()
        exponents = torch.linspace(math.log(lowest), math.log(highest), width // 2)
        self.register_buffer("frequencies", 2 * math.pi * exponents.exp())

    def forward(self, t: Tensor) -> Tensor:
        angles = t[:, None] * self.frequencies.to(t)
        return torch.cat([angles.sin(), angles.cos()], 1)


class ResidualBlock(nn.Module):
    """h + W2 a(n(W1 a(n(h)) + V c)) on (B, width), with layer normalisation n and a context c (B, context) or none.

    W2 starts at 0, so a stack of blocks starts as the identity.
    """

    def __init__(self, width: int, *, context: int = 0, activation: Activation = "silu") -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.norm_in = nn.LayerNorm(width)
        self.first = nn.Linear(width, width)
        self.from_context = nn.Linear(context, width, bias=False) if context else None
        self.norm_mid = nn.LayerNorm(width)
        self.second = nn.Linear(width, width)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, h: Tensor, context: Tensor | None = None) -> Tensor:
        inner = self.first(self.activation(self.norm_in(h)))
        if self.from_context is not None and context is not None:
            inner = inner + self.from_context(context)
        change: Tensor = self.second(self.activation(self.norm_mid(inner)))
        return h + change
