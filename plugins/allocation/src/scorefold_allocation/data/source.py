"""Sources of learning tasks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch

from scorefold.data import Dataset


class TaskSource(ABC):
    """A source of learning tasks."""

    @abstractmethod
    def tasks(
        self, m: int, support: int, query: int, generator: torch.Generator, split: str = "train"
    ) -> Iterator[tuple[Dataset, Dataset]]:
        """m tasks, each a support set and a query set of the sizes asked for, from the tasks of a split."""
