"""The phases of a component's training: their order, their steps, and what stands still meanwhile."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import nn

from scorefold.errors import TrainingError
from scorefold.interfaces.capabilities import Phase

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
    """What names the folder of a phase's checkpoints: its ``resume_key``, or its name."""
    return phase.resume_key or phase.name


def share_steps(phases: Sequence[Phase], steps: int) -> list[int]:
    """How many of ``steps`` each phase trains: its own number where it states one, else an equal part of the rest.

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
