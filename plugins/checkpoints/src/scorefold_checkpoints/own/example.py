"""Networks to try: one answers the exact velocity of standard normal data on straight paths, one has layers."""

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


def small_classifier() -> nn.Module:
    """A network of images of 8 x 8 with two hidden layers and weights of a fixed seed, not trained.

    >>> small_classifier()(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 10)
        )
