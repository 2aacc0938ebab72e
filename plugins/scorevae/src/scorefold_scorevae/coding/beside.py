"""A code as a network is given it: the vector itself, or an image of it beside the event."""

from __future__ import annotations

from torch import Tensor, nn

from scorefold.data import TensorSpec
from scorefold.errors import ConfigError
from scorefold.interfaces import Prepares, as_network

Shape = tuple[int, ...]


class CodeBeside(nn.Module):
    """(x, t, z) to network(x, t, decoder(z)): codes (B, k) become images of the events' shape, laid beside x.

    >>> import torch
    >>> from scorefold_registry import Host
    >>> host = Host.discover()
    >>> small = {"channels": [4, 8], "blocks": 1, "groups": 2}
    >>> decoder = host.create("network:mirror-decoder", small).build((3,), (1, 8, 8))
    >>> network = host.create("network:unet", {**small, "attention": []})
    >>> network = network.build((1, 8, 8), (1, 8, 8), time=True, condition=TensorSpec((1, 8, 8)))
    >>> CodeBeside(network, decoder)(torch.zeros(2, 1, 8, 8), torch.zeros(2), torch.zeros(2, 3)).shape
    torch.Size([2, 1, 8, 8])
    """

    def __init__(self, network: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.network, self.decoder = network, decoder

    def forward(self, x: Tensor, t: Tensor, z: Tensor) -> Tensor:
        answer: Tensor = self.network(x, t, self.decoder(z))
        return answer


def given_code(network: object, decoder: object, event: Shape, code: Shape, what: str) -> nn.Module:
    """A module from noised events, noise levels (B,) and codes (B, k) to events, of a network that is shown the code
    itself, or by a decoder, where there is one, an image of it. ``what`` is whose it is, for the ``ConfigError`` where
    something is not built; those of the networks are raised too."""
    builder = as_network(network, f"the network of {what}")
    if decoder is None:
        return builder.build(event, event, time=True, condition=TensorSpec(code))
    image = as_network(decoder, f"the code_decoder of {what}").build(code, event)
    shown = builder.build(event, event, time=True, condition=TensorSpec(event))
    for part in (image, shown):
        if isinstance(part, Prepares):
            raise ConfigError(
                f"{type(part).__name__} takes statistics of events alone, and {what} gives it codes or their images",
                hint="network: {use: network:unet}, and code_decoder: {use: network:mirror-decoder}",
            )
    return CodeBeside(shown, image)
