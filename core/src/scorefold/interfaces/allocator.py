"""Allocators: how to spend a budget of labels across tasks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch

from scorefold.results import Allocation


class Allocator(ABC):
    """Plans how many tasks to take, and how many labels each.

    Must: ``allocate``. An allocator never spends more than the budget.
    """

    @abstractmethod
    def allocate(
        self,
        budget: int,
        *,
        pilot: Any = None,
        constraints: Mapping[str, Any] | None = None,
        generator: torch.Generator | None = None,
    ) -> Allocation:
        """A plan for ``budget`` labels.

        ``pilot`` is what is known of the tasks beforehand (None: nothing); ``constraints`` bound the plan. Raises
        ``ConfigError`` for a budget below 0 or an unknown constraint; a budget that allows no plan is an
        ``infeasible`` allocation, not an error.
        """
