"""The learning rate of a training: linear warm-up, then a cosine to zero or a constant; and falls on a plateau."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from scorefold.config import PlateauConfig


def warmup_steps(total: int, warmup: int) -> int:
    """The length of the warm-up: as asked for, but at most half of the phase, so that a short run still learns."""
    return min(warmup, total // 2)


def learning_rate_factor(step: int, total: int, warmup: int, schedule: str, drops: Sequence[int] = ()) -> float:
    """The factor in (0, 1] on every group's peak learning rate at ``step`` of ``total``, counting from 0.

    Rises linearly to 1 over the warm-up. After it, ``cosine`` falls as (1 + cos(pi u)) / 2 with u the part of the rest
    that is done (Loshchilov and Hutter 2017, eq. 5, without restarts); ``constant`` stays at 1. From each step of
    ``drops`` on it is a tenth of that.
    """
    dropped = 0.1 ** sum(step >= drop for drop in drops)
    rise = warmup_steps(total, warmup)
    if step < rise:
        return dropped * (step + 1) / rise
    if schedule == "constant":
        return dropped
    return dropped * (1 + math.cos(math.pi * (step - rise) / (total - rise))) / 2


class Plateau:
    """Learning rates that fall together where a loss has stopped falling, by torch's ``ReduceLROnPlateau``.

    A loss is a gain where it is below the best one by ``gain`` times that one's absolute value: for losses above 0 as
    in torch, which would call a slightly higher loss a gain where losses are below 0. ``drops`` counts the falls.

    >>> plateau = Plateau(PlateauConfig(factor=0.5, patience=1, least=0.2), [1.0])
    >>> for loss in (3.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0):
    ...     plateau.take(loss)
    >>> plateau.rates, plateau.drops
    ([0.2], 3)
    """

    def __init__(self, config: PlateauConfig, rates: Sequence[float]) -> None:
        # Groups of their own: those of the optimiser hold rates of the warm-up, which must not count as falls.
        self._groups = torch.optim.SGD([{"params": [torch.zeros(())], "lr": rate} for rate in rates])
        self._scheduler = ReduceLROnPlateau(
            self._groups,
            factor=config.factor,
            patience=config.patience,
            threshold=0.0,
            threshold_mode="abs",
            min_lr=config.least,
            eps=0.0,
        )
        self._gain = config.gain
        self.drops = 0

    @property
    def rates(self) -> list[float]:
        """The learning rates as they stand, in their order."""
        return [group["lr"] for group in self._groups.param_groups]

    def take(self, loss: float) -> None:
        """Takes in a loss; one that is not finite is no gain."""
        before, best = self.rates, self._scheduler.best
        if math.isfinite(best):
            self._scheduler.threshold = self._gain * abs(best)
        self._scheduler.step(loss if math.isfinite(loss) else math.inf)
        self.drops += self.rates != before

    def facts(self) -> dict[str, Any]:
        """The state for a checkpoint, as JSON."""
        best, since = self._scheduler.best, self._scheduler.num_bad_epochs
        return {"best": best, "since": since, "rates": self.rates, "drops": self.drops}

    def load(self, facts: Mapping[str, Any]) -> None:
        """Goes on from a checkpoint."""
        self._scheduler.best, self._scheduler.num_bad_epochs = float(facts["best"]), facts["since"]
        self.drops = facts["drops"]
        for group, rate in zip(self._groups.param_groups, facts["rates"], strict=True):
            group["lr"] = rate
