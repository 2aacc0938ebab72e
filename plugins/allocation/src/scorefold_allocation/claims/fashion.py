"""Labels per class on few-shot tasks of Fashion-MNIST by prototypes. Functions of claims take a host, a profile and a
seed, and answer None where the data set is not installed.

Tasks of four classes: training tasks of six, new tasks of the other four. Easy and hard tasks have two: of a hard one
both are tops, of an easy one they look unlike. An allocation is a budget and the labels of a class of a task, half
support and half query.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from statistics import mean
from typing import Any

from scorefold.interfaces import DataSource
from scorefold.seeds import derive_generator, derive_seed
from scorefold_allocation.learners.interface import AllocationCell
from scorefold_toolkit.data.images import fashion_mnist

SEEDS = 3
SIZES = (2, 4, 8, 16, 32, 64)
CLASSES: Mapping[str, Mapping[str, Any]] = {
    "any": {"ways": 4, "train": [0, 1, 2, 3, 4, 5], "test": [6, 7, 8, 9]},
    "easy": {"ways": 2, "train": [0, 1, 7], "test": [3, 8, 9]},
    "hard": {"ways": 2, "train": [0, 2, 3], "test": [4, 6]},
}
LEARNER: Mapping[str, Any] = {
    "network": {"name": "mlp", "widths": [64]},
    "updates": 300,
    "measure": "accuracy",
    "validation": {"tasks": 0},
}
"""New tasks have five support labels a class and fifteen to be measured on."""
PILOT = {"labels": 400, "sizes": 6, "seeds": 3}


def fashion_accuracy(host: Any, profile: str, seed: int, *, budget: int, size: int, tasks: str = "any") -> float | None:
    """The mean accuracy over trainings on new tasks, in per cent."""
    source = _source(host, tasks)
    return None if source is None else mean(_values(host, source, tasks, seed, budget, size, LEARNER["updates"]))


def untrained_accuracy(host: Any, profile: str, seed: int, *, tasks: str = "any") -> float | None:
    """The same of embeddings that were not trained."""
    source = _source(host, tasks)
    return None if source is None else mean(_values(host, source, tasks, seed, 16, SIZES[0], 0))


def pilot_size(host: Any, profile: str, seed: int, *, budget: int) -> float | None:
    """The labels a class that ``allocator:meta`` plans for a budget, from a pilot of its own; 0 where it refuses."""
    source = _source(host, "any")
    if source is None:
        return None
    config = {"task_types": [{"ways": CLASSES["any"]["ways"]}], "pilot": PILOT}
    allocator = host.create("allocator:meta", config, tasks=source, learner=_learner(host, "any", LEARNER["updates"]))
    plan = allocator.allocate(budget, generator=derive_generator(seed, "pilot"))
    print(plan.text(), flush=True)
    size: float = plan.diagnostics.get("n", 0.0) / CLASSES["any"]["ways"]
    return size


def fashion_best(host: Any, profile: str, seed: int, *, budget: int, tasks: str = "any") -> float | None:
    """The labels a class with the best mean."""
    found = _rows(host, profile, seed, budget, tasks)
    return None if found is None else float(SIZES[found.index(max(found))])


def fashion_edge(host: Any, profile: str, seed: int, *, budget: int, tasks: str = "any") -> float | None:
    """The gap between the best accuracy and the accuracy with the fewest tasks, in per cent."""
    found = _rows(host, profile, seed, budget, tasks)
    return None if found is None else max(found) - found[-1]


def _rows(host: Any, profile: str, seed: int, budget: int, tasks: str) -> list[float] | None:
    found = [fashion_accuracy(host, profile, seed, budget=budget, size=size, tasks=tasks) for size in SIZES]
    return None if None in found else [value for value in found if value is not None]


@cache
def _source(host: Any, tasks: str) -> DataSource | None:
    images = fashion_mnist(host)
    if images is None:
        return None
    made: DataSource = host.create("data:few-shot", {**CLASSES[tasks], "validation": []}, data=images)
    return made


def _learner(host: Any, tasks: str, updates: int) -> Any:
    ways = CLASSES[tasks]["ways"]
    new = {"tasks": 200, "support": 5 * ways, "query": 15 * ways}
    return host.create("learner:prototypes", {**LEARNER, "updates": updates, "new_tasks": new})


@cache
def _values(
    host: Any, source: DataSource, tasks: str, seed: int, budget: int, size: int, updates: int
) -> tuple[float, ...]:
    """Results of the trainings of an allocation."""
    labels = size * CLASSES[tasks]["ways"]
    cell = AllocationCell(max(1, round(budget / labels)), labels // 2, labels // 2)
    seeds = [derive_seed(seed, "fashion", number) for number in range(SEEDS)]
    found = _learner(host, tasks, updates).evaluate_seeds(source, [cell], seeds)
    return tuple(100 * float(losses.test[0]) for losses in found)
