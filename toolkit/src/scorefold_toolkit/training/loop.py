"""One phase of training: the loop over steps, its reports, its validations and its checkpoints."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Generator
from contextlib import closing, nullcontext
from typing import Any

import torch
from torch import nn

from scorefold.data import Dataset
from scorefold.errors import TrainingError
from scorefold.interfaces.capabilities import Phase, Progress
from scorefold_toolkit.training.optimiser import (
    AveragedWeights,
    Plateau,
    build_optimiser,
    here,
    learning_rate_factor,
    load_optimiser,
    optimiser_tensors,
    set_learning_rate,
    trained_groups,
)
from scorefold_toolkit.training.phases import LossModule, State, Task, only, tensors_of_group
from scorefold_toolkit.training.record import Checkpoints, RecentLosses, refuse_non_finite
from scorefold_toolkit.training.validation import (
    Best,
    batch_parts,
    batch_positions,
    batch_size,
    mirrored,
    replanned,
    some_of,
    validation_loss,
)


def compiled(loss: Callable[..., Any]) -> Callable[..., Any]:
    """The loss through torch.compile, which compiles when it is first called (seconds to a minute).

    Draws from a ``torch.Generator`` stay outside what is compiled. Results differ from uncompiled ones by rounding. The
    function raises ``TrainingError`` where there is no working compiler.
    """
    from torch._dynamo.exc import BackendCompilerFailed

    fast = torch.compile(loss)

    def call(*arguments: Any) -> Any:
        try:
            return fast(*arguments)
        except BackendCompilerFailed as error:
            raise TrainingError(
                f"torch.compile failed: {str(error).splitlines()[0]}",
                hint="set training.compile to false, or install a compiler (for a CPU a C++ one, named by CXX)",
            ) from error

    return call


_RISEN = 1.0
"""Increase above its start, or above twice its start, at which a held-out loss counts as diverged."""

_FAR = 10.0
"""Multiple of the reference, or of 1, by which held-out points are worse where training points are memorised."""

_LOOKS = 0.1
"""The share of a training's minutes after which its steps are timed again."""


def train_phase(task: Task, phase: Phase, steps: int) -> None:
    """Trains a phase for ``steps`` steps, from its newest checkpoint where there is one.

    The model ends with the averaged weights, or with the best ones where patience is set.
    """
    checkpoints = task.checkpoints(phase, steps)
    saved = None if checkpoints is None else checkpoints.latest()
    damaged = [] if checkpoints is None else checkpoints.warnings
    if checkpoints is not None:
        _refuse_different(task, saved)
    if saved is not None and saved[1]["complete"]:
        task.restore(saved, phase)
    elif steps > 0:
        trained = _parameters(trained_groups(task.model, phase))
        if not trained:
            raise TrainingError(f"phase {phase.name!r} of {type(task.model).__name__} has no parameters to train")
        with only(task.module, phase, trained):
            _PhaseLoop(task, phase, steps, checkpoints, saved).run()
    task.report.warnings += damaged


def _refuse_different(task: Task, saved: State | None) -> None:
    """Raises ``TrainingError`` where the processes would not go on from the same checkpoint."""
    found = torch.tensor([-1, 0] if saved is None else [saved[1]["step"], saved[1]["complete"]])
    every = task.processes.gather(found).tolist()
    if every.count(every[0]) < len(every):
        steps = ", ".join("none" if step < 0 else f"step {step}" for step, _ in every)
        raise TrainingError(
            f"the processes that train together found different checkpoints: {steps}",
            hint="with several machines the cache is on a disk that all of them see under the same path",
        )


class _PhaseLoop:
    """The training of one phase; ``step`` counts the steps of the phase that are done."""

    def __init__(
        self,
        task: Task,
        phase: Phase,
        steps: int,
        checkpoints: Checkpoints | None,
        saved: State | None,
    ) -> None:
        config = task.config
        self.task, self.phase, self.steps, self.checkpoints = task, phase, steps, checkpoints
        if saved is not None:
            task.restore(saved, phase)
        loss = task.processes.wrap(LossModule(task.model))
        self.loss = compiled(loss) if config.compile else loss
        groups = trained_groups(task.model, phase)
        self.trained = _parameters(groups)
        self.optimiser = build_optimiser(groups, config, scaled=task.precision == "fp16")
        self.peaks = [group["lr"] for group in self.optimiser.param_groups]
        self.plateau = None if config.plateau is None else Plateau(config.plateau, self.peaks)
        self.average = None if config.ema is None else AveragedWeights(self.trained, config.ema)
        self.best = Best(task.module, self.trained, config.patience)
        self.recent = RecentLosses()
        self.step, self.far = 0, 0
        if saved is not None:
            self._restore(saved)
        self.alone = task.total == steps and not phase.independent and task.processes.count == 1
        if self.alone:
            task.total = self.steps
        self.start, self.seen = self.step, (self.step, time.perf_counter())

    def run(self) -> None:
        """All steps that are left."""
        task, config = self.task, self.task.config
        if config.patience is not None and task.validation is not None and self.step == 0:
            self.best.begin(self._validate(task.validation))
        task.clock.start_counting(self.step)
        with closing(self._batches()) as batches:
            for batch in batches:
                self._advance(batch)
                if config.minutes is not None and self.alone:
                    self._replan(config.minutes)
                last = self.step == self.steps
                if last or self.step % config.log_every == 0:
                    self._report()
                if task.validation is not None and (last or self.step % config.validate_every == 0):
                    self._take(self._validate(task.validation))
                elif task.validation is not None and self._looks_early():
                    self._refuse_memorised(self._loss_of(some_of(task.validation)))
                if last or self.best.exhausted:
                    break
                if task.interrupt.pressed or self.step % config.checkpoint_every == 0:
                    self._write(complete=False)
                if task.interrupt.pressed:
                    raise KeyboardInterrupt
        self._finish()

    def _batches(self) -> Generator[Dataset, None, None]:
        """This process's part of the batches of all steps that are left."""
        task = self.task
        positions = batch_positions(
            task.train,
            batch_size(len(task.train), task.config.batch_size, task.processes.count),
            seed=task.seed,
            phase=self.phase.name,
            start=self.step,
            rank=task.processes.rank,
            processes=task.processes.count,
        )
        if task.config.minutes is not None:
            return task.train.takes(positions)  # the number of steps changes on the way
        return task.train.takes(itertools.islice(positions, self.steps - self.step))

    def _replan(self, minutes: float) -> None:
        """Times the steps since the last look, and changes their number where they don't fit the minutes: the first few
        are no measure of all, and the machine may be busy with other work. Of several phases each keeps its number. The
        last step is always looked at: a plan for a tenth of the minutes would end before another look."""
        task, now = self.task, time.perf_counter()
        step, since = self.seen
        if step == self.start or (now - since < _LOOKS * 60 * minutes and self.step < self.steps):
            # What a first step prepares is no part of the others.
            self.seen = (self.step, now) if step == self.start else self.seen
            return
        self.seen = self.step, now
        left = 60 * minutes - task.clock.seconds(task.report)
        self.steps = replanned(self.step, self.steps, left=left, each=(now - since) / (self.step - step))
        task.total = self.steps

    def _advance(self, batch: Dataset) -> None:
        """One step of the optimiser. Nothing here waits for the device."""
        config, processes = self.task.config, self.task.processes
        factor = learning_rate_factor(self.step, self.steps, config.warmup, config.schedule, config.drops)
        set_learning_rate(self.optimiser, self.peaks if self.plateau is None else self.plateau.rates, factor)
        if config.flip:
            batch = mirrored(batch, config.flip, self.task.generator)
        for part in batch_parts(batch, config.accumulate):
            self._add_gradients(part, len(part) / len(batch))
        processes.step(self.optimiser, self.trained, config.clip)
        for parameter in self.trained:
            parameter.grad = None
        if self.average is not None:
            self.average.update(self.step)
        self.step += 1
        self.task.report.steps += 1

    def _add_gradients(self, part: Dataset, share: float) -> None:
        """Adds the gradients of a part of a batch, which is this share of it."""
        progress = Progress(self.step, self.steps, self.phase.name)
        with self.task.processes.autocast():
            value, parts = self.loss(part, progress, self.task.generator)
        if value.dim() != 0 or not value.requires_grad:
            raise TrainingError(
                f"the loss of {type(self.task.model).__name__} has shape {tuple(value.shape)} and "
                f"{'a' if value.requires_grad else 'no'} gradient; expected a scalar with a gradient"
            )
        self.task.processes.backward(value if share == 1 else value * share)
        self.recent.add(value, parts)

    def _losses(self) -> dict[str, list[float]]:
        """The losses since the last report and their parts, averaged over processes. Raises where one isn't finite."""
        count = self.task.processes.count
        tensors = {name: self.task.processes.total(column) / count for name, column in self.recent.tensors().items()}
        losses = {name: column.tolist() for name, column in tensors.items()}
        if losses:
            advice = self._advice()
            refuse_non_finite(losses, step=self.task.step, phase=self.phase.name, advice=advice)
        return losses

    def _advice(self) -> str:
        config = self.task.config
        clip = "set training.clip to 1" if config.clip is None else f"lower training.clip (now {config.clip:g})"
        lower = f"lower training.learning_rate (now {config.learning_rate:g})"
        return f"{lower}, {clip}, or look for values in the data that are not finite or very large"

    def _report(self) -> None:
        task = self.task
        means = {name: math.fsum(column) / len(column) for name, column in self._losses().items()}
        self.recent.clear()
        rate = self.optimiser.param_groups[0]["lr"]
        speed = task.clock.rate(self.step)
        values = {**means, "learning_rate": rate, "steps_per_second": speed}
        task.report.final_learning_rate = rate
        task.report.history.append({"step": task.report.steps, "phase": self.phase.name, **values})
        if task.processes.rank == 0:
            task.report_metrics(values)
        compared = task.report.against(means["loss"])
        self._show(f"loss {means['loss']:.4g}{f' ({compared})' if compared else ''}, {speed:.0f} steps/s")

    def _show(self, text: str) -> None:
        task = self.task
        if task.progress is not None and task.processes.rank == 0:
            # The name of the only phase would say nothing.
            phase = "" if self.steps == task.total else f"{self.phase.name}: "
            task.progress(task.step, task.total, phase + text)

    def _validate(self, data: Dataset) -> float:
        """The loss on held-out points, which is reported."""
        task, loss = self.task, self._loss_of(data)
        task.report.history.append({"step": task.report.steps, "phase": self.phase.name, "validation": loss})
        if task.processes.rank == 0:
            task.report_metrics({"validation": loss})
        return loss

    def _loss_of(self, data: Dataset) -> float:
        """The loss on points that are not trained on, by the averaged weights where there are any."""
        task = self.task
        self._losses()
        # Each process has batch statistics of its own until the next step shares them.
        task.processes.share(task.module.buffers())
        with nullcontext() if self.average is None else self.average.applied():
            return validation_loss(
                task.model,
                data,
                task.config.batch_size,
                progress=Progress(max(0, self.step - 1), self.steps, self.phase.name),
                seed=task.seed,
                processes=task.processes,
            )

    def _looks_early(self) -> bool:
        """True at an eighth, a quarter and a half of the steps to the first validation, where a loss can be judged."""
        config = self.task.config
        judged = config.patience is None and self.task.report.reference is not None
        return judged and self.step in (config.validate_every // each for each in (8, 4, 2))

    def _refuse_memorised(self, loss: float) -> None:
        """Raises ``TrainingError`` where held-out points, at the second look in a row, are far worse than by the
        reference, and training points are better."""
        report = self.task.report
        seen = report.last("loss")
        if report.reference is None or seen is None:
            return
        limit = report.reference + _FAR * max(1.0, abs(report.reference))
        self.far = self.far + 1 if seen < report.reference and not loss <= limit else 0
        if self.far > 1:
            raise TrainingError(
                f"the model memorises its training points: after {self.step} steps their loss is {seen:.4g}, and "
                f"held-out points have a loss of {loss:.4g} ({report.reference_of}: {report.reference:.4g})",
                hint="give more points or a smaller model, or set training.patience: 5 and a small "
                "training.validate_every, which keep the best model on the way",
            )

    def _take(self, loss: float) -> None:
        """Takes in a validation loss after some steps."""
        if self.task.config.patience is None:
            self._refuse_memorised(loss)
        with nullcontext() if self.average is None else self.average.applied():
            self.best.take(loss)
        if self.plateau is not None:
            self.plateau.take(loss)
        self.task.report.best_validation = self.best.loss if math.isfinite(self.best.loss) else None
        held_out = loss if self.task.config.patience is None else self.best.loss
        self.task.report.held_out = held_out if math.isfinite(held_out) else None

    def _finish(self) -> None:
        self._losses()
        self.task.processes.share(self.task.module.buffers())
        if self.best.exhausted:
            self.task.report.stopped_early = True
            self._show("stopped early")
        if self.average is not None:
            self.average.apply()
        self._check_learned()
        self.best.restore()
        self._write(complete=True)
        self.task.processes.unwrap()

    def _check_learned(self) -> None:
        """Warns where the loss on held-out points has never fallen below that before the first step. Raises
        ``TrainingError`` where it has risen far above it."""
        start, reached = self.best.start, self.best.reached
        if start is None or reached is None or reached < start:
            return
        first = self.task.step == self.step
        when = "the training" if first else f"phase {self.phase.name!r}"
        text = f"the loss on held-out points was {start:.4g} before {when}, and {reached:.4g} at best after it"
        if first and not reached <= start + max(_RISEN, abs(start)):
            raise TrainingError(f"{text}: the training diverged", hint=self._advice())
        self.task.report.warnings.append(f"{text}, so the model is as it was before {when}")

    def _write(self, *, complete: bool) -> None:
        """Checks that the weights are finite, and keeps the state where checkpoints are asked for."""
        task = self.task
        losses = self._losses()
        norms = torch.stack(torch._foreach_norm(here([parameter.detach() for parameter in self.trained])))
        if not bool(torch.isfinite(task.processes.total(norms)).all()):
            raise TrainingError(
                f"the weights are not finite after step {task.step} of phase {self.phase.name!r}",
                hint=self._advice(),
            )
        task.clock.add_to(task.report)
        if self.checkpoints is None:
            return
        tensors, facts = task.state()
        facts |= {"complete": complete, "step": self.step, "steps": self.steps, "best": self.best.facts()}
        facts["plateau"] = None if self.plateau is None else self.plateau.facts()
        if not complete:
            facts["scaler"] = task.processes.scaler_state()
            groups = {"optimiser": optimiser_tensors(self.optimiser), "best": self.best.state}
            groups["recent"] = {name: torch.tensor(column, dtype=torch.float64) for name, column in losses.items()}
            if self.average is not None:
                groups["average"] = {str(place): value for place, value in enumerate(self.average.averages)}
            tensors |= {f"{group}.{name}": value for group, part in groups.items() for name, value in part.items()}
        tensors = task.processes.whole(tensors)
        if task.processes.rank == 0:
            self.checkpoints.write(tensors, facts)
        task.processes.wait()

    def _restore(self, saved: State) -> None:
        """Goes on from a checkpoint; the model has its weights already."""
        tensors, facts = saved
        self.step, self.steps = facts["step"], facts.get("steps", self.steps)
        parts, groups = self.task.processes.parts, {group: tensors_of_group(group, tensors) for group in _GROUPS}
        like = {name: self.trained[int(name.partition(".")[0])] for name in groups["optimiser"]}
        load_optimiser(self.optimiser, parts(groups["optimiser"], like))
        if self.average is not None:
            averages = parts(groups["average"], {str(place): value for place, value in enumerate(self.trained)})
            self.average.load([averages[str(place)] for place in range(len(averages))])
        self.best.load(facts["best"], parts(groups["best"], self.task.module.state_dict()))
        if self.plateau is not None:
            self.plateau.load(facts["plateau"])
        self.recent.load(parts(groups["recent"], {}))
        self.task.processes.load_scaler(facts["scaler"])


_GROUPS = ("optimiser", "average", "best", "recent")
"""State of an incomplete phase in a checkpoint, without the model."""


def _parameters(groups: list[dict[str, Any]]) -> list[nn.Parameter]:
    return [parameter for group in groups for parameter in group["params"]]
