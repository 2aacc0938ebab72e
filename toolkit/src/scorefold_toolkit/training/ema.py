"""An exponential moving average of weights, which evaluation uses in their place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from scorefold_toolkit.training.optimiser import here


class AveragedWeights:
    """The moving average of some parameters: average <- decay average + (1 - decay) parameter after every step.

    The decay starts at 1/10 and rises to ``decay`` as (1 + step) / (10 + step), so that a short run isn't held to where
    it started. ``averages`` are in the order of the parameters, on their devices and in their dtypes.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        self.decay = decay
        self._weights = [parameter.detach() for parameter in parameters]
        self.averages = [weight.clone() for weight in self._weights]

    def update(self, step: int) -> None:
        """Takes in the parameters as they stand after ``step``, counting from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(here(self.averages), here(self._weights), 1 - decay)

    def load(self, averages: Sequence[Tensor]) -> None:
        """Goes on from averages that were saved."""
        torch._foreach_copy_(here(self.averages), here(averages))

    def apply(self) -> None:
        """Puts the averages in the place of the parameters."""
        torch._foreach_copy_(here(self._weights), here(self.averages))

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The averages in the place of the parameters, for a while."""
        kept = [weight.clone() for weight in here(self._weights)]
        self.apply()
        try:
            yield
        finally:
            torch._foreach_copy_(here(self._weights), kept)
