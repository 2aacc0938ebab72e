"""``network:auto``, which chooses a network by the shape of the data."""

from __future__ import annotations

from torch import nn

from scorefold.data import ConditionSpec
from scorefold.interfaces import Network
from scorefold_standard.config import AutoConfig, ConvUNetConfig, MLPConfig, SignalUNetConfig
from scorefold_standard.networks.mlp import MLP
from scorefold_standard.networks.unet import ConvUNet, SignalUNet
from scorefold_toolkit.nn.reshape import is_signal

_LEAST_SIZE = 8
"""Height and width from which events (C, H, W) count as images: the default U-Net halves them twice."""


class AutoNetwork(Network):
    """Builds ``network:conv-unet`` for images (C, H, W) of at least 8 x 8, ``network:signal-unet`` for signals (C, L)
    of at least 16 values, four times as many as channels, and ``network:mlp`` for all other events. The channels of the
    output are counted, so that a condition in the input does not change the choice.

    >>> from scorefold_registry import Host
    >>> auto = Host.discover().create("network:auto")
    >>> [type(auto.build(shape, shape, time=True)).__name__ for shape in ((8,), (1, 8, 8), (2, 64))]
    ['ResidualMLP', 'ImageConvUNet', 'SignalConvUNet']
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
        chosen: Network = MLP(MLPConfig())
        if in_shape[1:] == out_shape[1:]:
            if len(out_shape) == 3 and min(out_shape[1:]) >= _LEAST_SIZE:
                chosen = ConvUNet(ConvUNetConfig())
            elif is_signal(out_shape):
                chosen = SignalUNet(SignalUNetConfig())
        return chosen.build(in_shape, out_shape, time=time, condition=condition)
