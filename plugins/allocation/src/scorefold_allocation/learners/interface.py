"""The interface of the kind ``learner``: what trains on an allocation of labels and reports how well that went."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from scorefold.errors import ConfigError
from scorefold.interfaces import Shown
from scorefold_allocation.data.batch import TaskSource


class AllocationCell(NamedTuple):
    """An allocation to try: so many training tasks, each with so many support and query labels of all classes."""

    tasks: int
    support: int
    query: int

    @property
    def size(self) -> int:
        """n, the labels of a task."""
        return self.support + self.query


@dataclass(frozen=True)
class Losses:
    """Results per cell, in float64: ``test`` (cells,), the ``measure`` on new tasks, and ``train`` (cells,), the
    training loss at the end, or None where there is none; ``updates`` (cells,) where trainings may end early, else
    None; ``alone``, ``test`` on new tasks of single types, by name. Training that diverges gives nan or inf in its
    cell.
    """

    test: Tensor
    train: Tensor | None = None
    updates: Tensor | None = None
    alone: Mapping[str, Tensor] = field(default_factory=dict)


class Learner(Shown, ABC):
    """A meta-learner that can be trained on any number of tasks.

    Must: ``evaluate``. Given: ``evaluate_seeds``, which a learner that trains several seeds at once overrides, and
    ``evaluate_mixtures``, which refuses.
    ``measure`` says whether ``Losses.test`` is a loss, 0 or more, of which less is better, or an accuracy in [0, 1].
    """

    measure: Literal["loss", "accuracy"] = "loss"
    device: torch.device = torch.device("cpu")
    """Device of the trainings. Trials are shared out to workers on the CPU alone."""

    @abstractmethod
    def evaluate(self, source: TaskSource, cells: Sequence[AllocationCell], seed: int) -> Losses:
        """Train on each cell from scratch, on tasks of the split ``train``, and test on tasks of the split ``test``.

        Random numbers are common to the cells of a seed. A larger cell includes the tasks and labels of a smaller cell,
        wherever the source supports it. All cells are tested on the same tasks. Another seed has other training tasks
        and other new tasks, so that the spread over seeds covers the whole experiment.
        """

    def evaluate_seeds(self, source: TaskSource, cells: Sequence[AllocationCell], seeds: Sequence[int]) -> list[Losses]:
        """``evaluate`` for several seeds."""
        return [self.evaluate(source, cells, seed) for seed in seeds]

    def evaluate_mixtures(
        self, source: TaskSource, mixtures: Sequence[Mapping[str, AllocationCell]], seeds: Sequence[int]
    ) -> list[Losses]:
        """``evaluate_seeds`` for mixtures: a cell for each of some types of the source, all tasks weighing alike.

        Raises ``ConfigError`` for a learner that trains on tasks of one size alone.
        """
        raise ConfigError(
            f"{type(self).__name__} trains on tasks of one size, and was given sizes by type of task",
            hint="name allocations as 'cells', or take learner:maml, learner:anil or learner:prototypes",
        )
