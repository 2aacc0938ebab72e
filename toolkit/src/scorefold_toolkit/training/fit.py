"""``fit`` trains a component on data by its own loss and phases; independent phases may be jobs of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scorefold.config import TrainingConfig
from scorefold.data import Dataset, StreamedDataset, as_dataset
from scorefold.errors import ShapeError, TrainingError
from scorefold.interfaces.capabilities import Phase, Progress, Trainable
from scorefold.seeds import derive_generator, derive_seed
from scorefold.stage import Executor
from scorefold_toolkit.training.distributed import OneProcess, processes_for
from scorefold_toolkit.training.loop import train_phase
from scorefold_toolkit.training.phases import (
    Interrupt,
    Task,
    deferred_interrupt,
    ordered_phases,
    share_steps,
    state_names,
)
from scorefold_toolkit.training.record import Clock, FitReport
from scorefold_toolkit.training.validation import (
    HasLossReference,
    LossReference,
    some_of,
    steps_in,
    untrained,
    validation_loss,
)


def fit(
    model: nn.Module,
    train: Tensor | Dataset,
    config: TrainingConfig,
    *,
    validation: Tensor | Dataset | None = None,
    seed: int = 0,
    checkpoint_dir: Path | None = None,
    precision: str = "no",
    parallel: str | None = None,
    metrics: Callable[[int, Mapping[str, float]], None] | None = None,
    progress: Callable[[int, int, str], None] | None = None,
    only: str | None = None,
) -> FitReport:
    """Trains a ``Trainable`` module in place; afterwards it holds the averaged weights, in evaluation mode.

    ``train`` and ``validation`` are points (N, *E) in the units of the model; they are moved to its device. Every
    ``config.log_every`` steps ``metrics(step, values)`` gets the mean loss since the last time, its parts,
    ``learning_rate`` and ``steps_per_second``, and at validations ``validation``; ``progress(done, total, text)`` moves
    a progress bar. Steps count over all phases, from 1.

    All randomness derives from ``seed``; torch's global generator, which dropout draws from, is seeded from it for the
    time of the call and left as it was. With a ``checkpoint_dir`` the same call after an interruption, even a kill,
    goes on from the last checkpoint; on a CPU, with the same versions and threads, the weights come out equal to the
    bit. Ctrl-C writes a checkpoint after the running step and then interrupts.

    ``precision`` is ``no``, ``bf16`` or ``fp16``. Under ``torchrun`` every process calls this with the same arguments,
    gets its part of each batch, and ends with the same weights; ``parallel`` is ``ddp``, the choice where it is left
    out, or ``fsdp2``, which divides weights, averages and the optimiser's state over the processes. A batch has
    ``config.batch_size`` points or, where there are fewer, all of them.

    ``only`` names the one phase to train, of several that are independent.

    Raises ``TrainingError`` for a model that can't be trained as asked, a loss that is not finite (naming step and
    parts), and a checkpoint of another training; ``ShapeError`` for data whose dtype is not the model's.
    """
    if not isinstance(model, Trainable) or not isinstance(model, nn.Module):
        raise TrainingError(
            f"{type(model).__name__} can't be trained: it is not both a torch module and a Trainable",
            hint="inherit scorefold.interfaces.Trainable and write its loss",
        )
    if callable(getattr(model, "train_in_worker", None)):
        if parallel is not None:
            raise TrainingError(
                "a model in an environment of its own is trained by one process", hint="leave out runtime.parallel"
            )
        settings = {"seed": seed, "checkpoint_dir": checkpoint_dir, "precision": precision, "validation": validation}
        return _train_in_worker(model, as_dataset(train), config, metrics=metrics, **settings)
    if untrained(type(model).__name__):
        config = config.model_copy(update={"steps": 0, "minutes": None, "patience": None, "plateau": None})
    phases = ordered_phases(model.phases())
    if only is not None and only not in [phase.name for phase in phases if phase.independent]:
        named = ", ".join(phase.name for phase in phases if phase.independent) or "none"
        raise TrainingError(f"phase {only!r} was to be trained alone; independent phases are {named}")
    processes = processes_for(model, precision, compiled=config.compile, parallel=parallel)
    data = _checked(model, as_dataset(train), "training", processes)
    held_out = None if validation is None else _checked(model, as_dataset(validation), "validation", processes)
    for setting in ("patience", "plateau"):
        if getattr(config, setting) is not None and not held_out:
            raise TrainingError(
                f"training.{setting} needs held-out points and there are none",
                hint=f"give the data a validation split, or set training.{setting} to null",
            )
    devices = [processes.device] if processes.device.type == "cuda" else []
    report, clock = FitReport(), Clock()
    with torch.random.fork_rng(devices=devices):
        _seed_global(derive_seed(seed, "global", processes.rank), processes.device)
        model.prepare(data, derive_generator(seed, "prepare", device=processes.device))
        processes.share((*model.parameters(), *model.buffers()))
        steps = config.steps
        if config.minutes is not None:
            given = config.batch_size
            config, steps = steps_in(config.minutes, model, phases, data, config, processes, checkpoint_dir)
            report.batch_size = config.batch_size if config.batch_size != given else None
        shares = share_steps(phases, steps)
        with _interrupts(processes) as interrupt:
            task = Task(
                model=model,
                train=data,
                validation=held_out or None,
                config=config,
                seed=seed,
                total=sum(shares),
                precision=precision,
                processes=processes,
                generator=derive_generator(seed, "noise", processes.rank, device=processes.device),
                interrupt=interrupt,
                checkpoint_dir=checkpoint_dir,
                metrics=metrics,
                progress=progress,
                report=report,
                clock=clock,
            )
            for phase, steps in zip(phases, shares, strict=True):
                if only is not None and phase.name != only:
                    continue
                if phase.independent:
                    _train_apart(task, phase, steps)
                else:
                    _train(task, phase, steps)
                if interrupt.pressed:
                    raise KeyboardInterrupt
    model.eval()
    clock.add_to(report)
    return report


def _train(task: Task, phase: Phase, steps: int) -> None:
    """Trains a phase, with what its losses are to be compared with in the report."""
    found = _reference(task, phase.name)
    task.report.reference, task.report.reference_of = (None, "") if found is None else (found.value, found.of)
    train_phase(task, phase, steps)


def _reference(task: Task, phase: str) -> LossReference | None:
    """Reference for the losses of a phase, if the model has one."""
    if not isinstance(task.model, HasLossReference):
        return None
    points = some_of(task.train) if task.validation is None else task.validation

    def loss() -> float:
        return validation_loss(
            task.model,
            points,
            task.config.batch_size,
            progress=Progress(0, task.total, phase),
            seed=task.seed,
            processes=task.processes,
        )

    return task.model.loss_reference(points, loss, phase)


def _train_apart(task: Task, phase: Phase, steps: int) -> None:
    """Trains an independent phase: what it draws is seeded by its name, and what it reports and keeps is its own,
    whatever came before it."""
    rank, device = task.processes.rank, task.processes.device
    _seed_global(derive_seed(task.seed, "global", phase.name, rank), device)
    task.generator = derive_generator(task.seed, "noise", phase.name, rank, device=device)
    whole = task.report
    task.before, task.report = whole.steps, FitReport()
    try:
        _train(task, phase, steps)
    finally:
        whole.include(task.report)
        task.before, task.report = 0, whole


def _seed_global(seed: int, device: torch.device) -> None:
    """Seeds the default generators of the CPU and of one device: ``torch.manual_seed`` would seed every device's."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def _train_in_worker(model: Any, train: Dataset, config: TrainingConfig, **settings: Any) -> FitReport:
    """The report of a training in another process, which calls ``fit`` there on the model itself."""
    if settings["validation"] is not None:
        settings["validation"] = as_dataset(settings["validation"])
    report = FitReport()
    report.take_over(model.train_in_worker("scorefold_toolkit.training:fit", train, config, **settings))
    return report


def _checked(model: nn.Module, data: Dataset, what: str, processes: OneProcess) -> Dataset:
    """The data on the model's device. Raises where there are none to train on, or in another dtype."""
    if what == "training" and len(data) == 0:
        raise TrainingError("there are no training points")
    dtypes = {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()}
    if data.x.is_floating_point() and len(dtypes) == 1 and data.x.dtype not in dtypes:
        raise ShapeError(
            f"the {what} data are {data.x.dtype} and the model's parameters {dtypes.pop()}",
            hint="convert one of them: data.to(dtype=...) or model.to(dtype)",
        )
    return data.to(processes.device)


def _interrupts(processes: OneProcess) -> AbstractContextManager[Interrupt]:
    """Ctrl-C after the running step; several processes, which would not agree on the step, are interrupted at once."""
    return deferred_interrupt() if processes.count == 1 else nullcontext(Interrupt())


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
    """True if a model has several phases and none needs another, on data in memory: streamed ones can't be sent."""
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
    answers = executor.map("scorefold_toolkit.training.fit:train_alone", jobs, key="phases of training")
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
