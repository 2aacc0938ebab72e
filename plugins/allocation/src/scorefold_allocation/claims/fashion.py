"""Labels per class on few-shot tasks of Fashion-MNIST, by MAML with a small convolutional network. Functions of claims
take a host, a profile and a seed, and answer None where the data set is not installed.

A class is a kind of clothes in one of four positions, and a task has five. Six kinds give 24 training classes, and the
other four give 16 classes of new tasks. The pilot sees no image of these four kinds: its new tasks are of two of the
six. An allocation is a budget and the labels of a class of a task, half support and half query. Its plans:

- uniform: as many tasks as the budget pays for, with the fewest labels, one support and one query label of a class;
- all-in-one: one task, with all labels;
- pilot: the plan of ``allocator:meta`` by a pilot with fewer labels than any budget;
- best: the most accurate of these and of the other ``SIZES``, by the measurement itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

from scorefold.interfaces import DataSource
from scorefold.seeds import derive_generator, derive_seed
from scorefold_allocation.learners.interface import AllocationCell
from scorefold_toolkit.data.images import fashion_mnist

WAYS, SEEDS = 5, 3
BUDGETS = (4000, 8000, 16000)
SIZES = (2, 4, 8, 16, 32, 64)
"""Labels per class of the sweep, besides all in one task."""
KINDS: Mapping[str, Mapping[str, Any]] = {
    "new": {"train": [0, 1, 2, 3, 4, 5], "test": [6, 7, 8, 9]},
    "pilot": {"train": [0, 1, 2, 3], "test": [4, 5]},
}
LEARNER: Mapping[str, Any] = {  # its rates and updates were chosen on the pilot's kinds
    "network": {"name": "conv", "channels": 8, "blocks": 3},
    "updates": 120,
    "learning_rate": 3e-3,
    "tasks_per_update": 8,
    "labels_per_update": 10 * WAYS,
    "measure": "accuracy",
    "validation": {"tasks": 0},
    "new_tasks": {"tasks": 100, "support": 5 * WAYS, "query": 15 * WAYS},
}
"""New tasks have five support labels per class and fifteen to be measured on."""
LEARNERS: Mapping[str, Mapping[str, Any]] = {
    "maml": {**LEARNER, "rate": 0.1, "new_tasks": {**LEARNER["new_tasks"], "steps": 5}},
    "prototypes": LEARNER,
}
PILOT = {"labels": 2000, "sizes": 6, "seeds": 3}
LEARNED = 2.0
"""Points above the untrained network that count as training."""


def fashion_accuracy(
    host: Any, profile: str, seed: int, *, budget: int, size: int, learner: str = "maml"
) -> float | None:
    """The mean accuracy over trainings on new tasks, in per cent; of an untrained network for a size of 0."""
    source = _source(host, "new")
    return None if source is None else mean(_values(host, source, seed, budget if size else 0, size, learner))


def pilot_size(host: Any, profile: str, seed: int, *, budget: int) -> float | None:
    """The labels per class that the pilot plans for a budget; 0 where it refuses, so that nothing is bought."""
    source = _source(host, "pilot")
    return None if source is None else float(_planned(host, source, seed)[budget])


def plan_lead(host: Any, profile: str, seed: int, *, budget: int, over: str) -> float | None:
    """The accuracy of the pilot's plan less the accuracy of another plan, in points.

    The best plan counts as ``LEARNED`` points above an untrained network at least: where nothing is learned, any plan
    is as good as the best.
    """
    size, one = pilot_size(host, profile, seed, budget=budget), budget // WAYS
    if size is None:
        return None
    sizes = {"uniform": SIZES[:1], "all-in-one": (one,), "best": (*SIZES, one, int(size))}[over]
    own, *others = (
        fashion_accuracy(host, profile, seed, budget=budget, size=each) or 0.0 for each in (int(size), *sizes)
    )
    if over == "best":
        others.append((fashion_accuracy(host, profile, seed, budget=budget, size=0) or 0.0) + LEARNED)
    return own - max(others)


@cache
def _source(host: Any, kinds: str) -> DataSource | None:
    images = fashion_mnist(host)
    if images is None:
        return None
    made: DataSource = host.create("data:few-shot", {**KINDS[kinds], "ways": WAYS, "turned": True}, data=images)
    return made


@cache
def _planned(host: Any, source: DataSource, seed: int) -> dict[int, int]:
    """The labels per class that one pilot plans for each budget."""
    config = {"task_types": [{"ways": WAYS}], "pilot": PILOT}
    allocator = host.create("allocator:meta", config, tasks=source, learner=_learner(host, "maml"))
    planned = {}
    with TemporaryDirectory() as folder:
        allocator.keep_in(Path(folder))
        for budget in BUDGETS:
            plan = allocator.allocate(budget, generator=derive_generator(seed, "pilot"))
            print(plan.text(), flush=True)
            planned[budget] = round(plan.diagnostics.get("n", 0.0) / WAYS)
    return planned


def _learner(host: Any, name: str, **settings: Any) -> Any:
    return host.create(f"learner:{name}", {**LEARNERS[name], **settings})


@cache
def _values(host: Any, source: DataSource, seed: int, budget: int, size: int, name: str) -> tuple[float, ...]:
    """Results of the trainings of an allocation; without labels they make no update."""
    labels = WAYS * (size or SIZES[0])
    cell = AllocationCell(max(1, budget // labels), labels // 2, labels - labels // 2)
    learner = _learner(host, name) if size else _learner(host, name, updates=0)
    seeds = [derive_seed(seed, "fashion", number) for number in range(SEEDS)]
    return tuple(100 * float(losses.test[0]) for losses in learner.evaluate_seeds(source, [cell], seeds))
