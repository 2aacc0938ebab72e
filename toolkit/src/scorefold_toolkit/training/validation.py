"""The steps of a training and the loss on held-out points: what it is compared with, the best weights, when to stop."""

from __future__ import annotations

import copy
import itertools
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from scorefold.artefacts import write_text
from scorefold.config import UNTRAINED, TrainingConfig
from scorefold.data import Dataset, StreamedDataset, map_condition
from scorefold.errors import TrainingError
from scorefold.interfaces.capabilities import Phase, Progress, Trainable
from scorefold.random import draw_uniform
from scorefold.seeds import derive_generator
from scorefold_toolkit.training.distributed import OneProcess
from scorefold_toolkit.training.optimiser import build_optimiser, trained_groups
from scorefold_toolkit.training.phases import only

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
        """True if patience has run out."""
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


def batch_size(points: int, size: int, processes: int) -> int:
    """The points a step over all processes: ``size``, or all where there are fewer, in equal parts.

    Raises ``TrainingError`` where ``size`` can't be shared out equally: averaged gradients would not be the batch's.
    """
    if size % processes:
        raise TrainingError(
            f"a batch of {size} points can't be shared out equally over {processes} processes",
            hint=f"set training.batch_size to a multiple of {processes}",
        )
    shared = min(size, points - points % processes)
    if shared == 0:
        raise TrainingError(f"there are {points} training points for {processes} processes")
    return shared


def batch_parts(batch: Dataset, count: int) -> list[Dataset]:
    """A batch in so many parts whose sizes differ by one at most; itself for one part."""
    if count == 1:
        return [batch]
    rows = torch.arange(len(batch), device=batch.x.device)
    return [batch.take(part) for part in rows.tensor_split(min(count, len(batch)))]


def batch_positions(
    data: Dataset, size: int, *, seed: int, phase: str, start: int, rank: int, processes: int
) -> Iterator[Tensor]:
    """The positions (size / processes,) of this process's part of every batch from step ``start`` on, without end.

    Each pass over the points is in an order of its own (``Dataset.order``), derived from (seed, "batches", phase, pass)
    and drawn on the CPU; the points that fill no batch at its end wait for another pass, so that all batches have one
    size.
    """
    device = torch.device("cpu") if isinstance(data, StreamedDataset) else data.x.device
    per_pass = len(data) // size
    part = size // processes
    skipped = start % per_pass
    for epoch in itertools.count(start // per_pass):
        order = data.order(derive_generator(seed, "batches", phase, epoch)).to(device)
        for batch in range(skipped, per_pass):
            first = batch * size + rank * part
            yield order[first : first + part]
        skipped = 0


def mirrored(batch: Dataset, chance: float, generator: torch.Generator) -> Dataset:
    """A batch with some of its images (C, H, W) or (H, W) mirrored left to right, each with a chance, and with each the
    conditions that are images of its size or a whole number of times smaller. Raises ``TrainingError`` for events that
    are not images."""
    if batch.x.dim() not in (3, 4):
        raise TrainingError(
            f"training.flip mirrors images (C, H, W) or (H, W); events have the shape {tuple(batch.x.shape[1:])}",
            hint="set training.flip to 0",
        )
    size = tuple(batch.x.shape[-2:])
    chosen = draw_uniform((len(batch),), generator=generator, like=batch.x) < chance

    def mirror(value: Tensor) -> Tensor:
        if value.dim() not in (3, 4):
            return value
        factor = size[1] // value.shape[-1]
        if (factor * value.shape[-2], factor * value.shape[-1]) != size:
            return value
        return torch.where(chosen.reshape(-1, *[1] * (value.dim() - 1)), value.flip(-1), value)

    return replace(batch, x=mirror(batch.x), condition=map_condition(batch.condition, mirror))


def untrained(what: str) -> bool:
    """True if trainings take no step, as under ``scorefold reproduce --null``; then a line says that one was due."""
    log = os.environ.get(UNTRAINED)
    if log is None:
        return False
    with Path(log).open("a") as file:
        file.write(f"{what}\n")
    return True


_FILE = "steps.json"
_WARM_UP, _TIMED = 2, 20
_SHARE = 0.05
"""Of the minutes, what measuring a step may take."""


_FEW, _SMALLEST = 1000, 32
"""Fewer steps than these take smaller batches, where nobody chose the batch; and the smallest batch that is taken."""


def steps_in(
    minutes: float,
    model: Trainable,
    phases: Sequence[Phase],
    train: Dataset,
    config: TrainingConfig,
    processes: OneProcess,
    folder: Path | None,
) -> tuple[TrainingConfig, int]:
    """The steps over all phases that take so many minutes of wall time, measured on a copy of the model, and the
    configuration with the batch that they have.

    They are measured once and kept in ``folder``, so that a training that goes on there keeps its number. Phases that
    state their own steps keep them; the others share the time that is left equally in steps. Where fewer than 1,000
    steps fit, and nobody chose ``batch_size``, it is halved until as many fit, down to 32 points: a warm-up of 100
    steps and averages over the last tenth of them need steps more than they need large batches.
    """
    kept = None if folder is None else folder / _FILE
    if kept is not None and kept.is_file():
        found = json.loads(kept.read_text())
        return _with_batch(config, found.get("batch_size", config.batch_size)), int(found["steps"])
    steps = _fitting(minutes, model, phases, train, config, processes)
    size = min(config.batch_size, len(train))
    if steps < _FEW and processes.count == 1 and "batch_size" not in config.model_fields_set:
        while size > max(_SMALLEST, config.accumulate) and steps * min(config.batch_size, len(train)) < size * _FEW:
            size = max(_SMALLEST, config.accumulate, size // 2)
        if size < min(config.batch_size, len(train)):
            config = _with_batch(config, size)
            steps = _fitting(minutes, model, phases, train, config, processes)
    if kept is not None and processes.rank == 0:
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_text(kept, json.dumps({"steps": steps, "minutes": minutes, "batch_size": config.batch_size}))
    return config, steps


def _with_batch(config: TrainingConfig, size: int) -> TrainingConfig:
    return config if size == config.batch_size else config.model_copy(update={"batch_size": size})


def _fitting(
    minutes: float,
    model: Trainable,
    phases: Sequence[Phase],
    train: Dataset,
    config: TrainingConfig,
    processes: OneProcess,
) -> int:
    """The steps that fit into minutes, for all processes."""
    seconds = [
        _seconds_a_step(model, place, train, config, minutes * 60 * _SHARE / len(phases))
        for place in range(len(phases))
    ]
    stated = sum(phase.steps or 0 for phase in phases)
    spent = sum((phase.steps or 0) * each for phase, each in zip(phases, seconds, strict=True))
    free = [each for phase, each in zip(phases, seconds, strict=True) if phase.steps is None]
    left = minutes * 60 * (1 - _SHARE) - spent
    steps = stated + (len(free) * max(1, int(left / sum(free))) if free else 0)
    agreed = torch.tensor([steps], device=processes.device)
    processes.share([agreed])
    return int(agreed.item())


def replanned(step: int, steps: int, *, left: float, each: float) -> int:
    """The steps of a phase of which ``step`` are done, where ``left`` seconds are left and a step takes ``each``: the
    plan while it is within a tenth of what fits, three times the plan at most.

    >>> replanned(50, 100, left=10.0, each=0.2), replanned(50, 100, left=10.0, each=1.0)
    (100, 60)
    """
    fitting = max(step + int(left / max(each, 1e-9)), min(step + 1, steps))
    return steps if 0.9 * steps <= fitting <= 1.1 * steps else min(fitting, 3 * steps)


def _seconds_a_step(model: Trainable, place: int, train: Dataset, config: TrainingConfig, limit: float) -> float:
    """Wall seconds of a step of one phase: the median of a few, on a copy, for about ``limit`` seconds at most."""
    assert isinstance(model, nn.Module)
    trial = copy.deepcopy(model)
    assert isinstance(trial, Trainable)
    phase = trial.phases()[place]
    groups = trained_groups(trial, phase)
    trained = [parameter for group in groups for parameter in group["params"]]
    if not trained:
        return 0.0
    device = trained[0].device
    generator = derive_generator(0, "timing", device=device)
    positions = batch_positions(
        train,
        batch_size(len(train), config.batch_size, 1),
        seed=0,
        phase=phase.name,
        start=0,
        rank=0,
        processes=1,
    )
    times: list[float] = []
    began = time.perf_counter()
    with only(trial, phase, trained), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        optimiser = build_optimiser(groups, config)
        for number, batch in enumerate(train.takes(itertools.islice(positions, _WARM_UP + _TIMED))):
            start = time.perf_counter()
            loss = trial.loss(batch, progress=Progress(number, config.steps, phase.name), generator=generator)
            loss.value.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            optimiser.zero_grad()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - start)
            if number >= _WARM_UP and time.perf_counter() - began > limit:
                break
    timed = sorted(times[_WARM_UP:] or times)
    return timed[len(timed) // 2]
