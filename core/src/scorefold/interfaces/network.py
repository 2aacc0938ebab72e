"""Networks: built to a shape by a builder that a run file configures."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import nn

from scorefold.data import ConditionSpec


class Network(ABC):
    """Builds a torch module of given shapes.

    Must: ``build``. The module's ``forward(x, t=None, condition=None)`` takes x (B, *in_shape), t (B,) where ``time``
    was asked for, and the condition where one was, and returns (B, *out_shape). t is a noise level on a log scale, of
    order -10 to 10; how it is embedded is the network's affair.
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
