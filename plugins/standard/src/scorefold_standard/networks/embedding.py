"""The embedding of conditions that the networks share."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from scorefold.data import TensorSpec


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
