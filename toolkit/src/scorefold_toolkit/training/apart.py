"""Phases that depend on no other, each trained as a job of its own: on other cores, or on other machines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from scorefold.config import TrainingConfig
from scorefold.data import Dataset, StreamedDataset
from scorefold.interfaces.capabilities import Trainable
from scorefold.stage import Executor
from scorefold_toolkit.training.fit import fit
from scorefold_toolkit.training.phases import state_names
from scorefold_toolkit.training.record import FitReport


@dataclass(frozen=True)
class PhaseJob:
    """One phase of a model's training, and all that it takes."""

    model: nn.Module
    phase: str
    train: Dataset
    validation: Dataset | None
    config: TrainingConfig
    seed: int
    checkpoint_dir: Path | None
    precision: str


def train_alone(job: PhaseJob) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Trains a job's phase: the state of the model that it changed, and the report, as JSON."""
    report = fit(
        job.model,
        job.train,
        job.config,
        validation=job.validation,
        seed=job.seed,
        checkpoint_dir=job.checkpoint_dir,
        precision=job.precision,
        only=job.phase,
    )
    return {name: value.cpu() for name, value in job.model.state_dict().items()}, report.facts()


def can_train_apart(model: nn.Module, *data: Dataset | None) -> bool:
    """Whether a model has several phases and none needs another, on data in memory: streamed ones can't be sent."""
    phases = model.phases() if isinstance(model, Trainable) else ()
    streamed = any(isinstance(each, StreamedDataset) for each in data)
    return len(phases) > 1 and all(phase.independent for phase in phases) and not streamed


def fit_apart(
    model: nn.Module,
    train: Dataset,
    config: TrainingConfig,
    executor: Executor,
    *,
    validation: Dataset | None = None,
    seed: int = 0,
    checkpoint_dir: Path | None = None,
    precision: str = "no",
    progress: Callable[[int, int, str], None] | None = None,
) -> FitReport:
    """As ``scorefold_toolkit.training.fit``, with each phase a job for ``executor``; the weights come out the same.

    What was measured is reported at the end. Raises as ``fit``, and ``JobError`` for data that can't be sent.
    """
    assert isinstance(model, Trainable)
    phases = list(model.phases())
    jobs = [PhaseJob(model, phase.name, train, validation, config, seed, checkpoint_dir, precision) for phase in phases]
    answers = executor.map("scorefold_toolkit.training.apart:train_alone", jobs, key="phases of training")
    whole = FitReport()
    owned = [state_names(model, phase) for phase in phases]
    state: dict[str, Tensor] = {}
    for number, (phase, (tensors, facts)) in enumerate(zip(phases, answers, strict=True)):
        # What prepare left is the same in every answer; what a phase trains comes from its own.
        others = set[str]().union(*owned) - owned[number]
        state |= {name: value for name, value in tensors.items() if name not in others}
        part = FitReport()
        part.take_over(facts)
        whole.include(part)
        if progress is not None:
            progress(number + 1, len(phases), f"{phase.name} trained")
    model.load_state_dict(state)
    model.eval()
    return whole
