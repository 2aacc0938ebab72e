"""Learned rotations that start from none."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scorefold_toolkit.nn import Bijection
from scorefold_toolkit.nn.linear import apply_matrix, reflections_product


class Rotation(Bijection):
    """z = Q x on dimension 1, Q a product of ``reflections`` learned reflections and of those it started from, undone.

    It starts as the identity, which keeps a flow's principal axes where they are. |det Q| = 1; ``reflections`` = D
    reaches every rotation.
    """

    start: Tensor

    def __init__(self, features: int, reflections: int | None = None) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(features, min(reflections or features, features)))
        self.register_buffer("start", self.vectors.detach().flip(1).clone())

    def matrix(self) -> Tensor:
        """Q, (D, D)."""
        return reflections_product(torch.cat([self.vectors, self.start], 1))

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return apply_matrix(self.matrix(), x), x.new_zeros(())

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return apply_matrix(self.matrix().T, z), z.new_zeros(())
