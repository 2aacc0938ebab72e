"""A learner whose losses are simulated fast: one-step MAML on mixed linear regression, solved in closed form.

Its random numbers are a function of (seed, task, point, coordinate), so that the cells of a seed share all tasks and
points that both have, in whatever order and number they are tried. What it reports is |w_hat - w0|^2 alone, the part of
the loss that an allocation can change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri
from torch import Tensor

from scorefold.data import Dataset
from scorefold_allocation.data.source import TaskSource
from scorefold_allocation.learners.interface import Cell, Learner, Losses
from scorefold_allocation.theory.linear_model import LinearProblem


class NoTasks(TaskSource):
    """For a learner that draws its own tasks."""

    def tasks(
        self, m: int, support: int, query: int, generator: torch.Generator, split: str = "train"
    ) -> Iterator[tuple[Dataset, Dataset]]:
        return iter(())


class SimulatedLearner(Learner):
    """Solves tasks of the first type of ``problem`` and reports |w_hat - w0|^2, and the training loss."""

    def __init__(self, problem: LinearProblem) -> None:
        self.problem = self.config = problem

    def evaluate(self, source: TaskSource, cells: Sequence[Cell], seed: int) -> Losses:
        """See ``Learner.evaluate``; ``source`` is not asked for anything."""
        return self.evaluate_seeds(source, cells, [seed])[0]

    def evaluate_seeds(self, source: TaskSource, cells: Sequence[Cell], seeds: Sequence[int]) -> list[Losses]:
        """See ``Learner.evaluate_seeds``."""
        tests, trains = zip(*(self._solve(cell, seeds) for cell in cells), strict=True)
        pairs = zip(torch.stack(tests, 1), torch.stack(trains, 1), strict=True)
        return [Losses(test, train) for test, train in pairs]

    def _solve(self, cell: Cell, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
        """|w_hat - w0|^2 and the training loss, each (seeds,), with w0 at the origin.

        The least squares of all tasks, with rows V - (a/n) V X'X and targets v - (a/n) V X'y, starts at a point whose
        distance from w0 is the problem's.
        """
        problem, p = self.problem, self.problem.dimension
        spread, noise = float(problem.spread2[0].sqrt()), float(problem.noise2[0].sqrt())
        z = torch.from_numpy(np.stack([_normals(seed, cell.tasks, cell.size + 1, p + 1) for seed in seeds]))
        w = spread / p**0.5 * z[:, :, :1, :p]
        inputs, labels = z[:, :, 1:, :p], z[:, :, 1:, :p] @ w.mT + noise * z[:, :, 1:, p:]
        # Support and query alternate, so that a smaller task's labels keep their part in a larger one of an even split.
        order = _alternating(cell)
        X, y = inputs[:, :, order[: cell.support]], labels[:, :, order[: cell.support]]
        V, v = inputs[:, :, order[cell.support :]], labels[:, :, order[cell.support :]]
        step = problem.rate / cell.support * V @ X.mT
        rows, targets = (V - step @ X).flatten(1, 2), (v - step @ y).flatten(1, 2)
        start = torch.full((p, 1), (problem.start2 / p) ** 0.5, dtype=torch.float64)
        found = start + torch.linalg.lstsq(rows, targets - rows @ start, driver="gelsd").solution
        residual = targets - rows @ found
        return found.square().sum((1, 2)), residual.square().mean((1, 2)) / 2


def _alternating(cell: Cell) -> list[int]:
    """Positions of a task's support labels, then of its query labels: by turns while both last."""
    both = 2 * min(cell.support, cell.query)
    rest = list(range(both, cell.size))
    support = list(range(0, both, 2)) + (rest if cell.support > cell.query else [])
    return support + list(range(1, both, 2)) + (rest if cell.query > cell.support else [])


def _normals(seed: int, tasks: int, points: int, width: int) -> NDArray[np.float64]:
    """Standard normals (tasks, points, width), each a function of the seed and of its own place alone."""
    place = np.arange(tasks, dtype=np.uint64)[:, None, None] << np.uint64(32)
    place = place + (np.arange(points, dtype=np.uint64)[:, None] << np.uint64(12)) + np.arange(width, dtype=np.uint64)
    word = _mixed(_mixed(place) + np.uint64(seed))
    return np.asarray(ndtri(((word >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53))


def _mixed(word: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A permutation of 64-bit words that scatters neighbours (Steele, Lea and Flood 2014, SplitMix)."""
    word = word + np.uint64(0x9E3779B97F4A7C15)
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))
