"""The verb of the kind ``learner``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from scorefold.artefacts import csv_text
from scorefold.errors import TrainingError
from scorefold.seeds import derive_seed
from scorefold.stage import Outcome, StageContext
from scorefold_allocation.config.learners import CellConfig, EvaluateOptions
from scorefold_allocation.data.source import TaskSource
from scorefold_allocation.learners.interface import Cell, Learner, Losses

SOME = [Cell(400 // n, n // 2, n // 2) for n in (10, 20, 40)]
"""The allocations where none are named, of 400 labels each."""

Plan = Cell | Mapping[str, Cell]
"""An allocation: a cell, or one for each of some types of task."""


def evaluate(component: Learner, inputs: Mapping[str, Any], options: EvaluateOptions, context: StageContext) -> Outcome:
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
) -> tuple[Sequence[Plan], list[Losses]]:
    """The allocations, and what came of them for each seed."""
    if not options.mixtures:
        cells = SOME if options.cells is None else [_cell(each) for each in options.cells]
        return cells, component.evaluate_seeds(source, cells, seeds)
    mixtures = [{name: _cell(each) for name, each in mixture.items()} for mixture in options.mixtures]
    return mixtures, component.evaluate_mixtures(source, mixtures, seeds)


def _cell(config: CellConfig) -> Cell:
    return Cell(config.tasks, config.support, config.query)


def _named(plan: Plan) -> str:
    if isinstance(plan, Cell):
        return f"{plan.tasks} tasks of {plan.support} + {plan.query}"
    return ", ".join(f"{cell.tasks} {name} tasks of {cell.support} + {cell.query}" for name, cell in plan.items())


def _columns(plan: Plan) -> Sequence[int | str]:
    """Tasks, support and query labels; of a mixture as "333 easy + 333 hard"."""
    if isinstance(plan, Cell):
        return plan
    return [" + ".join(f"{cell[place]} {name}" for name, cell in plan.items()) for place in range(len(Cell._fields))]


def _facts(plan: Plan) -> dict[str, Any]:
    return plan._asdict() if isinstance(plan, Cell) else {name: cell._asdict() for name, cell in plan.items()}


def _not_finite(arrays: Mapping[str, torch.Tensor], plans: Sequence[Plan], measure: str) -> list[str]:
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
