"""The allocator of labels across the tasks of meta-learning."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from scorefold.interfaces import Allocator, DataSource
from scorefold.results import Allocation
from scorefold.stage import Executor
from scorefold_allocation.config import MetaConfig
from scorefold_allocation.learner import Learner


class MetaAllocator(Allocator):
    """How many tasks, and how many labels of each, by closed form, by simulation, or by trying a learner."""

    def __init__(
        self,
        config: MetaConfig,
        *,
        learner: Learner | None = None,
        tasks: DataSource | None = None,
        executor: Executor | None = None,
    ) -> None:
        self.config = config
        self.learner = learner
        self.tasks = tasks
        self.executor = executor
        self.folder: Path | None = None

    def keep_in(self, folder: Path) -> None:
        self.folder = folder

    def allocate(
        self,
        budget: int,
        *,
        pilot: Any = None,
        constraints: Mapping[str, Any] | None = None,
        generator: torch.Generator | None = None,
    ) -> Allocation:
        raise NotImplementedError
