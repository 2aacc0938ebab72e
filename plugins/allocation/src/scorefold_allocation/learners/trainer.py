"""Trials of allocations, each trained from scratch and tested on new tasks, and the verb of the kind ``learner``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from scorefold.artefacts import csv_text
from scorefold.errors import ConfigError, DataError, SplitError, TrainingError
from scorefold.seeds import derive_generator, derive_seed
from scorefold.stage import Outcome, StageContext
from scorefold_allocation.data.batch import BatchedTasks, TaskBatch, TaskSource, batch_of
from scorefold_allocation.learners.config import AllocationCellConfig, EpisodesConfig, EvaluateOptions, NewTasksConfig
from scorefold_allocation.learners.episodes import Rule, SeedGroup, mean_measure, tasks_as, train_episodes
from scorefold_allocation.learners.interface import AllocationCell, Learner, Losses
from scorefold_allocation.learners.networks import Weights, task_accuracies, task_losses

MakeRule = Callable[[tuple[int, ...], int | None], Rule]
"""The rule for events of a shape and so many classes, None for numbers."""

Plan = Sequence[tuple[TaskSource, AllocationCell]]
"""Training tasks of one size or of several: where they come from, and how many of which size."""


def tasks_of(
    source: TaskSource, split: str, tasks: int, support: int, query: int, seeds: Sequence[int]
) -> list[TaskBatch]:
    """The tasks of a split for each seed; fewer tasks or labels are the first of more where the source gives that."""
    return [batch_of(source, tasks, support, query, derive_generator(seed, split), split) for seed in seeds]


def adaptation_labels(new_tasks: NewTasksConfig, cell: AllocationCell) -> int:
    """The labels that a learner adapts to a new task with."""
    return cell.support if new_tasks.support == "tied" else new_tasks.support


def try_allocations(
    config: EpisodesConfig,
    new_tasks: NewTasksConfig,
    make_rule: MakeRule,
    source: TaskSource,
    plans: Sequence[Plan],
    seeds: Sequence[int],
    device: torch.device,
) -> list[Losses]:
    """Results of each plan, for each seed, on new tasks of the source, trained on a device. See
    ``Learner.evaluate``.

    A tied deployment adapts with as many labels as the tasks of a plan have support labels, which must then be alike.
    Seeds are trained together, or each by itself where trainings have a course of their own.
    """
    parts = [[seed] for seed in seeds] if config.has_course else [seeds]
    found = [[_one(config, new_tasks, make_rule, source, plan, part, device) for part in parts] for plan in plans]
    test, training, updates, *alone = (
        torch.stack([torch.cat(column) for column in columns], 1)
        for columns in zip(*(zip(*plan, strict=True) for plan in found), strict=True)
    )
    return [
        Losses(
            test[row],
            training[row],
            updates[row] if config.has_course else None,
            {name: values[row] for name, values in zip(config.types_alone, alone, strict=True)},
        )
        for row in range(len(seeds))
    ]


def by_type(source: TaskSource, mixture: Mapping[str, AllocationCell]) -> Plan:
    """A plan with a cell for each of some types of a source. Raises ``DataError`` for a type that it has not."""
    return [(_only(source, name), cell) for name, cell in mixture.items()]


def _only(source: TaskSource, name: str) -> TaskSource:
    if not isinstance(source, BatchedTasks):
        raise DataError(f"a {type(source).__name__} has no types of task to choose from")
    return source.only(name)


def _one(
    config: EpisodesConfig,
    new_tasks: NewTasksConfig,
    make_rule: MakeRule,
    source: TaskSource,
    plan: Plan,
    seeds: Sequence[int],
    device: torch.device,
) -> tuple[Tensor, ...]:
    """The measure on new tasks, the training loss at the end and the updates of one plan, and the measure on new tasks
    of each of ``types_alone``: each (S,) in float64 on the CPU."""
    dtype = getattr(torch, config.dtype)

    def drawn(origin: TaskSource, split: str, tasks: int, support: int, query: int) -> list[TaskBatch]:
        return [tasks_as(dtype, batch) for batch in tasks_of(origin, split, tasks, support, query, seeds)]

    supports = {adaptation_labels(new_tasks, cell) for _, cell in plan}
    if len(supports) > 1:
        raise ConfigError(
            f"new_tasks.support is tied, and the training tasks of one plan have {sorted(supports)} support labels",
            hint="set new_tasks.support to a number",
        )
    support = supports.pop()
    groups = [SeedGroup(drawn(origin, "train", *cell), cell) for origin, cell in plan]
    new = drawn(source, "test", new_tasks.tasks, support, new_tasks.query)
    alone = [
        drawn(_only(source, name), "test", new_tasks.tasks, support, new_tasks.query) for name in config.types_alone
    ]
    held_out = None
    if config.validation.tasks:
        with suppress(SplitError):
            held_out = drawn(source, "validation", config.validation.tasks, support, new_tasks.query)
    ways = _ways([*(batch for group in groups for batch in group.batches), *new, *(held_out or ())])
    rule = make_rule(new[0].points.event_shape, ways)
    _refuse_unfit(config, ways is not None, held_out is not None)
    starts = zip(*(rule.network.start(derive_generator(seed, "weights")) for seed in seeds), strict=True)

    def watched(outputs: Tensor, y: Tensor) -> Tensor:
        return torch.stack([rule.loss(outputs, y).double(), -task_accuracies(outputs, y)])

    by_accuracy = config.plateau is not None and config.plateau.watch == "accuracy"

    def loss(weights: Weights) -> Tensor:
        assert held_out is not None
        return mean_measure(rule.network, rule.new, weights, held_out, support, watched if by_accuracy else rule.loss)

    start = [torch.stack(each).to(device, dtype) for each in starts]
    kept, last, updates = train_episodes(config, rule, start, groups, seeds, None if held_out is None else loss)
    measure = task_accuracies if config.measure == "accuracy" else task_losses
    tests = [mean_measure(rule.network, rule.new, kept, each, support, measure) for each in (new, *alone)]
    total = sum(cell.tasks for _, cell in plan)
    training = [
        cell.tasks / total * mean_measure(rule.network, rule.training, last, batches, cell.support, rule.loss)
        for batches, cell in groups
    ]
    made = torch.full((len(seeds),), updates, dtype=torch.float64)
    return tests[0], torch.stack(training).sum(0), made, *tests[1:]


def _refuse_unfit(config: EpisodesConfig, classifies: bool, has_validation: bool) -> None:
    """Raises ``ConfigError`` for settings that these tasks do not bear."""
    watch = None if config.plateau is None else config.plateau.watch
    for setting, value in (("measure", config.measure), ("plateau.watch", watch)):
        if value == "accuracy" and not classifies:
            raise ConfigError(
                f"{setting}: accuracy was asked for, and these tasks have numbers to predict, not classes",
                hint=f"{setting}: loss",
            )
    for setting, needs in (("plateau", watch in ("loss", "accuracy")), ("patience", config.patience is not None)):
        if needs and not has_validation:
            raise ConfigError(
                f"{setting} needs validation tasks, and there are none",
                hint="set validation.tasks and give the source a validation split, or set plateau.watch to training"
                if setting == "plateau"
                else "set validation.tasks and give the source a validation split, or set patience to null",
            )


def _ways(batches: Sequence[TaskBatch]) -> int | None:
    """Number of classes of the tasks, None if they predict numbers. Raises ``DataError`` for some of each."""
    ways = [batch.ways for batch in batches if batch.ways is not None]
    if 0 < len(ways) < len(batches):
        raise DataError("some splits of this source have classes, and some numbers to predict; expected one of them")
    return max(ways, default=None)


SOME = [AllocationCell(400 // n, n // 2, n // 2) for n in (10, 20, 40)]
"""The allocations where none are named, of 400 labels each."""

Plannable = AllocationCell | Mapping[str, AllocationCell]
"""An allocation: a cell, or one for each of some types of task."""


def evaluate_learner(
    component: Learner, inputs: Mapping[str, Any], options: EvaluateOptions, context: StageContext
) -> Outcome:
    """Try allocations of labels, each from several seeds: the mean of the measure on new tasks, and its spread.

    Hands on ``{"test": (seeds, cells)}``, and where the learner gives them "train", "updates" and "test of NAME", on
    tasks of one type, in float64. An allocation with a number that is not finite is warned of, and is not the best.
    Raises as the learner does, and ``TrainingError`` where none is left.
    """
    root = context.seed("evaluate")
    seeds = [derive_seed(root, seed) for seed in range(options.seeds)]
    plans, found = _tried(component, inputs["data"], options, seeds)
    arrays = {"test": torch.stack([losses.test for losses in found])}
    for name in ("train", "updates"):
        given = [part for losses in found if (part := getattr(losses, name)) is not None]
        if len(given) == len(found):
            arrays[name] = torch.stack(given)
    for name in found[0].alone:
        arrays[f"test of {name}"] = torch.stack([losses.alone[name] for losses in found])
    warnings = _not_finite(arrays, plans, component.measure)
    names = {array: what for array, what in (("train", "training loss"), ("updates", "updates")) if array in arrays}
    names |= {f"test of {name}": f"test {component.measure} of {name}" for name in found[0].alone}
    metrics: dict[str, float] = {}
    rows = []
    for number, plan in enumerate(plans):
        values = arrays["test"][:, number]
        spread = float(values.std()) if len(values) > 1 else None
        mean = float(values.mean())
        row: list[Any] = [*_columns(plan), mean, spread]
        measured = {f"test {component.measure}": mean, "its deviation over seeds": spread}
        for array, what in names.items():
            row.append(float(arrays[array][:, number].mean()))
            measured[what] = row[-1]
        for what, value in measured.items():
            if value is not None and math.isfinite(value):
                metrics[f"{what}, {_named(plan)}"] = value
        rows.append(row)
    means = arrays["test"].mean(0)
    worst = torch.inf if component.measure == "loss" else -torch.inf
    ranked = torch.where(means.isfinite(), means, worst)
    best = int(ranked.argmin() if component.measure == "loss" else ranked.argmax())
    answer = {"quantity": f"test {component.measure} of the best allocation", "value": float(means[best])}
    result = {"metrics": metrics, "best": _facts(plans[best]), "answer": answer, "warnings": warnings}
    columns = [what.replace(" ", "_") for what in names.values()]
    header = ["tasks", "support", "query", component.measure, "deviation", *columns]
    return Outcome(arrays, result, arrays, texts={"cells.csv": csv_text([header, *rows])})


def _tried(
    component: Learner, source: TaskSource, options: EvaluateOptions, seeds: Sequence[int]
) -> tuple[Sequence[Plannable], list[Losses]]:
    """The allocations, and what came of them for each seed."""
    if not options.mixtures:
        cells = SOME if options.cells is None else [_cell(each) for each in options.cells]
        return cells, component.evaluate_seeds(source, cells, seeds)
    mixtures = [{name: _cell(each) for name, each in mixture.items()} for mixture in options.mixtures]
    return mixtures, component.evaluate_mixtures(source, mixtures, seeds)


def _cell(config: AllocationCellConfig) -> AllocationCell:
    return AllocationCell(config.tasks, config.support, config.query)


def _named(plan: Plannable) -> str:
    if isinstance(plan, AllocationCell):
        return f"{plan.tasks} tasks of {plan.support} + {plan.query}"
    return ", ".join(f"{cell.tasks} {name} tasks of {cell.support} + {cell.query}" for name, cell in plan.items())


def _columns(plan: Plannable) -> Sequence[int | str]:
    """Tasks, support and query labels; of a mixture as "333 easy + 333 hard"."""
    if isinstance(plan, AllocationCell):
        return plan
    return [
        " + ".join(f"{cell[place]} {name}" for name, cell in plan.items())
        for place in range(len(AllocationCell._fields))
    ]


def _facts(plan: Plannable) -> dict[str, Any]:
    return plan._asdict() if isinstance(plan, AllocationCell) else {name: cell._asdict() for name, cell in plan.items()}


def _not_finite(arrays: Mapping[str, torch.Tensor], plans: Sequence[Plannable], measure: str) -> list[str]:
    """Mask of the numbers of allocations that are not finite. Raises ``TrainingError`` where no allocation can be the
    best.
    """
    warnings = []
    for name, what in (("test", f"test {measure}"), ("train", "training loss")):
        wrong = (~arrays[name].isfinite()).sum(0).tolist() if name in arrays else []
        if name == "test" and all(wrong):
            raise TrainingError(
                f"the {what} is not finite for any allocation: {', '.join(map(_named, plans))}",
                hint="lower the learner's rate or learning_rate",
            )
        for plan, count in zip(plans, wrong, strict=bool(wrong)):
            if count:
                warnings.append(f"{_named(plan)}: the {what} of {count} of {len(arrays[name])} seeds is not finite")
    return warnings
