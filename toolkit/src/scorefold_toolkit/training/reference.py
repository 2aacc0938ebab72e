"""What a loss is to be compared with: a number alone says nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from scorefold.data import Dataset

_MOST = 512
"""Points that a reference is measured on where none are held out."""


@dataclass(frozen=True)
class LossReference:
    """The loss ``value`` of something that learned nothing, and what that is: "a network that answers 0"."""

    value: float
    of: str


@runtime_checkable
class HasLossReference(Protocol):
    """A ``Trainable`` whose loss has something to compare it with."""

    def loss_reference(self, points: Dataset, loss: Callable[[], float], phase: str) -> LossReference | None:
        """The reference of a phase on points (N, *E); ``loss()`` is the model's own loss on them, as it stands. None
        for none."""


@contextmanager
def answering_zero(network: nn.Module) -> Iterator[None]:
    """Within it a network answers 0 whatever it is asked: a preconditioned score is then the best linear guess."""

    def zero(module: nn.Module, given: Any, answer: Any) -> Any:
        # Times 0, so that what differentiates the answer still can.
        return tree_map(lambda part: 0 * part if isinstance(part, Tensor) else part, answer)

    handle = network.register_forward_hook(zero)
    try:
        yield
    finally:
        handle.remove()


def silent_network(
    network: nn.Module, loss: Callable[[], float], of: str = "a network that answers 0"
) -> LossReference:
    """The loss of a model whose network answers 0, or what that comes to."""
    with answering_zero(network):
        return LossReference(loss(), of)


def normal_reference(points: Dataset, *, bin_width: float | None = None, noise: float = 0.0) -> LossReference | None:
    """The negative log-density of points (N, *E), in nats a coordinate, under normal distributions of each coordinate
    with its own mean and deviation; None where one does not vary.

    It is of points with ``noise`` of this deviation, and spread evenly over their level where they have levels.
    """
    added = noise**2 + (bin_width or 0.0) ** 2 / 12
    variances = points.tensor().flatten(1).double().var(0, correction=0) + added
    if not len(variances) or not bool((variances > 0).all()):
        return None
    value = 0.5 * (math.log(2 * math.pi * math.e) + float(variances.log().mean()))
    return LossReference(value, "a normal distribution of each coordinate")


def some_of(points: Dataset) -> Dataset:
    """The first points, as many as a reference is measured on."""
    return points if len(points) <= _MOST else points.take(torch.arange(_MOST))
