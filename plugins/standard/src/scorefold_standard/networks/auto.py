"""The network that fits the events."""

from __future__ import annotations

from torch import nn

from scorefold.data import ConditionSpec
from scorefold.interfaces import Network
from scorefold_standard.config.networks import AutoConfig, MLPConfig, UNetConfig
from scorefold_standard.networks.mlp import MLP
from scorefold_standard.networks.unet import UNet

_LEAST_SIZE = 8
"""Height and width from which events (C, H, W) count as images: the default U-Net halves them twice."""


class AutoNetwork(Network):
    """Builds the default U-Net for images (C, H, W) of at least 8 x 8, and the default MLP for all other events.

    >>> from scorefold_registry import Host
    >>> auto = Host.discover().create("network:auto")
    >>> [type(auto.build(shape, shape, time=True)).__name__ for shape in ((8,), (1, 8, 8))]
    ['ResidualMLP', 'ImageUNet']
    """

    def __init__(self, config: AutoConfig) -> None:
        self.config = config

    def build(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        *,
        time: bool = False,
        condition: ConditionSpec | None = None,
    ) -> nn.Module:
        shapes = (tuple(in_shape), tuple(out_shape))
        images = all(len(shape) == 3 and min(shape[1:]) >= _LEAST_SIZE for shape in shapes)
        chosen: Network = UNet(UNetConfig()) if images and in_shape[1:] == out_shape[1:] else MLP(MLPConfig())
        return chosen.build(in_shape, out_shape, time=time, condition=condition)
