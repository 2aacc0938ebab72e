"""One-step MAML on linear regression, solved exactly."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from scorefold.errors import ConfigError
from scorefold_allocation.data.batch import TaskBatch, TaskSource
from scorefold_allocation.learners.config import LinearLearnerConfig
from scorefold_allocation.learners.interface import AllocationCell, Learner, Losses
from scorefold_allocation.learners.trainer import adaptation_labels, tasks_of
from scorefold_allocation.theory.linear_model import meta_solution, outer_rows


class LinearMAML(Learner):
    """The weights where gradient flow from 0 on one-step MAML's loss ends, by least squares in float64.

    Losses are half the mean squared error, as in the theory (Bernacchia, "Meta-learning with negative learning rates",
    ICLR 2021): ``Losses.train`` is that on the training tasks' query sets after the inner step, 0 where there are fewer
    query labels than weights. Events of any shape are flattened. Raises ``ConfigError`` for tasks with classes.

    >>> from scorefold_allocation.learners.interface import AllocationCell
    >>> from scorefold_registry import Host
    >>> host = Host.discover()
    >>> tasks, learner = host.create("data:linear-tasks", {"dimension": 3}), host.create("learner:linear")
    >>> losses = learner.evaluate(tasks, [AllocationCell(10, 5, 5), AllocationCell(200, 5, 5)], seed=0)
    >>> bool(losses.test[1] < losses.test[0])  # more tasks, a smaller loss on new ones
    True
    """

    def __init__(self, config: LinearLearnerConfig, *, generator: torch.Generator | None = None) -> None:
        self.config = config

    def evaluate(self, source: TaskSource, cells: Sequence[AllocationCell], seed: int) -> Losses:
        found = [self._one(source, cell, seed) for cell in cells]
        test, training = zip(*found, strict=True)
        return Losses(torch.stack(test), torch.stack(training))

    def solution(self, source: TaskSource, cell: AllocationCell, seed: int) -> Tensor:
        """The meta-trained weights (p,) in float64."""
        return self._solve(*self._tensors(tasks_of(source, "train", *cell, [seed])[0]), cell.support)

    def _one(self, source: TaskSource, cell: AllocationCell, seed: int) -> tuple[Tensor, Tensor]:
        new = self.config.new_tasks
        x, y = self._tensors(tasks_of(source, "train", *cell, [seed])[0])
        weights = self._solve(x, y, cell.support)
        support = adaptation_labels(new, cell)
        fresh = self._tensors(tasks_of(source, "test", new.tasks, support, new.query, [seed])[0])
        steps = 1 if new.steps is None else new.steps
        rate = self.config.rate if new.rate is None else new.rate
        return _loss(weights, *fresh, support, steps, rate), _loss(weights, x, y, cell.support, 1, self.config.rate)

    def _solve(self, x: Tensor, y: Tensor, support: int) -> Tensor:
        rows = [
            outer_rows(X[:support], t[:support], X[support:], t[support:], self.config.rate)
            for X, t in zip(x, y, strict=True)
        ]
        return meta_solution(rows, x.new_zeros(x.shape[-1]))

    def _tensors(self, batch: TaskBatch) -> tuple[Tensor, Tensor]:
        """Inputs (m, n, p) and targets (m, n) in float64."""
        if batch.classifies:
            raise ConfigError(
                "learner:linear predicts numbers; these tasks have classes",
                hint="use learner:maml, or a source of numbers such as data:linear-tasks",
            )
        x, y = batch.tensors()
        return x.double().flatten(2), y.double()


def _loss(weights: Tensor, x: Tensor, y: Tensor, support: int, steps: int, rate: float) -> Tensor:
    """Half the mean squared error on query sets after some steps on support sets; x (m, n, p), y (m, n)."""
    own = weights.expand(len(x), 1, -1).mT
    inputs, targets = x[:, :support], y[:, :support, None]
    for _ in range(steps):
        own = own - rate / support * inputs.mT @ (inputs @ own - targets)
    return (x[:, support:] @ own - y[:, support:, None]).square().mean() / 2
