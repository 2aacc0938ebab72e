"""A learner that trains for a moment, one that trains on nothing, and the tasks and the cell they are tried on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from scorefold_allocation.data.batch import TaskSource
from scorefold_allocation.learners.config import MAMLConfig
from scorefold_allocation.learners.interface import AllocationCell, Learner, Losses
from scorefold_allocation.learners.methods import EpisodicLearner

FEW = {"tasks": 6, "support": 5, "query": 10}
CELL = AllocationCell(4, 5, 5)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def maml(**settings: Any) -> EpisodicLearner:
    return EpisodicLearner(MAMLConfig(**{"updates": 10, "new_tasks": FEW, **settings}))


class Fixed(Learner):
    """Losses by the size of a cell and the seed's parity."""

    def __init__(self, worst: float = 3.0) -> None:
        self.worst = worst

    def evaluate(self, source: TaskSource, cells: Sequence[AllocationCell], seed: int) -> Losses:
        test = torch.tensor([min(float(cell.size), self.worst) for cell in cells], dtype=torch.float64)
        return Losses(test, 2 * test)
