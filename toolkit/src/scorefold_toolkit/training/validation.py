"""The loss on held-out points, what it is compared with, the best weights, and when to stop."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from scorefold.data import Dataset
from scorefold.interfaces.capabilities import Progress, Trainable
from scorefold.seeds import derive_generator
from scorefold_toolkit.training.distributed import OneProcess

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


@torch.no_grad()
def validation_loss(
    model: Trainable, data: Dataset, batch_size: int, *, progress: Progress, seed: int, processes: OneProcess
) -> float:
    """The mean loss over held-out points, with the model as it stands.

    The batches are in the data's order and each has its own noise, derived from (seed, "validation", batch), so every
    call measures the same and training draws the same with or without it. Processes share the batches out.
    """
    assert isinstance(model, nn.Module)
    was_training = {module: module.training for module in model.modules()}
    model.eval()
    sums: list[Tensor] = []
    positions = list(torch.arange(len(data)).split(batch_size))[processes.rank :: processes.count]
    numbers = itertools.count(processes.rank, processes.count)
    # Nothing may draw from torch's global generator, and what does all the same must not change the training.
    devices = [processes.device] if processes.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), processes.gathered():
        for number, batch in zip(numbers, data.takes(positions), strict=False):
            generator = derive_generator(seed, "validation", number, device=processes.device)
            with processes.autocast():
                loss = model.loss(batch, progress=progress, generator=generator)
            sums.append(loss.value.detach() * len(batch))
    for module, mode in was_training.items():
        module.training = mode
    parts = torch.stack(sums).cpu().double().tolist() if sums else []  # one copy from a device
    total = torch.tensor(math.fsum(parts), dtype=torch.float64)
    return float(processes.total(total)) / len(data)


class Best:
    """The lowest validation loss so far, the state that had it, and how many validations have passed since.

    ``start`` is the loss before the first step, and ``reached`` the lowest after it; None without any. Only what the
    phase changes is kept: its parameters and the buffers.
    """

    def __init__(self, model: nn.Module, trained: list[nn.Parameter], patience: int | None) -> None:
        chosen = {id(parameter) for parameter in trained}
        frozen = {
            name for name, parameter in model.named_parameters(remove_duplicate=False) if id(parameter) not in chosen
        }
        self._model = model
        self._names = [name for name in model.state_dict() if name not in frozen]
        self._patience = patience
        self.loss = math.inf
        self.since = 0
        self.start: float | None = None
        self.reached: float | None = None
        self.state: dict[str, Tensor] = {}

    def begin(self, loss: float) -> None:
        """Takes in the validation loss before the first step."""
        if math.isfinite(loss):
            self.start = loss
            self._compare(loss)

    def take(self, loss: float) -> None:
        """Takes in a validation loss of the model as it stands; what is not finite is never the best."""
        if self.reached is None or not math.isfinite(self.reached) or loss < self.reached:
            self.reached = loss
        self._compare(loss)

    def _compare(self, loss: float) -> None:
        if loss < self.loss:
            self.loss, self.since = loss, 0
            if self._patience is not None:
                state = self._model.state_dict()
                self.state = {name: state[name].clone() for name in self._names}
        else:
            self.since += 1

    @property
    def exhausted(self) -> bool:
        """Whether patience has run out."""
        return self._patience is not None and self.since >= self._patience

    def restore(self) -> None:
        """Gives the model the best state, where one is kept."""
        if self.state:
            self._model.load_state_dict(self.state, strict=False)

    def facts(self) -> dict[str, Any]:
        """The numbers for a checkpoint, as JSON."""
        found = {"loss": self.loss, "start": self.start, "reached": self.reached}
        finite = {name: loss if loss is not None and math.isfinite(loss) else None for name, loss in found.items()}
        return {**finite, "since": self.since}

    def load(self, facts: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
        """Goes on from a checkpoint."""
        self.loss = math.inf if facts["loss"] is None else facts["loss"]
        self.since = facts["since"]
        self.start, self.reached = facts.get("start"), facts.get("reached")
        self.state = dict(state)
