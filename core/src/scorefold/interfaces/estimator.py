"""Estimators, which give a number about data and its uncertainty, and allocators, which plan labels across tasks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold.interfaces.model import Shown
from scorefold.results import Allocation, Estimate


class Pilot(Protocol):
    """Loss after training on a plan, known or measured. An allocator calls it to find the best plan.

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


class Estimator(Shown, ABC):
    """Estimates a quantity of a data set, such as its intrinsic dimension.

    Must: ``estimate``. May: ``point_estimate``, where the interval costs much of the time, ``reads_neighbours``: True
    where points that follow one another in a series would change the answer, as distances of neighbours do, and
    ``reads_counts``: True where it is made for counts.

    >>> class Rank(Estimator):
    ...     def estimate(self, data, *, generator=None):
    ...         return Estimate("rank", float(torch.linalg.matrix_rank(data)))
    >>> Rank().estimate(torch.ones(9, 3)).value
    1.0
    """

    reads_neighbours: bool = False
    reads_counts: bool = False

    @abstractmethod
    def estimate(self, data: Tensor | Dataset, *, generator: torch.Generator | None = None) -> Estimate:
        """The estimate from data (N, *E), a tensor or a data set, streamed where it is large. Raises
        ``DataError`` for too few points, naming how many are needed."""

    def point_estimate(self, data: Tensor | Dataset, *, generator: torch.Generator | None = None) -> Estimate:
        """The estimate without the work for an interval, for callers that call it many times.

        ``estimate`` returns the same value. Raises as it does.
        """
        return self.estimate(data, generator=generator)
