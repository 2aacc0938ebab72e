"""Networks: built to a shape by a builder that a run file configures."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from scorefold.data import ConditionSpec
from scorefold.errors import ConfigError
from scorefold.interfaces.model import Shown


class Network(Shown, ABC):
    """Builds a torch module of given shapes.

    Must: ``build``. The module's ``forward(x, t=None, condition=None)`` takes x (B, *in_shape), t (B,) where ``time``
    was asked for, and the condition where one was, and returns (B, *out_shape). t is a noise level on a log scale, of
    order -10 to 10; how it is embedded is the network's affair.

    >>> class OneLayer(Network):
    ...     def build(self, in_shape, out_shape, *, time=False, condition=None):
    ...         return nn.Linear(*in_shape, *out_shape)
    >>> as_network(OneLayer(), "the network").build((3,), (2,))(torch.zeros(4, 3)).shape
    torch.Size([4, 2])
    """

    @abstractmethod
    def build(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        *,
        time: bool = False,
        condition: ConditionSpec | None = None,
    ) -> nn.Module:
        """A new module. Raises ``ConfigError`` for shapes that this network can't serve."""


def as_network(value: object, what: str) -> Network:
    """A builder of networks, as a config's inline field holds it. Raises ``ConfigError`` for anything else, such as the
    field's name of one: ``what`` is whose it is, as in "the network of score:denoising"."""
    if not isinstance(value, Network):
        raise ConfigError(
            f"{what} is {value!r}, which is not built",
            hint="create the component through Host.create, or put a Network into the config",
        )
    return value


class Prepares(ABC):
    """What a module that a ``Network`` built may be besides: one that takes statistics of the data before training.

    Must: ``prepare``, and say its ``prediction``. What it takes must be buffers, so that a saved state holds it.

    >>> class Centred(nn.Linear, Prepares):
    ...     prediction = "eps"
    ...     def prepare(self, x, spread, generator):
    ...         self.register_buffer("mean", x.mean(0))
    >>> network = Centred(2, 2)
    >>> network.prepare(torch.ones(9, 2), 1.0, torch.Generator())
    >>> network.state_dict()["mean"]
    tensor([1., 1.])
    """

    prediction: str
    """What its answer has to be for a score model: ``eps``, the expected noise, or another one that the model knows."""

    @abstractmethod
    def prepare(self, x: Tensor, unit: float, generator: torch.Generator) -> None:
        """Takes what it needs from events without noise, x (N, *in_shape), of mean 0 and deviation 1 over all
        coordinates.

        ``unit`` is the deviation that they were divided by: at a noise level t the network is shown x + exp(t) / unit z
        with z standard normal, over the root of 1 + (exp(t) / unit)^2. Called once, before the optimiser exists, and
        again where a training goes on from a checkpoint.
        """
