"""How large the denoising loss is at a noise level, learned with the score."""

from __future__ import annotations

from torch import Tensor, nn

from scorefold_toolkit.config.denoising import WeightingConfig
from scorefold_toolkit.nn.networks import FourierEmbedding


class LossUncertainty(nn.Module):
    """v(u), the logarithm of the expected loss at levels u = ln(sigma / s) (B,), as (B,): 0 at the start.

    Losses L are trained as L e^-v + v, whose least v is ln E[L | u], so that every level pulls alike (Karras et al.
    2024, EDM2).

    >>> import torch
    >>> LossUncertainty()(torch.tensor([-2.0, 0.0, 2.0])).tolist()
    [0.0, 0.0, 0.0]
    """

    def __init__(self) -> None:
        super().__init__()
        self.embedding = FourierEmbedding(32, highest=0.25)
        self.last = nn.Linear(32, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, level: Tensor) -> Tensor:
        v: Tensor = self.last(self.embedding(level.to(self.last.weight)))
        return v[:, 0]


def loss_uncertainty(weighting: WeightingConfig) -> LossUncertainty | None:
    """What the weighting ``uncertainty`` learns; None for every other."""
    return LossUncertainty() if weighting.name == "uncertainty" else None
