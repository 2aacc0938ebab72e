"""The verb of the kind ``learner``."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

import torch

from scorefold.errors import TrainingError
from scorefold.seeds import derive_seed
from scorefold.stage import Outcome, StageContext
from scorefold_allocation.learner import Cell, Learner
from scorefold_allocation.learner_config import EvaluateOptions


def evaluate(component: Learner, inputs: Mapping[str, Any], options: EvaluateOptions, context: StageContext) -> Outcome:
    """Try allocations of labels, each from several seeds: the mean of the measure on new tasks, and its spread.

    Hands on ``{"test": (seeds, cells), "train": the same, where there is one}`` in float64. Raises as the learner does,
    and ``TrainingError`` for numbers that are not finite.
    """
    cells = [Cell(cell.tasks, cell.support, cell.query) for cell in options.cells]
    root = context.seed("evaluate")
    found = component.evaluate_seeds(inputs["data"], cells, [derive_seed(root, seed) for seed in range(options.seeds)])
    arrays = {"test": torch.stack([losses.test for losses in found])}
    trained = [losses.train for losses in found if losses.train is not None]
    if len(trained) == len(found):
        arrays["train"] = torch.stack(trained)
    _refuse_infinite(arrays, cells)
    metrics: dict[str, Any] = {}
    rows = []
    for number, cell in enumerate(cells):
        values = arrays["test"][:, number]
        spread = float(values.std()) if len(values) > 1 else None
        row = [*cell, float(values.mean()), spread]
        name = f"{cell.tasks} tasks of {cell.support} + {cell.query}"
        metrics[f"test {component.measure}, {name}"] = row[3]
        if spread is not None:
            metrics[f"its deviation over seeds, {name}"] = spread
        if "train" in arrays:
            row.append(float(arrays["train"][:, number].mean()))
            metrics[f"training loss, {name}"] = row[-1]
        rows.append(row)
    means = arrays["test"].mean(0)
    best = int(means.argmin() if component.measure == "loss" else means.argmax())
    answer = {"quantity": f"test {component.measure} of the best allocation", "value": float(means[best])}
    result = {"metrics": metrics, "best": dict(cells[best]._asdict()), "answer": answer}
    header = ["tasks", "support", "query", component.measure, "deviation", *(["training_loss"] * ("train" in arrays))]
    return Outcome(arrays, result, arrays, texts={"cells.csv": _table(header, rows)})


def _refuse_infinite(arrays: Mapping[str, torch.Tensor], cells: list[Cell]) -> None:
    for name, values in arrays.items():
        wrong = (~values.isfinite()).any(0)
        if bool(wrong.any()):
            cell = cells[int(wrong.nonzero()[0])]
            raise TrainingError(
                f"the {name} loss of {cell.tasks} tasks of {cell.support} + {cell.query} labels is not finite",
                hint="lower the inner rate or the learning rate",
            )


def _table(header: list[str], rows: list[list[Any]]) -> str:
    told = io.StringIO()
    writer = csv.writer(told, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return told.getvalue()
