"""The phases of a component's training: their order and steps, what stands still meanwhile, the state that they share.

A checkpoint holds that state. Ctrl-C waits for the end of a step.
"""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from scorefold.config import TrainingConfig
from scorefold.data import Dataset
from scorefold.errors import TrainingError
from scorefold.interfaces.capabilities import Loss, Phase, Progress, Trainable
from scorefold_toolkit.checks import wrong_answer
from scorefold_toolkit.training.distributed import OneProcess
from scorefold_toolkit.training.record import Checkpoints, Clock, FitReport, training_identity

_KEY = re.compile(r"[A-Za-z0-9][\w.+-]*\Z")


def ordered_phases(phases: Sequence[Phase]) -> list[Phase]:
    """The phases with each behind the one it comes ``after``, otherwise as they were given.

    Raises ``TrainingError`` for names or checkpoint keys given twice or unfit for a folder, an ``after`` that names no
    phase, and a circle.
    """
    for what, keys in (
        ("name", [phase.name for phase in phases]),
        ("key", [checkpoint_key(phase) for phase in phases]),
    ):
        for key in keys:
            if keys.count(key) > 1:
                raise TrainingError(f"two phases of training have the {what} {key!r}")
            if not _KEY.match(key):
                raise TrainingError(
                    f"a phase of training has the {what} {key!r}, which can't name a folder",
                    hint="use letters, digits, '-', '_', '+' and '.'",
                )
    names = [phase.name for phase in phases]
    waiting, done = list(phases), list[Phase]()
    while waiting:
        placed = {phase.name for phase in done}
        following = next((phase for phase in waiting if phase.after is None or phase.after in placed), None)
        if following is None:
            first = next((phase for phase in waiting if phase.after not in names), waiting[0])
            why = "they wait for each other" if first.after in names else f"the phases are {', '.join(names)}"
            raise TrainingError(f"phase {first.name!r} comes after {first.after!r}, which never ends: {why}")
        waiting.remove(following)
        done.append(following)
    return done


def checkpoint_key(phase: Phase) -> str:
    """Name of the folder of a phase's checkpoints: its ``resume_key``, or its name."""
    return phase.resume_key or phase.name


def share_steps(phases: Sequence[Phase], steps: int) -> list[int]:
    """Number of steps of each phase: its own number if it has one, otherwise an equal part of the rest.

    Raises ``TrainingError`` where the phases state more than there are. No steps at all are no steps for every phase.
    """
    if steps == 0:
        return [0] * len(phases)
    stated = sum(phase.steps or 0 for phase in phases)
    free = [phase for phase in phases if phase.steps is None]
    if stated > steps:
        raise TrainingError(
            f"the phases of training take {stated} steps by themselves and training.steps is {steps}",
            hint=f"set training.steps to {stated} or more",
        )
    rest = steps - stated
    parts = [rest // len(free) + (place < rest % len(free)) for place in range(len(free))]
    return [parts.pop(0) if phase.steps is None else phase.steps for phase in phases]


def state_names(model: nn.Module, phase: Phase) -> set[str]:
    """The entries of a model's state that belong to the phase's modules, under every name that these have."""
    modules = model.named_modules(remove_duplicate=False)
    own = tuple(f"{name}." if name else "" for name, module in modules if module in phase.modules)
    return {name for name in model.state_dict() if name.startswith(own)}


@contextmanager
def only(model: nn.Module, phase: Phase, trained: Sequence[nn.Parameter]) -> Iterator[None]:
    """The phase's modules in training mode and nothing but the trained parameters with gradients.

    Everything else stands in evaluation mode meanwhile. At the end the whole model is in evaluation mode, each
    parameter asks for gradients as it did before, and none holds one.
    """
    before = {parameter: parameter.requires_grad for parameter in model.parameters()}
    chosen = {id(parameter) for parameter in trained}
    try:
        for parameter in before:
            parameter.requires_grad_(id(parameter) in chosen)
        model.eval()
        for module in phase.modules:
            module.train()
        yield
    finally:
        model.eval()
        for parameter, wanted in before.items():
            parameter.requires_grad_(wanted)
            parameter.grad = None


class Interrupt:
    """Record of Ctrl-C."""

    pressed = False


@contextmanager
def deferred_interrupt() -> Iterator[Interrupt]:
    """Ctrl-C only sets ``pressed`` meanwhile; pressed a second time it interrupts at once.

    Python delivers signals to the main thread and some programs ignore or handle this one: outside the main thread, or
    with a handler other than Python's own, nothing changes.
    """
    interrupt = Interrupt()
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is not signal.default_int_handler:
        yield interrupt
        return

    def note(number: int, frame: FrameType | None) -> None:
        interrupt.pressed = True
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)


State = tuple[dict[str, Tensor], dict[str, Any]]
"""Tensors and JSON facts: the two halves of a checkpoint."""


@dataclass
class Task:
    """One call of ``fit``. ``total`` counts the steps of all phases, ``before`` the steps of phases with reports of
    their own, which ``report`` does not count."""

    model: Trainable
    train: Dataset
    validation: Dataset | None
    config: TrainingConfig
    seed: int
    total: int
    precision: str
    processes: OneProcess
    generator: torch.Generator
    interrupt: Interrupt
    checkpoint_dir: Path | None
    metrics: Callable[[int, Mapping[str, float]], None] | None
    progress: Callable[[int, int, str], None] | None
    report: FitReport
    clock: Clock
    before: int = 0

    @property
    def step(self) -> int:
        """The steps that are done, over all phases."""
        return self.before + self.report.steps

    @property
    def module(self) -> nn.Module:
        """The model, as the module that it also is."""
        assert isinstance(self.model, nn.Module)
        return self.model

    def checkpoints(self, phase: Phase, steps: int) -> Checkpoints | None:
        """The checkpoints of a phase of so many steps, or None where none are kept."""
        if self.checkpoint_dir is None:
            return None
        identity = training_identity(self.config, self.module.state_dict(), self.train, self.validation)
        identity |= {"seed": self.seed, "precision": self.precision, "processes": self.processes.count}
        identity |= {"phase": phase.name, "steps of the phase": steps}
        return Checkpoints(self.checkpoint_dir / checkpoint_key(phase), identity)

    def state(self) -> State:
        """State in a checkpoint of every phase: the model, all random states, and the report."""
        tensors = {f"model.{name}": value for name, value in self.module.state_dict().items()}
        tensors["random.loss"] = self.processes.gather(self.generator.get_state())
        tensors["random.cpu"] = self.processes.gather(torch.get_rng_state())
        if self.processes.device.type == "cuda":
            tensors["random.cuda"] = self.processes.gather(torch.cuda.get_rng_state(self.processes.device))
        return tensors, {"report": self.report.facts()}

    def restore(self, state: State, phase: Phase) -> None:
        """Goes on from what ``state`` gave; of an independent phase that is its own modules alone."""
        tensors, facts = state
        model = tensors_of_group("model", tensors)
        if phase.independent:
            own = state_names(self.module, phase)
            model = {name: value for name, value in model.items() if name in own}
        self.module.load_state_dict(model, strict=not phase.independent)
        # Copies, because a generator reads its state from the start of a tensor's storage whatever its offset.
        states = {name: rows[self.processes.rank].clone() for name, rows in tensors_of_group("random", tensors).items()}
        self.generator.set_state(states["loss"])
        torch.set_rng_state(states["cpu"])
        if "cuda" in states:
            torch.cuda.set_rng_state(states["cuda"], self.processes.device)
        self.report.take_over(facts["report"])

    def report_metrics(self, values: Mapping[str, float]) -> None:
        """Reports numbers at the present step."""
        if self.metrics is not None:
            self.metrics(self.step, values)


class LossModule(nn.Module):
    """A model and its loss as one module whose ``forward`` is the loss, so that what wraps modules sees it whole."""

    def __init__(self, model: Trainable) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, batch: Dataset, progress: Progress, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch, a scalar, and its parts by name."""
        loss = self.model.loss(batch, progress=progress, generator=generator)
        if not isinstance(loss, Loss):
            raise wrong_answer(self.model.loss, loss, Loss)
        return loss.value, dict(loss.parts)


def tensors_of_group(group: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors called ``<group>.<name>``, by name."""
    prefix = f"{group}."
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
