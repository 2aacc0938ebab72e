"""A residual multi-layer perceptron with an embedded noise level, on flattened events."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from scorefold.data import Condition, ConditionSpec, TensorSpec
from scorefold.errors import ConfigError
from scorefold_standard.config import MLPConfig
from scorefold_toolkit.nn import ACTIVATIONS, FourierEmbedding, ModuleNetwork, ResidualBlock, named_parts, named_specs


class ConditionEmbedding(nn.Module):
    """Classes and vectors as the sum of one embedding each: (B, width)."""

    def __init__(self, specs: Mapping[str, TensorSpec], width: int) -> None:
        super().__init__()
        self.names = tuple(specs)
        self.parts = nn.ModuleList()
        for spec in specs.values():
            size = math.prod(spec.shape)
            if spec.classes is None:
                self.parts.append(nn.Sequential(_Numbers(), nn.Linear(size, width)))
            else:
                self.parts.append(nn.Sequential(nn.Embedding(spec.classes, width), _Total()))

    def forward(self, tensors: Mapping[str, Tensor]) -> Tensor:
        embedded = [part(tensors[name]) for name, part in zip(self.names, self.parts, strict=True)]
        total: Tensor = torch.stack(embedded).sum(0)
        return total


class _Numbers(nn.Module):
    """The numbers of one condition (B, *shape), a single one too, in a row: (B, D)."""

    def forward(self, x: Tensor) -> Tensor:
        return x[..., None].flatten(1)


class _Total(nn.Module):
    """Embeddings of several labels of one condition (B, *shape, width), summed: (B, width)."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, None].flatten(1, -2).sum(1)


_LEVEL_WIDTH = 32


class ResidualMLP(nn.Module):
    """x (B, *in_shape) to (B, *out_shape): a linear layer in, residual blocks, a linear layer out.

    Noise level and condition enter every block by addition before its first activation. Blocks start as the identity
    and the output as zero, so that training starts from what the caller adds the output to.
    """

    def __init__(
        self,
        config: MLPConfig,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        *,
        time: bool = False,
        condition: ConditionSpec | None = None,
    ) -> None:
        super().__init__()
        self.in_shape, self.out_shape = tuple(in_shape), tuple(out_shape)
        self.spec = condition
        specs = named_specs(condition)
        width = config.width
        self.level = FourierEmbedding(_LEVEL_WIDTH) if time else None
        self.condition = ConditionEmbedding(specs, width) if specs else None
        self.level_in = None if self.level is None else nn.Linear(self.level.width, width)
        context = 0 if self.level is None and self.condition is None else width
        self.first = nn.Linear(math.prod(in_shape), width)
        self.blocks = nn.ModuleList(
            ResidualBlock(width, context=context, activation=config.activation, dropout=config.dropout)
            for _ in range(config.blocks)
        )
        self.activation = ACTIVATIONS[config.activation]
        self.last = nn.Linear(width, math.prod(out_shape))
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor, t: Tensor | None = None, condition: Condition | None = None) -> Tensor:
        embedding = self._embed(t, condition)
        h = self.first(x.flatten(1))
        for block in self.blocks:
            h = block(h, embedding)
        out: Tensor = self.last(self.activation(h))
        return out.reshape(-1, *self.out_shape)

    def _embed(self, t: Tensor | None, condition: Condition | None) -> Tensor | None:
        total: Tensor | None = None
        parts = named_parts(self.spec, condition)
        if self.level is not None and self.level_in is not None:
            if t is None:
                raise ConfigError("the network was built with a time and got none")
            total = self.level_in(self.level(t))
        if self.condition is not None:
            part = self.condition(parts)
            total = part if total is None else total + part
        return None if total is None else self.activation(total)


class MLP(ModuleNetwork):
    """Builds ``ResidualMLP`` modules for events of any shape.

    >>> import torch
    >>> from scorefold_registry import Host
    >>> network = Host.discover().create("network:mlp", {"width": 16, "blocks": 1}).build((3,), (5,), time=True)
    >>> network(torch.zeros(4, 3), torch.zeros(4)).shape
    torch.Size([4, 5])
    """

    module = ResidualMLP
