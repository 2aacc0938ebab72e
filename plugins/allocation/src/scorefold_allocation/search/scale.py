"""The scale on which losses are fitted: the logarithm of a loss, the logit of an error rate."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Measure = Literal["loss", "accuracy"]

_LEAST_RATE = 1e-4


def as_losses(test: Tensor, measure: Measure) -> Tensor:
    """Losses of what a learner reports: a loss as it is, 1 - accuracy for an accuracy, 1e-4 at the least."""
    return test if measure == "loss" else (1 - test).clamp_min(_LEAST_RATE)


def to_scale(loss: Tensor, measure: Measure) -> Tensor:
    """log loss, or the logit of an error rate, taken as within 1e-4 of 0 and 1 at the most."""
    return loss.log() if measure == "loss" else loss.logit(_LEAST_RATE)


def from_scale(y: Tensor, measure: Measure) -> Tensor:
    """The losses that stand at y on the scale."""
    return y.exp() if measure == "loss" else y.sigmoid()


def variance_on_scale(losses: Tensor, measure: Measure) -> Tensor:
    """Variances (k,) of means on the scale, of losses (R, k) from R seeds, to first order in their spread.

    A variance of few seeds is itself noisy, and is drawn towards the mean over cells as by ``_PRIOR`` more seeds. Ones
    where nothing varies.
    """
    seeds = len(losses)
    if seeds < 2:
        return torch.ones_like(losses[0])
    mean = losses.mean(0)
    slope = 1 / mean if measure == "loss" else 1 / (mean * (1 - mean)).clamp_min(_LEAST_RATE)
    own = (slope * losses.std(0)) ** 2
    shared = ((seeds - 1) * own + _PRIOR * own.mean()) / (seeds - 1 + _PRIOR)
    return shared / seeds if bool(shared.max() > 0) else torch.ones_like(own)


_PRIOR = 4
