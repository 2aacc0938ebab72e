"""Labels per class on few-shot tasks of Fashion-MNIST by prototypes. Functions of claims take a host, a profile and a
seed, and answer None where the data set is not installed.

Tasks of four classes: training tasks of six, new tasks of the other four. An allocation is a budget and the labels of a
class of a task, half support and half query.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from statistics import mean
from typing import Any

from scorefold.interfaces import DataSource
from scorefold.seeds import derive_seed
from scorefold_allocation.learners.interface import Cell
from scorefold_toolkit.data.published import fashion_mnist

SEEDS, WAYS = 3, 4
SIZES = (2, 4, 8, 16, 32, 64)
CLASSES: Mapping[str, Any] = {"ways": WAYS, "train": [0, 1, 2, 3, 4, 5], "validation": [], "test": [6, 7, 8, 9]}
LEARNER: Mapping[str, Any] = {
    "network": {"name": "mlp", "widths": [64]},
    "updates": 300,
    "measure": "accuracy",
    "new_tasks": {"tasks": 200, "support": 5 * WAYS, "query": 15 * WAYS},
    "validation": {"tasks": 0},
}
"""New tasks have five support labels a class."""


def row(host: Any, profile: str, seed: int, *, budget: int, size: int) -> float | None:
    """The mean accuracy over trainings on new tasks, in per cent."""
    source = _source(host)
    return None if source is None else mean(_values(host, source, seed, budget, size, LEARNER["updates"]))


def untrained(host: Any, profile: str, seed: int) -> float | None:
    """The same of embeddings that were not trained."""
    source = _source(host)
    return None if source is None else mean(_values(host, source, seed, SIZES[0] * WAYS, SIZES[0], 0))


def best(host: Any, profile: str, seed: int, *, budget: int) -> float | None:
    """The labels a class with the best mean."""
    found = _rows(host, profile, seed, budget)
    return None if found is None else float(SIZES[found.index(max(found))])


def edge(host: Any, profile: str, seed: int, *, budget: int) -> float | None:
    """By how much the accuracy of the fewest tasks is below the best, in per cent."""
    found = _rows(host, profile, seed, budget)
    return None if found is None else max(found) - found[-1]


def _rows(host: Any, profile: str, seed: int, budget: int) -> list[float] | None:
    found = [row(host, profile, seed, budget=budget, size=size) for size in SIZES]
    return None if None in found else [value for value in found if value is not None]


@cache
def _source(host: Any) -> DataSource | None:
    images = fashion_mnist(host)
    return None if images is None else host.create("data:few-shot", dict(CLASSES), data=images)


@cache
def _values(host: Any, source: DataSource, seed: int, budget: int, size: int, updates: int) -> tuple[float, ...]:
    """What each training of an allocation came to."""
    labels = size * WAYS
    cell = Cell(max(1, round(budget / labels)), labels // 2, labels // 2)
    learner = host.create("learner:prototypes", {**LEARNER, "updates": updates})
    seeds = [derive_seed(seed, "fashion", number) for number in range(SEEDS)]
    return tuple(100 * float(losses.test[0]) for losses in learner.evaluate_seeds(source, [cell], seeds))
