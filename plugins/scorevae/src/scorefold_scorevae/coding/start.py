"""Where an encoder starts: not at the saddle of an encoder that says nothing."""

from __future__ import annotations

from torch import nn

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def leave_saddle(network: nn.Module) -> nn.Module:
    """Gives the layers of a network whose weights are all 0 torch's own random start, and returns the network.

    Layers are linear ones and convolutions. Networks that start as 0 suit what is added to something. As an encoder,
    one gives every event the code N(0, I): the code then says nothing, a decoder learns to ignore it, and an encoder
    whose decoder ignores it gets no gradient.
    """
    for layer in network.modules():
        if isinstance(layer, _LAYERS) and not layer.weight.any():
            layer.reset_parameters()
    return network
