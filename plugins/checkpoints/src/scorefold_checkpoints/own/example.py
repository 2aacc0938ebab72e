"""A network to try: it answers the exact velocity of standard normal data on straight paths."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class NormalVelocity(nn.Module):
    """E[z - x_0 | x] at x (B, *E) and t (B,), x = (1 - t) x_0 + t z: (2 t - 1) x / ((1 - t)^2 + t^2), (B, *E).

    >>> NormalVelocity()(torch.ones(1, 1), torch.ones(1)).item()
    1.0
    """

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        t = t.reshape([-1] + [1] * (x.dim() - 1))
        return self.factor * (2 * t - 1) * x / ((1 - t) ** 2 + t**2)
