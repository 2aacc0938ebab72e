"""Claims of learners that are trained on tables of allocations. Functions of claims take a host, a profile and a seed.

An allocation is a budget and the labels of a task, or of a class of it: as many tasks as come nearest to the budget,
half support and half query.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from statistics import mean, stdev
from typing import Any

import torch

from scorefold.seeds import derive_generator, derive_seed
from scorefold_allocation.learners.interface import AllocationCell

SEEDS = {"quick": 3, "long": 5}
MORE = {"quick": 1.0, "long": 2.5}
"""Factor of the number of updates."""
_DRAWS = 1000


@dataclass(frozen=True)
class AllocationTable:
    """A source and a learner, and the sizes that are tried for each budget.

    ``ways`` are the classes of a task, whose size then counts the labels of one of them.
    """

    source: str
    learner: Mapping[str, Any]
    sizes: Mapping[int, Sequence[int]]
    config: Mapping[str, Any] = field(default_factory=dict)
    ways: int = 1


_SINUSOIDS: Mapping[str, Any] = {
    "updates": 2000,
    "tasks_per_update": None,
    "new_tasks": {"tasks": 200, "support": 500, "query": 500},
}
_DIGITS: Mapping[str, Any] = {
    "network": {"name": "mlp", "widths": [64, 64]},
    "updates": 1000,
    "rate": 0.1,
    "measure": "accuracy",
    "new_tasks": {"tasks": 200, "support": 25, "query": 75, "steps": 5},
    "validation": {"tasks": 0},
}
_CLASSES: Mapping[str, Any] = {"train": [0, 1, 2, 3, 4, 5], "validation": []}
_FEW, _SOME = (2, 4, 8, 16, 32, 64), (2, 4, 8, 16, 32)
SINUSOID_SIZES: Mapping[int, Sequence[int]] = {
    200: (4, 10, 20, 50, 100, 200),
    1000: (4, 10, 20, 50, 100, 200, 500),
    4000: (20, 50, 100, 200, 500, 1000),
}
TABLES = {
    "sinusoid": AllocationTable("data:sinusoid-tasks", _SINUSOIDS, SINUSOID_SIZES),
    "sinusoid-tied": AllocationTable(
        "data:sinusoid-tasks",
        {**_SINUSOIDS, "new_tasks": {**_SINUSOIDS["new_tasks"], "support": "tied"}},
        SINUSOID_SIZES,
    ),
    "sinusoid-large": AllocationTable("data:sinusoid-tasks", _SINUSOIDS, {20_000: (50, 100, 200, 500, 1000)}),
    "digits": AllocationTable("data:digit-rotations", _DIGITS, {400: _FEW, 2000: _FEW, 8000: _SOME}, _CLASSES, ways=5),
    "digits-noisy": AllocationTable(
        "data:digit-rotations", _DIGITS, {2000: _FEW}, {**_CLASSES, "types": [{"label_noise": 0.3}]}, ways=5
    ),
}
EASY, HARD = {"name": "easy"}, {"name": "hard", "label_noise": 0.3}
MIXED_TASKS, BOTH = 40, 12
"""Easy tasks, as many hard ones, and the labels that a class of an easy and one of a hard task have together."""


def table_row(host: Any, profile: str, seed: int, *, table: str, budget: int, size: int) -> float:
    """The mean over trainings of the loss on new tasks, or of the accuracy in per cent."""
    return mean(_values(host, profile, seed, table, budget, size))


def best_of_table(host: Any, profile: str, seed: int, *, table: str, budget: int) -> float:
    """The size with the best mean."""
    return float(_best(table, budget, _rows(host, profile, seed, table, budget)))


def edge_of_table(host: Any, profile: str, seed: int, *, table: str, budget: int) -> float:
    """Disadvantage of the fewest tasks: the ratio of the losses, or the difference of the accuracies."""
    found = _rows(host, profile, seed, table, budget)
    return max(found) - found[-1] if _is_accuracy(table) else found[-1] / min(found)


def trained_exponent(host: Any, profile: str, seed: int, *, table: str) -> float:
    """gamma of the best size ~ b^gamma, by least squares through the budgets of a table."""
    return _slope({b: best_of_table(host, profile, seed, table=table, budget=b) for b in TABLES[table].sizes})


def exponent_error(host: Any, profile: str, seed: int, *, table: str) -> float:
    """The deviation of gamma where the best size of each budget is read off one training of every size, drawn anew."""
    generator, slopes = derive_generator(seed, table), []
    for _ in range(_DRAWS):
        found = {}
        for budget in TABLES[table].sizes:
            rows = [_values(host, profile, seed, table, budget, size) for size in _sizes(table, budget)]
            one = [values[int(torch.randint(len(values), (), generator=generator))] for values in rows]
            found[budget] = float(_best(table, budget, one))
        slopes.append(_slope(found))
    return stdev(slopes)


def easy_hard(host: Any, profile: str, seed: int, *, easy: int) -> float:
    """The accuracy in per cent on new easy and hard digits, where easy training tasks have ``easy`` labels a class."""
    source = host.create("data:digit-rotations", {**_CLASSES, "types": [EASY, HARD]})
    mixture = {
        kind["name"]: AllocationCell(MIXED_TASKS, 5 * labels // 2, 5 * labels // 2)
        for kind, labels in ((EASY, easy), (HARD, BOTH - easy))
    }
    learner = host.create("learner:maml", _longer(_DIGITS, profile))
    found = learner.evaluate_mixtures(source, [mixture], _seeds(profile, seed, "easy-hard"))
    return 100 * mean(float(losses.test[0]) for losses in found)


def _rows(host: Any, profile: str, seed: int, table: str, budget: int) -> list[float]:
    return [table_row(host, profile, seed, table=table, budget=budget, size=size) for size in _sizes(table, budget)]


@cache
def _values(host: Any, profile: str, seed: int, table: str, budget: int, size: int) -> tuple[float, ...]:
    """Results of the trainings of an allocation."""
    study = TABLES[table]
    labels = size * study.ways
    cell = AllocationCell(max(1, round(budget / labels)), labels // 2, labels // 2)
    source = host.create(study.source, study.config)
    learner = host.create("learner:maml", _longer(study.learner, profile))
    found = learner.evaluate_seeds(source, [cell], _seeds(profile, seed, study.source))
    scale = 100 if _is_accuracy(table) else 1
    return tuple(scale * float(losses.test[0]) for losses in found)


def _longer(learner: Mapping[str, Any], profile: str) -> dict[str, Any]:
    return {**learner, "updates": round(MORE[profile] * learner["updates"])}


def _seeds(profile: str, seed: int, name: str) -> list[int]:
    return [derive_seed(seed, name, number) for number in range(SEEDS[profile])]


def _sizes(table: str, budget: int) -> Sequence[int]:
    return TABLES[table].sizes[budget]


def _is_accuracy(table: str) -> bool:
    return TABLES[table].learner.get("measure") == "accuracy"


def _best(table: str, budget: int, values: Sequence[float]) -> int:
    place = max if _is_accuracy(table) else min
    return _sizes(table, budget)[values.index(place(values))]


def _slope(sizes: Mapping[int, float]) -> float:
    x, y = ([math.log(value) for value in column] for column in (sizes, sizes.values()))
    centre = mean(x)
    return sum((a - centre) * b for a, b in zip(x, y, strict=True)) / sum((a - centre) ** 2 for a in x)
