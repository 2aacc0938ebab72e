"""A whole trial beside the same written out task by task: what is drawn, trained, kept and tested, in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from scorefold.seeds import derive_generator
from scorefold_allocation.data.batch import TaskBatch
from scorefold_allocation.data.classes import DigitRotations
from scorefold_allocation.data.config import DigitRotationsConfig
from scorefold_allocation.learners.config import ANILConfig, MAMLConfig, PrototypesConfig
from scorefold_allocation.learners.interface import AllocationCell
from scorefold_allocation.learners.methods import EpisodicLearner
from scorefold_allocation.learners.networks import StackedMLP
from scorefold_allocation.learners.trainer import tasks_of

WAYS, NEW, HELD, UPDATES, EVERY = 5, 7, 6, 7, 3
SETTINGS: dict[str, Any] = {
    "updates": UPDATES,
    "dtype": "float64",
    "learning_rate": 0.02,
    "tasks_per_update": 3,
    "network": {"name": "mlp", "widths": (12,)},
    "validation": {"tasks": HELD, "every": EVERY},
}
TESTED = {"tasks": NEW, "support": 10, "query": 15}
GRADIENT = {"steps": 2, "rate": 0.1, "new_tasks": {**TESTED, "steps": 3, "rate": 0.05}}
Task = tuple[Tensor, Tensor, Tensor, Tensor]


def network(w: list[Tensor], x: Tensor) -> Tensor:
    return (x @ w[0] + w[1]).relu() @ w[2] + w[3]


def by_steps(w: list[Tensor], task: Task, steps: int, rate: float, first: int, order: int) -> Tensor:
    """The query loss of a task after steps of the weights from the one numbered ``first``."""
    x, y, query, target = task
    for _ in range(steps):
        slopes = torch.autograd.grad(cross_entropy(network(w, x), y), w[first:], create_graph=True)
        moved = [a - rate * (s if order == 2 else s.detach()) for a, s in zip(w[first:], slopes, strict=True)]
        w = [*w[:first], *moved]
    return cross_entropy(network(w, query), target)


def by_prototypes(w: list[Tensor], task: Task) -> Tensor:
    x, y, query, target = task
    there = sorted(set(y.tolist()))
    centres = torch.stack([network(w, x[y == number]).mean(0) for number in there])
    known = torch.isin(target, torch.tensor(there))
    logits = torch.full((len(query), WAYS), -torch.inf, dtype=x.dtype)
    logits[:, there] = -(network(w, query)[:, None] - centres).square().sum(2)
    return cross_entropy(logits[known], target[known]) if bool(known.any()) else logits.new_zeros(())


CASES = [
    (EpisodicLearner(MAMLConfig(**SETTINGS, **GRADIENT)), (0, 2)),
    (EpisodicLearner(MAMLConfig(**SETTINGS, **GRADIENT, order="first")), (0, 1)),
    (EpisodicLearner(ANILConfig(**SETTINGS, **GRADIENT)), (2, 2)),
    (EpisodicLearner(PrototypesConfig(**SETTINGS, dimension=WAYS, measure="loss", new_tasks=TESTED)), None),
]


@pytest.mark.parametrize(("learner", "kind"), CASES, ids=["maml", "first-order", "anil", "prototypes"])
def test_a_trial_is_what_it_is_task_by_task(learner: EpisodicLearner, kind: tuple[int, int] | None) -> None:
    source, cell, seed = DigitRotations(DigitRotationsConfig()), AllocationCell(5, 5, 6), 3

    def loss(w: list[Tensor], task: Task, steps: int, rate: float) -> Tensor:
        return by_prototypes(w, task) if kind is None else by_steps(w, task, steps, rate, *kind)

    def mean(w: list[Tensor], batch: TaskBatch, support: int, steps: int, rate: float) -> float:
        w = [a.detach().requires_grad_() for a in w]
        each = [loss(w, _task(batch, i, torch.arange(batch.size), support), steps, rate) for i in range(len(batch))]
        return float(torch.stack(each).detach().mean())

    trained = tasks_of(source, "train", *cell, [seed])[0]
    held, new = (tasks_of(source, split, m, 10, 15, [seed])[0] for split, m in (("validation", HELD), ("test", NEW)))
    weights = [w.requires_grad_() for w in StackedMLP((64, 12, WAYS)).start(derive_generator(seed, "weights"))]
    optimiser, generator = torch.optim.Adam(weights, lr=0.02), derive_generator(seed, "updates", 0)
    kept: list[tuple[float, list[Tensor]]] = []
    for update in range(1, UPDATES + 1):
        chosen = torch.randperm(cell.tasks, generator=generator)[:3].tolist()
        orders = torch.rand(3, cell.size, generator=generator).argsort(1)
        tasks = [_task(trained, i, order, cell.support) for i, order in zip(chosen, orders, strict=True)]
        optimiser.zero_grad()
        torch.stack([loss(weights, task, 2, 0.1) for task in tasks]).mean().backward()
        optimiser.step()
        if update % EVERY == 0 or update == UPDATES:
            kept.append((mean(weights, held, 10, 3, 0.05), [w.detach().clone() for w in weights]))
    best = min(kept, key=lambda entry: entry[0])[1]
    found = learner.evaluate(source, [cell], seed)
    assert found.train is not None
    assert float(found.test[0]) == pytest.approx(mean(best, new, 10, 3, 0.05), rel=1e-9)
    assert float(found.train[0]) == pytest.approx(mean(weights, trained, cell.support, 2, 0.1), rel=1e-7, abs=1e-9)


def _task(batch: TaskBatch, number: int, order: Tensor, support: int) -> Task:
    x, y = (part[number] for part in batch.tensors())
    x, y = x[order].double(), y[order]
    return x[:support], y[:support], x[support:], y[support:]
