"""Allocators: how to spend a budget of labels across tasks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from scorefold.interfaces.model import Shown
from scorefold.results import Allocation


class Pilot(Protocol):
    """What training on a plan comes to, known or tried: what an allocator that looks for the best plan asks.

    >>> known: Pilot = lambda tasks, support, query: 1 / tasks + 1 / support + 1 / query
    >>> min(range(1, 13), key=lambda support: known(36 // support, support, 10))  # 36 support labels in all
    6
    """

    def __call__(self, tasks: int, support: int, query: int) -> float:
        """The test loss after training on so many tasks, each with so many support and query labels."""


class Allocator(Shown, ABC):
    """Plans how many tasks to take, and how many labels each.

    Must: ``allocate``. An allocator never spends more than the budget. Given: ``keep_in``.

    >>> class OneTask(Allocator):
    ...     def allocate(self, budget, *, pilot=None, constraints=None, generator=None):
    ...         return Allocation("refused", (), leftover=budget, reason="nothing is known of the tasks")
    >>> OneTask().allocate(9).text()
    'No recommendation: nothing is known of the tasks.'
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

        ``pilot`` is what is known of the tasks beforehand (None: nothing), a ``Pilot`` where losses can be asked for;
        ``constraints`` bound the plan. Raises ``ConfigError`` for a budget below 0 or an unknown constraint; a budget
        that allows no plan is an ``infeasible`` allocation, not an error.
        """

    def keep_in(self, folder: Path) -> None:
        """Keep what is tried in a folder that survives an interruption, and go on from what is there already."""
