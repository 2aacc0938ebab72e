"""The verb of the kind ``learner``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from scorefold.artefacts import csv_text
from scorefold.errors import TrainingError
from scorefold.seeds import derive_seed
from scorefold.stage import Outcome, StageContext
from scorefold_allocation.config.learners import EvaluateOptions
from scorefold_allocation.learners.interface import Cell, Learner


def evaluate(component: Learner, inputs: Mapping[str, Any], options: EvaluateOptions, context: StageContext) -> Outcome:
    """Try allocations of labels, each from several seeds: the mean of the measure on new tasks, and its spread.

    Hands on ``{"test": (seeds, cells)}``, and where the learner gives them "train" and "updates", in float64. An
    allocation with a number that is not finite is warned of, and is not the best. Raises as the learner does, and
    ``TrainingError`` where none is left.
    """
    cells = [Cell(cell.tasks, cell.support, cell.query) for cell in options.cells]
    root = context.seed("evaluate")
    found = component.evaluate_seeds(inputs["data"], cells, [derive_seed(root, seed) for seed in range(options.seeds)])
    arrays = {"test": torch.stack([losses.test for losses in found])}
    for name in ("train", "updates"):
        given = [part for losses in found if (part := getattr(losses, name)) is not None]
        if len(given) == len(found):
            arrays[name] = torch.stack(given)
    warnings = _not_finite(arrays, cells, component.measure)
    metrics: dict[str, float] = {}
    rows = []
    for number, cell in enumerate(cells):
        values = arrays["test"][:, number]
        spread = float(values.std()) if len(values) > 1 else None
        row = [*cell, float(values.mean()), spread]
        measured = {f"test {component.measure}": row[3], "its deviation over seeds": spread}
        if "train" in arrays:
            row.append(float(arrays["train"][:, number].mean()))
            measured["training loss"] = row[-1]
        if "updates" in arrays:
            row.append(float(arrays["updates"][:, number].mean()))
            measured["updates"] = row[-1]
        for what, value in measured.items():
            if value is not None and math.isfinite(value):
                metrics[f"{what}, {_named(cell)}"] = value
        rows.append(row)
    means = arrays["test"].mean(0)
    worst = torch.inf if component.measure == "loss" else -torch.inf
    ranked = torch.where(means.isfinite(), means, worst)
    best = int(ranked.argmin() if component.measure == "loss" else ranked.argmax())
    answer = {"quantity": f"test {component.measure} of the best allocation", "value": float(means[best])}
    result = {"metrics": metrics, "best": dict(cells[best]._asdict()), "answer": answer, "warnings": warnings}
    columns = [name for array, name in (("train", "training_loss"), ("updates", "updates")) if array in arrays]
    header = ["tasks", "support", "query", component.measure, "deviation", *columns]
    return Outcome(arrays, result, arrays, texts={"cells.csv": csv_text([header, *rows])})


def _named(cell: Cell) -> str:
    return f"{cell.tasks} tasks of {cell.support} + {cell.query}"


def _not_finite(arrays: Mapping[str, torch.Tensor], cells: list[Cell], measure: str) -> list[str]:
    """Which numbers of allocations are not finite. Raises ``TrainingError`` where no allocation can be the best."""
    warnings = []
    for name, what in (("test", f"test {measure}"), ("train", "training loss")):
        wrong = (~arrays[name].isfinite()).sum(0).tolist() if name in arrays else []
        if name == "test" and all(wrong):
            raise TrainingError(
                f"the {what} is not finite for any allocation: {', '.join(map(_named, cells))}",
                hint="lower the learner's rate or learning_rate",
            )
        for cell, count in zip(cells, wrong, strict=bool(wrong)):
            if count:
                warnings.append(f"{_named(cell)}: the {what} of {count} of {len(arrays[name])} seeds is not finite")
    return warnings
