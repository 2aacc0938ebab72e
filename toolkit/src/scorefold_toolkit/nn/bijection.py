"""The contract of an invertible layer, and layers in sequence.

>>> import torch
>>> from scorefold_toolkit.nn import AffineCoupling, Conditioner, Permutation
>>> flow = Chain([AffineCoupling(4, Conditioner(2, 4)), Permutation(torch.arange(3, -1, -1))])
>>> z, log_det = flow(torch.ones(5, 4))
>>> torch.allclose(flow.inverse(z)[0], torch.ones(5, 4)), log_det.shape, isinstance(flow, Bijection)
(True, torch.Size([5]), True)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator

from torch import Tensor, nn


class Bijection(nn.Module, ABC):
    """An invertible layer x -> z on vectors (B, D) or images (B, C, H, W), given a condition tensor or none.

    Must: ``forward`` and ``inverse``, each returning its result and the log-determinant of the direction computed,
    (B,) or one number () for all of the batch. Both work under ``torch.func.jvp``, ``vmap`` and
    twice-differentiated. May: ``initialise``, for layers that start from data.
    """

    @abstractmethod
    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """z and log |det dz/dx|."""

    @abstractmethod
    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x and log |det dx/dz|."""

    def initialise(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Set what starts from data by a batch x, and return z. Done once: later calls change nothing."""
        z: Tensor = self(x, condition)[0]
        return z


class Chain(Bijection):
    """Layers one after the other."""

    def __init__(self, layers: Iterable[Bijection]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def __iter__(self) -> Iterator[Bijection]:
        for layer in self.layers:
            assert isinstance(layer, Bijection)
            yield layer

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        total = x.new_zeros(())
        for layer in self.layers:
            x, log_det = layer(x, condition)
            total = total + log_det
        return x, total

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        total = z.new_zeros(())
        for layer in reversed(list(self)):
            z, log_det = layer.inverse(z, condition)
            total = total + log_det
        return z, total

    def initialise(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        for layer in self:
            x = layer.initialise(x, condition)
        return x
