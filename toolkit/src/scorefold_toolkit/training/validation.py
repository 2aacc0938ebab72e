"""The loss on held-out points, and what follows from it: the best weights and when to stop."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from scorefold.data import Dataset
from scorefold.interfaces.capabilities import Progress, Trainable
from scorefold.seeds import derive_generator
from scorefold_toolkit.training.distributed import OneProcess


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
