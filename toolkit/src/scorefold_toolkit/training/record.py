"""The reports of a training while it runs and at its end, and the checkpoints of its phases."""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from scorefold.artefacts import PARTIAL, json_text, load_state, save_state
from scorefold.config import TrainingConfig
from scorefold.data import Dataset
from scorefold.errors import ArtefactError, TrainingError

_RESERVED = frozenset({"step", "phase", "loss", "validation", "learning_rate", "steps_per_second"})


@dataclass
class FitReport:
    """Report of a training. ``steps`` optimiser steps were taken over all phases, in ``seconds`` of wall time and
    ``cpu_seconds`` of this process (earlier parts of a resumed run counted in); ``history`` has a row for each report:
    ``step`` and ``phase`` with either ``loss``, its parts, ``learning_rate`` and ``steps_per_second``, or
    ``validation``, the loss of the held-out points under the averaged weights. ``best_validation`` is the lowest of
    these in the last phase. ``held_out`` is the loss of the final model: the lowest where ``patience`` keeps the best
    weights, else the last. ``warnings`` say what went wrong on the way. ``reference`` is the loss of something
    that learned nothing, in the last phase too, on the held-out points or on some training points, and
    ``reference_of`` names it; None for none. ``batch_size`` is the batch where it was made smaller for the
    time there was, and None elsewhere.

    >>> report = FitReport(steps=20, history=[{"step": 10, "loss": 0.5}, {"step": 20, "loss": 0.4}])
    >>> report.last("loss")
    0.4
    """

    steps: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    stopped_early: bool = False
    best_validation: float | None = None
    held_out: float | None = None
    final_learning_rate: float | None = None
    reference: float | None = None
    reference_of: str = ""
    batch_size: int | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def against(self, loss: float) -> str:
        """Distance of a loss from the reference, as text: a share if both are positive, otherwise a difference.

        >>> FitReport(reference=0.5, reference_of="a network that answers 0").against(0.4)
        '20% below the loss of a network that answers 0, 0.5'
        >>> FitReport(reference=-2.0, reference_of="a normal distribution").against(-1.5)
        'no better than a normal distribution, -2'
        """
        if self.reference is None:
            return ""
        if not loss < self.reference:
            return f"no better than {self.reference_of}, {self.reference:.4g}"
        share = loss > 0 and self.reference > 0
        below = f"{1 - loss / self.reference:.0%}" if share else f"{self.reference - loss:.3g}"
        return f"{below} below the loss of {self.reference_of}, {self.reference:.4g}"

    def answer(self) -> dict[str, Any]:
        """Quality of the fit and the next step, as the minor ``answer`` of a result: printed if there is no other."""
        held_out = self.held_out is not None
        loss = self.held_out if held_out else self.last("loss")
        quantity = "loss of held-out points" if held_out else "loss"
        if loss is None:
            return {"quantity": quantity, "value": None, "verdict": f"Trained for {self.steps:,} steps.", "minor": True}
        compared = self.against(loss)
        better = not compared.startswith("no better")
        verdict = f"Trained for {self.steps:,} steps: {quantity} {loss:.4g}{f' ({compared})' if compared else ''}."
        advice = "ask the model a question, such as do: sample" if better else "train longer, or check the data's scale"
        if self.memorised():
            advice = "give more points, or take fewer steps, a smaller model or 'patience' of training"
        elif self.overfitted():
            advice = "set 'patience' of training, or take fewer steps, more points or a smaller model"
        elif not better and self._restored():
            advice = "give more points, or take a smaller model or a smaller learning_rate"
        sure = {} if better else {"sure": "with caution"}
        return {"quantity": quantity, "value": loss, "verdict": verdict, **sure, "advice": advice, "minor": True}

    def memorised(self) -> str:
        """The warning of a model that fits its training points and learned nothing of others; empty for other models.

        >>> known = FitReport(reference=1.0, reference_of="a normal distribution", held_out=3.1)
        >>> known.history = [{"step": 10, "loss": -2.4}, {"step": 10, "validation": 3.1}]
        >>> known.memorised()[:68]
        'the loss of training points is -2.4 and of held-out points 3.1, no b'
        """
        loss, held_out = self.last("loss"), self.held_out
        if self.reference is None or loss is None or held_out is None or self._restored():
            return ""
        clear = 0.1 * max(1.0, abs(self.reference))
        if not loss < self.reference - clear or held_out < self.reference:
            return ""
        return (
            f"the loss of training points is {loss:.4g} and of held-out points {held_out:.4g}, "
            f"{self.against(held_out)}: the model repeats its training points, and its samples are too narrow"
        )

    def _restored(self) -> bool:
        """True if the best weights were put back: the last loss of training points is of other weights."""
        return self.last("validation") not in (None, self.held_out)

    def overfitted(self) -> str:
        """The warning of a model that was clearly better on held-out points before the training ended, by a tenth of
        what it had gained; empty for other models.

        >>> FitReport(reference=1.4, best_validation=0.96, held_out=1.26).overfitted()[:67]
        'the loss of held-out points was 0.96 at best and is 1.26 at the end'
        """
        if self.reference is None or self.best_validation is None or self.held_out is None:
            return ""
        if not self.held_out - self.best_validation > 0.1 * (self.reference - self.best_validation) > 0:
            return ""
        return (
            f"the loss of held-out points was {self.best_validation:.4g} at best and is {self.held_out:.4g} at the end"
            ": 'patience' of training keeps the best model"
        )

    def last(self, name: str) -> float | None:
        """The latest value of a name in the history, or None."""
        return next((row[name] for row in reversed(self.history) if name in row), None)

    def summary(self) -> dict[str, Any]:
        """The report as JSON; ``metrics`` are its numbers, under names that read as words."""
        numbers = {
            "steps": self.steps,
            "batch size": self.batch_size,
            "loss": self.last("loss"),
            f"loss of {self.reference_of}": self.reference,
            "best validation": self.best_validation,
            "final learning rate": self.final_learning_rate,
            "seconds": self.seconds,
            "CPU seconds": self.cpu_seconds,
        }
        return {
            "metrics": {name: value for name, value in numbers.items() if value is not None},
            "stopped_early": self.stopped_early,
            "history": self.history,
        }

    def facts(self) -> dict[str, Any]:
        """The report for a checkpoint, as JSON."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}

    def take_over(self, facts: Mapping[str, Any]) -> None:
        """Goes on from the report of a checkpoint."""
        for name, value in facts.items():
            setattr(self, name, value)
        # JSON writes what is not finite as text.
        self.history = [
            {name: float(value) if isinstance(value, str) and name != "phase" else value for name, value in row.items()}
            for row in self.history
        ]

    def include(self, part: FitReport) -> None:
        """Takes in the report of a phase that was kept by itself, as if it came after what is here."""
        self.history += [{**row, "step": row["step"] + self.steps} for row in part.history]
        self.steps += part.steps
        self.seconds += part.seconds
        self.cpu_seconds += part.cpu_seconds
        self.stopped_early = self.stopped_early or part.stopped_early
        self.best_validation, self.held_out = part.best_validation, part.held_out
        self.final_learning_rate = part.final_learning_rate
        self.reference, self.reference_of = part.reference, part.reference_of


class Clock:
    """Adds the time that passes to a report, and gives the rate of steps between two of its questions."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        self._step, self._since = 0, self._wall

    def add_to(self, report: FitReport) -> None:
        """Counts the time since the last call."""
        wall, cpu = time.perf_counter(), time.process_time()
        report.seconds += wall - self._wall
        report.cpu_seconds += cpu - self._cpu
        self._wall, self._cpu = wall, cpu

    def seconds(self, report: FitReport) -> float:
        """Wall time of the whole training up to now."""
        return report.seconds + time.perf_counter() - self._wall

    def start_counting(self, step: int) -> None:
        """Steps count from here for the next rate."""
        self._step, self._since = step, time.perf_counter()

    def rate(self, step: int) -> float:
        """Steps a second since the last rate or start."""
        now = time.perf_counter()
        rate = (step - self._step) / max(now - self._since, 1e-9)
        self._step, self._since = step, now
        return rate


class RecentLosses:
    """The losses and their parts since the last report, kept on their device: nothing waits for it at every step."""

    def __init__(self) -> None:
        self._columns: dict[str, list[Tensor]] = {}

    def add(self, value: Tensor, parts: Mapping[str, Tensor]) -> None:
        """Takes in the loss of a step (a scalar) and its parts (scalars, under names that no report uses)."""
        if not _RESERVED.isdisjoint(parts):
            raise TrainingError(f"parts of a loss can't be called {', '.join(sorted(_RESERVED))}")
        self._columns.setdefault("loss", []).append(value.detach())
        for name, part in parts.items():
            self._columns.setdefault(name, []).append(part.detach())

    def tensors(self) -> dict[str, Tensor]:
        """Stored values, by name: each (steps,). Raises ``TrainingError`` for a part that is not a scalar."""
        columns = {name: torch.stack(values) for name, values in self._columns.items()}
        for name, column in columns.items():
            if column.dim() != 1:
                raise TrainingError(f"the part {name!r} of the loss has shape {tuple(column.shape[1:])}, not a scalar")
        # Of mixed precision: a sum over processes or steps needs more than the two digits of bf16.
        return {name: column if column.dtype.itemsize > 2 else column.float() for name, column in columns.items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Goes on from what ``tensors`` gave."""
        self._columns = {name: list(values.unbind()) for name, values in tensors.items()}

    def clear(self) -> None:
        """Forgets what was reported."""
        self._columns = {}


def refuse_non_finite(losses: Mapping[str, Sequence[float]], *, step: int, phase: str, advice: str) -> None:
    """Raises ``TrainingError`` for the first loss of a report that is not finite; ``step`` is the last of them."""
    values = torch.tensor(losses["loss"], dtype=torch.float64)
    finite = torch.isfinite(values)
    if bool(finite.all()):
        return
    first = int((~finite).nonzero()[0])
    whole = {name: column for name, column in losses.items() if name != "loss" and len(column) == len(values)}
    parts = ", ".join(f"{name} {column[first]:.4g}" for name, column in whole.items())
    raise TrainingError(
        f"the loss is {values[first]:.4g} at step {step - len(values) + 1 + first} of phase {phase!r}"
        + (f" ({parts})" if parts else ""),
        hint=advice,
    )


_FREE = frozenset({"log_every", "checkpoint_every"})
_SAMPLE = 16


class Checkpoints:
    """The checkpoints of one phase in a folder, numbered in the order of writing.

    ``identity`` names their training. A checkpoint of another training is refused, and never overwritten. A damaged
    checkpoint is moved aside, with a note in ``warnings``.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.folder = folder
        self._identity = json.loads(json_text(identity))
        self.warnings: list[str] = []

    def latest(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The tensors and the facts of the newest checkpoint that is whole, or None.

        Raises ``TrainingError`` where it belongs to another training.
        """
        for number in reversed(self._numbers()):
            newest = self.folder / str(number)
            try:
                tensors, facts = load_state(newest)
            except ArtefactError as error:
                self._set_aside(newest, error)
                continue
            self._refuse_another(newest, facts.pop("identity", {}))
            return tensors, facts
        return None

    def _set_aside(self, folder: Path, error: ArtefactError) -> None:
        place = folder.with_name(f"damaged-{folder.name}-{secrets.token_hex(4)}")
        with suppress(OSError):  # another process of the same training has done it
            folder.rename(place)
        self.warnings.append(
            f"a checkpoint was damaged ({error.message}): it is now {place.name}, and the training went on from the "
            "one before it, or from the start"
        )

    def write(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """A checkpoint newer than all others, which go when it is complete."""
        _clear_partials(self.folder)
        older = self._numbers()
        # A number of its own, not the step's: a resumed run may write at the same step again, and would have to remove
        # what it goes on from.
        target = self.folder / str(older[-1] + 1 if older else 1)
        save_state(target, tensors, {**facts, "identity": self._identity})
        for number in older:
            shutil.rmtree(self.folder / str(number))

    def _numbers(self) -> list[int]:
        if not self.folder.is_dir():
            return []
        return sorted(int(path.name) for path in self.folder.iterdir() if path.name.isdigit())

    def _refuse_another(self, folder: Path, found: Mapping[str, Any]) -> None:
        names = [name for name in {**self._identity, **found} if self._identity.get(name) != found.get(name)]
        if names:
            changes = "; ".join(f"{name} was {found.get(name)} and is {self._identity.get(name)}" for name in names)
            raise TrainingError(
                f"the checkpoint in {folder} is of another training: {changes}",
                hint=f"train as before to go on from it, or remove {self.folder} to start again",
            )


def training_identity(
    config: TrainingConfig, state: Mapping[str, Tensor], train: Dataset, validation: Dataset | None
) -> dict[str, Any]:
    """Settings that must agree to continue from a checkpoint, as JSON.

    The training's configuration (but for how often it logs and writes checkpoints), the names, shapes and dtypes of the
    model's state, and the data by their number and a sample.
    """
    settings = {f"training.{name}": value for name, value in config.model_dump().items() if name not in _FREE}
    entries = {name: [list(tensor.shape), str(tensor.dtype)] for name, tensor in state.items()}
    return {
        **settings,
        "model state": hashlib.sha256(json_text(entries).encode()).hexdigest()[:16],
        "training data": _describe(train),
        "validation data": None if validation is None else _describe(validation),
    }


def _describe(dataset: Dataset) -> str:
    points = len(dataset)
    if points == 0:
        return "no points"
    sample = dataset.take(torch.linspace(0, points - 1, min(points, _SAMPLE)).long()).x
    digest = hashlib.sha256(save({"x": sample.detach().cpu().contiguous()})).hexdigest()[:16]
    return f"{points} points {digest}"


def _clear_partials(folder: Path) -> None:
    """Removes what killed writers left in a folder, where nobody else writes."""
    for leftover in folder.glob(f".*{PARTIAL}"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)
