"""Learners and pilots with a known optimum."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch

from scorefold.data import Dataset
from scorefold.errors import TrainingError
from scorefold_allocation.data.batch import TaskSource
from scorefold_allocation.learners.interface import AllocationCell, Learner, Losses

Formula = Callable[[int, int], float]


class Nothing(TaskSource):
    """A source that learners of known losses don't ask."""

    def tasks(
        self, m: int, support: int, query: int, generator: torch.Generator, split: str = "train"
    ) -> Iterator[tuple[Dataset, Dataset]]:
        return iter(())


def constant(n: int, m: int) -> float:
    """Least at n = 20 whatever the budget b = n m, where it is 40 / b."""
    return (400 / n**2 + 1) / m


def root(n: int, m: int) -> float:
    """Least at n = sqrt(4 b)."""
    return 4 / n + 1 / m


class Known(Learner):
    """Reports ``formula`` (n, m) times exp(noise z), z standard normal with ``common`` of its variance shared by all
    cells of a seed; the training loss is 0 for up to ``threshold`` labels, and the test loss above it.

    ``asked`` counts its trainings. It breaks off in the middle of the training of this number, where that is given.
    """

    def __init__(
        self,
        formula: Formula,
        noise: float = 0.1,
        threshold: float | None = None,
        common: float = 0.5,
        stops_after: float = math.inf,
    ) -> None:
        self.formula, self.noise, self.threshold, self.common = formula, noise, threshold, common
        self.asked, self.stops_after = 0, stops_after

    def evaluate(self, source: TaskSource, cells: Sequence[AllocationCell], seed: int) -> Losses:
        self.asked += 1
        if self.asked > self.stops_after:
            raise KeyboardInterrupt
        shared = torch.randn((), generator=torch.Generator().manual_seed(seed)).item()
        test, train = [], []
        for cell in cells:
            own = torch.Generator().manual_seed(seed + 1000 * cell.tasks + cell.size)
            z = self.common**0.5 * shared + (1 - self.common) ** 0.5 * torch.randn((), generator=own).item()
            test.append(self.formula(cell.size, cell.tasks) * math.exp(self.noise * z))
            train.append(test[-1] if self.threshold is None or cell.size * cell.tasks > self.threshold else 0.0)
        return Losses(torch.tensor(test).double(), torch.tensor(train).double())


class Balanced(Known):
    """Reports ``formula`` (n, m, 1) for every other seed and ``formula`` (n, m, -1) for the rest, whatever they are."""

    def __init__(self, formula: Callable[[int, int, int], float], threshold: float | None = None) -> None:
        super().__init__(constant, noise=0, threshold=threshold)
        self.signed, self.seeds = formula, list[int]()

    def evaluate(self, source: TaskSource, cells: Sequence[AllocationCell], seed: int) -> Losses:
        if seed not in self.seeds:
            self.seeds.append(seed)
        sign = (-1) ** self.seeds.index(seed)
        self.formula = lambda n, m: self.signed(n, m, sign)
        return super().evaluate(source, cells, seed)


def swaying(n: int, m: int, sign: int) -> float:
    """Least at n = 20 for 400 labels, and at sizes that grow or fall as the root of the budget: not in the mean."""
    best = 20 * (n * m / 400) ** (sign / 2)
    return (n / best + best / n) / (n * m)


class Accurate(Known):
    """The same as an accuracy: 1 - loss / (1 + loss), and no training loss."""

    measure = "accuracy"

    def evaluate(self, source: TaskSource, cells: Sequence[AllocationCell], seed: int) -> Losses:
        loss = super().evaluate(source, cells, seed).test
        return Losses(1 / (1 + loss))


class Failing(Known):
    """Can't be trained on tasks of more than ``most`` labels: it raises, or reports nan."""

    def __init__(self, formula: Formula, most: int, raises: bool = False) -> None:
        super().__init__(formula)
        self.most, self.raises = most, raises

    def evaluate(self, source: TaskSource, cells: Sequence[AllocationCell], seed: int) -> Losses:
        found = super().evaluate(source, cells, seed)
        if any(cell.size > self.most for cell in cells):
            if self.raises:
                raise TrainingError("the loss is not finite")
            found.test.fill_(math.nan)
        return found
