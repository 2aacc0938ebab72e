"""Banana, squeezed banana and river: shears of a Gaussian in the plane, with |det J| = 1."""

from __future__ import annotations

import torch
from torch import Tensor

from scorefold.data import Condition
from scorefold.interfaces import Flow
from scorefold_pullback.config.flows import BananaConfig, RiverConfig
from scorefold_toolkit.nn import DiagonalNormal


class Shear(Flow):
    """z = (x_1 - f(x_2), x_2), with f a parabola (bananas) or a sine (river), and z ~ N(0, diag(variances)).

    Nothing is trained. Made with ``dtype=``, its variances have all digits of that dtype. Diepeveen, Batzolis et al.
    2025, the two-dimensional sets.

    >>> from scorefold_registry import Host
    >>> banana = Host.discover().create("flow:banana")
    >>> banana(torch.tensor([[1.0, 3.0]]))[0].abs().round(decimals=3)  # the parabola x = y^2 / 9 becomes a line
    tensor([[0., 3.]])
    """

    base: DiagonalNormal

    def __init__(self, config: BananaConfig | RiverConfig, *, dtype: torch.dtype | None = None) -> None:
        super().__init__((2,), DiagonalNormal((2,), torch.tensor(config.variances, dtype=torch.float64)))
        self.config = config
        self.requires_grad_(False)
        self.to(dtype or torch.get_default_dtype())

    def forward(self, x: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        self.check_events(x)
        return torch.stack([x[:, 0] - self._bend(x[:, 1]), x[:, 1]], dim=1), x.new_zeros(len(x))

    def inverse(self, z: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        self.check_events(z)
        return torch.stack([z[:, 0] + self._bend(z[:, 1]), z[:, 1]], dim=1), z.new_zeros(len(z))

    def _bend(self, along: Tensor) -> Tensor:
        if isinstance(self.config, BananaConfig):
            return self.config.curvature * along.square()
        return self.config.amplitude * (self.config.frequency * along).sin()
