"""Embeddings of noise levels and conditions that the networks share."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from scorefold.data import Condition, ConditionSpec, TensorSpec
from scorefold.errors import ConfigError

_LONGEST, _SHORTEST = 40.0, 1.0


class LevelEmbedding(nn.Module):
    """A noise level t (B,) on a log scale, of order -10 to 10, as sines and cosines (B, 2 * frequencies).

    Periods run geometrically from 40, over which no two levels look alike, to 1, a factor e of noise.
    """

    frequencies: Tensor

    def __init__(self, frequencies: int = 16) -> None:
        super().__init__()
        periods = torch.logspace(math.log10(_LONGEST), math.log10(_SHORTEST), frequencies, dtype=torch.float64)
        self.register_buffer("frequencies", (2 * math.pi / periods).to(torch.get_default_dtype()), persistent=False)

    @property
    def width(self) -> int:
        return 2 * self.frequencies.shape[0]

    def forward(self, t: Tensor) -> Tensor:
        angles = t[:, None] * self.frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=1)


def named_specs(condition: ConditionSpec | None) -> dict[str, TensorSpec]:
    """The specs of a condition by name; a lone tensor is called 'condition'."""
    if condition is None:
        return {}
    return {"condition": condition} if isinstance(condition, TensorSpec) else dict(condition)


def named_tensors(condition: Condition | None, specs: Mapping[str, TensorSpec]) -> dict[str, Tensor]:
    """The tensors of a condition by the names of ``specs``. Raises ``ConfigError`` where one is missing."""
    given = {"condition": condition} if isinstance(condition, Tensor) else dict(condition or {})
    missing = [name for name in specs if name not in given]
    if missing:
        raise ConfigError(
            f"the network was built for the conditions {', '.join(specs)} and got none called {', '.join(missing)}",
            hint="pass a tensor for one condition, a mapping by name for several",
        )
    return {name: given[name] for name in specs}


class ConditionEmbedding(nn.Module):
    """Classes and vectors as the sum of one embedding each: (B, width)."""

    def __init__(self, specs: Mapping[str, TensorSpec], width: int) -> None:
        super().__init__()
        self.names = tuple(specs)
        self.parts = nn.ModuleList()
        for spec in specs.values():
            size = math.prod(spec.shape)
            if spec.classes is None:
                self.parts.append(nn.Sequential(nn.Flatten(), nn.Linear(size, width)))
            else:
                self.parts.append(nn.Sequential(nn.Embedding(spec.classes, width), _Total()))

    def forward(self, tensors: Mapping[str, Tensor]) -> Tensor:
        embedded = [part(tensors[name]) for name, part in zip(self.names, self.parts, strict=True)]
        total: Tensor = torch.stack(embedded).sum(0)
        return total


class _Total(nn.Module):
    """Embeddings of several labels of one condition (B, *shape, width), summed: (B, width)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], -1, x.shape[-1]).sum(1)
