"""Regression tasks without end: mixed linear regression, and sinusoids."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold.interfaces import DataSource
from scorefold.interfaces.data import SPLITS
from scorefold.seeds import derive_generator
from scorefold_allocation.data.batch import TARGET, BatchedTasks, Kind, TaskBatch, tasks_in_turn
from scorefold_allocation.data.config import LinearTasksConfig, LinearTypeConfig, SinusoidTasksConfig, TypeConfig
from scorefold_toolkit.data.splits import pick, plain_scale, source_seed

_LEAST = 2.0**-54  # below every uniform draw but 0, whose quantile would be infinite


class LinearTasks(DataSource, BatchedTasks[LinearTypeConfig]):
    """Task i is y = x . w_i + sigma z with w_i = w0 + (nu / sqrt p) xi_i; x, xi and z are standard normal.

    Mixed linear regression as in Bernacchia, "Meta-learning with negative learning rates", ICLR 2021. Events x are
    (p,), targets (N,) stand in the truth ``target``; as ordinary data the points of some tasks are pooled, and the
    truth ``task`` says which. Tasks are in float64, pooled points in float32.

    >>> from scorefold_registry import Host
    >>> source = Host.discover().create("data:linear-tasks", {"dimension": 5})
    >>> tasks = list(source.tasks(3, support=4, query=8, generator=torch.Generator().manual_seed(0)))
    >>> len(tasks), tasks[0][0].x.shape, tasks[0][1].x.shape
    (3, torch.Size([4, 5]), torch.Size([8, 5]))
    """

    def __init__(self, config: LinearTasksConfig, *, generator: torch.Generator | None = None) -> None:
        self.config = config
        self.types = config.types
        self.event_shape = (config.dimension,)
        self.centre = torch.full(self.event_shape, config.distance / math.sqrt(config.dimension), dtype=torch.float64)
        self._pools = pools(self, config.tasks, config.labels, source_seed(config.seed, generator))
        self.event_scale = plain_scale(self._pools["train"].x)

    def load(self, split: str) -> Dataset:
        return pick(self._pools, split)

    def batch(self, m: int, size: int, generator: torch.Generator, split: str = "train") -> TaskBatch:
        p = self.config.dimension
        drawn = tasks_in_turn(self.types, m, size, generator, split)
        draws = _normal(_uniform([own for _, own in drawn], p + size * (p + 1)))
        spread, noise = torch.tensor([(kind.spread, kind.noise) for kind, _ in drawn], dtype=torch.float64).unbind(1)
        weights = self.centre + spread[:, None] / math.sqrt(p) * draws[:, :p]
        labels = draws[:, p:].reshape(m, size, p + 1)
        x = labels[..., :p]
        target = torch.einsum("mnp,mp->mn", x, weights) + noise[:, None] * labels[..., p]
        return _stacked(x, target)


class SinusoidTasks(DataSource, BatchedTasks[TypeConfig]):
    """Task i is y = A_i sin(x + phase_i), with A, phase and x uniform (Finn, Abbeel and Levine, ICML 2017).

    Events x are (1,), targets and pooled points as in ``LinearTasks``.

    >>> from scorefold_registry import Host
    >>> source = Host.discover().create("data:sinusoid-tasks")
    >>> (support, query), = source.tasks(1, support=4, query=8, generator=torch.Generator().manual_seed(0))
    >>> support.x.shape, query.x.shape
    (torch.Size([4, 1]), torch.Size([8, 1]))
    """

    def __init__(self, config: SinusoidTasksConfig, *, generator: torch.Generator | None = None) -> None:
        self.config = config
        self.types = (TypeConfig(),)
        self.event_shape = (1,)
        self._pools = pools(self, config.tasks, config.labels, source_seed(config.seed, generator))
        self.event_scale = plain_scale(self._pools["train"].x)

    def load(self, split: str) -> Dataset:
        return pick(self._pools, split)

    def batch(self, m: int, size: int, generator: torch.Generator, split: str = "train") -> TaskBatch:
        drawn = tasks_in_turn(self.types, m, size, generator, split)
        draws = _uniform([own for _, own in drawn], 2 + 2 * size)
        ends = (self.config.amplitude, self.config.phase)
        amplitude, phase = (_between(draws[:, column, None], ends[column]) for column in range(2))
        inputs, noise = draws[:, 2:].reshape(m, size, 2).unbind(-1)
        x = _between(inputs, self.config.inputs)
        target = amplitude * torch.sin(x + phase) + self.config.noise * _normal(noise)
        return _stacked(x[..., None], target)


def pools(source: BatchedTasks[Kind], tasks: int, labels: int, seed: int) -> dict[str, Dataset]:
    """Some tasks of each split as ordinary data; ``index`` counts through the splits."""
    found = {}
    for number, split in enumerate(SPLITS):
        batch = source.batch(tasks, labels, derive_generator(seed, "pool"), split)
        found[split] = Dataset(
            x=batch.points.x.float(),
            index=torch.arange(tasks * labels) + number * tasks * labels,
            truth={
                TARGET: batch.target.flatten().float(),
                "task": torch.arange(tasks).repeat_interleave(labels),
            },
        )
    return found


def _stacked(x: Tensor, target: Tensor) -> TaskBatch:
    """Inputs (m, n, *E) with targets (m, n), each point of its own."""
    m, n = target.shape
    return TaskBatch(Dataset(x=x.flatten(0, 1)), torch.arange(m * n).reshape(m, n), target)


def _uniform(generators: Sequence[torch.Generator], count: int) -> Tensor:
    """Uniform draws (m, count) by the generators of m tasks; fewer columns are the first of more."""
    draws = torch.empty(len(generators), count, dtype=torch.float64)
    for row, own in zip(draws, generators, strict=True):
        torch.rand(count, generator=own, dtype=torch.float64, out=row)
    return draws


def _normal(uniform: Tensor) -> Tensor:
    """Standard normal numbers as the quantiles of uniform ones: unlike torch's own, number by number."""
    quantiles = uniform.clamp_min(_LEAST)
    torch.special.ndtri(quantiles, out=quantiles)
    return quantiles


def _between(share: Tensor, ends: tuple[float, float]) -> Tensor:
    return ends[0] + (ends[1] - ends[0]) * share
