"""Sources of learning tasks, and tasks as tensors, all tasks of an allocation at once."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Self, TypeVar

import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold.errors import DataError
from scorefold.interfaces.data import SPLITS
from scorefold.seeds import derive_generator
from scorefold_allocation.data.config import TypeConfig


class TaskSource(ABC):
    """A source of learning tasks."""

    @abstractmethod
    def tasks(
        self, m: int, support: int, query: int, generator: torch.Generator, split: str = "train"
    ) -> Iterator[tuple[Dataset, Dataset]]:
        """m tasks, each a support set and a query set of the sizes asked for, from the tasks of a split."""


TARGET = "target"
"""Where a data set holds what a regression task predicts: a truth (N,). What a classification predicts is the label."""

Kind = TypeVar("Kind", bound=TypeConfig)

_GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Noise:
    """Label noise that is drawn anew at each reading: the chance (m,) of a task's label to be wrong."""

    chance: Tensor
    generator: torch.Generator


def flipped(labels: Tensor, ways: int, chance: Tensor, generator: torch.Generator) -> Tensor:
    """Labels (*, n), each with its chance, which broadcasts to them, one of the other classes, all alike."""
    wrong, other = torch.rand(*labels.shape, 2, generator=generator, dtype=torch.float64).unbind(-1)
    moved = (labels + 1 + (other * (ways - 1)).long()) % ways
    return torch.where(wrong < chance, moved, labels)


@dataclass(frozen=True)
class TaskBatch:
    """m tasks of n labels each; the support labels of a task come first.

    Inputs are the points at ``index`` (m, n), so that images that tasks share are held, or decoded, once; ``target``
    (m, n) holds real numbers, or the classes of a task as integers below ``ways``, which is None for numbers. With a
    ``noise`` each reading gives some wrong classes in their place.
    """

    points: Dataset
    index: Tensor
    target: Tensor
    ways: int | None = None
    noise: Noise | None = None

    def __len__(self) -> int:
        return self.index.shape[0]

    @property
    def size(self) -> int:
        """n, the labels of a task."""
        return self.index.shape[1]

    @property
    def classifies(self) -> bool:
        """True if targets are classes."""
        return self.ways is not None

    def tensors(self, tasks: Tensor | None = None, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Inputs (t, k, *E) and targets (t, k) of some tasks (t,), and of each some labels (t, k); None for all."""
        index, target = self.index, self.target
        every = torch.arange(len(self)) if tasks is None else tasks
        if tasks is not None:
            index, target = index[tasks], target[tasks]
        if labels is not None:
            index, target = index.gather(1, labels), target.gather(1, labels)
        x = self.points.take(index.flatten()).x
        return x.reshape(*index.shape, *x.shape[1:]), self._read(target, every)

    def reading(self) -> TaskBatch:
        """These tasks from one reading of the data, to be taken in pieces."""
        return replace(self, target=self._read(self.target, torch.arange(len(self))), noise=None)

    def _read(self, target: Tensor, tasks: Tensor) -> Tensor:
        """Targets (t, k) of some tasks (t,), some of them wrong where there is noise."""
        if self.noise is None or self.ways is None:
            return target
        return flipped(target, self.ways, self.noise.chance[tasks, None], self.noise.generator)

    def datasets(self, support: int) -> Iterator[tuple[Dataset, Dataset]]:
        """Each task as a support set, of its first labels, and a query set of the others."""
        for rows, target in zip(self.index, self.reading().target, strict=True):
            task = self.points.take(rows)
            task = replace(task, label=target) if self.classifies else replace(task, truth={TARGET: target})
            order = torch.arange(self.size)
            yield task.take(order[:support]), task.take(order[support:])


class BatchedTasks(TaskSource, Generic[Kind]):
    """A source that gives its tasks as tensors too. Must: ``batch``, and set ``types``. Given: ``tasks``, ``only``."""

    types: Sequence[Kind]

    @abstractmethod
    def batch(self, m: int, size: int, generator: torch.Generator, split: str = "train") -> TaskBatch:
        """m tasks of ``size`` labels. For a generator in the same state, fewer tasks or labels are the first of more.

        Raises ``DataError`` where there are not so many labels, ``SplitError`` for a split that is empty.
        """

    def tasks(
        self, m: int, support: int, query: int, generator: torch.Generator, split: str = "train"
    ) -> Iterator[tuple[Dataset, Dataset]]:
        return self.batch(m, support + query, generator, split).datasets(support)

    def only(self, name: str) -> Self:
        """The same source with tasks of one type. Raises ``DataError`` for a type that there is not."""
        kinds = [kind for kind in self.types if kind.name == name]
        if not kinds:
            there = ", ".join(kind.name for kind in self.types)
            raise DataError(f"there is no type of task called {name!r}; there is {there}")
        one = copy.copy(self)
        one.types = kinds
        return one


def batch_of(
    source: TaskSource, m: int, support: int, query: int, generator: torch.Generator, split: str = "train"
) -> TaskBatch:
    """The tasks of any source as tensors. Raises ``DataError`` where they are not as asked or have no targets."""
    if isinstance(source, BatchedTasks):
        return source.batch(m, support + query, generator, split)
    x, y, sizes = [], [], []
    for pair in source.tasks(m, support, query, generator, split):
        x.append(torch.cat([part.tensor() for part in pair]))
        y.append(torch.cat([_target(part) for part in pair]))
        sizes.append(tuple(map(len, pair)))
    if sizes != [(support, query)] * m:
        raise DataError(
            f"{m} tasks of {support} + {query} labels were asked for; the source gave {len(x)}, of "
            f"{', '.join(sorted({' + '.join(map(str, size)) for size in sizes})) or 'no'} labels"
        )
    points, target = Dataset(x=torch.cat(x)), torch.stack(y)
    if not target.is_floating_point() and int(target.min()) < 0:
        raise DataError(f"a task has the class {int(target.min())}; expected the task's own classes, from 0")
    ways = None if target.is_floating_point() else int(target.max()) + 1
    return TaskBatch(points, torch.arange(len(points)).reshape(m, -1), target, ways)


def _target(part: Dataset) -> Tensor:
    target = part.truth.get(TARGET, part.label)
    if not isinstance(target, Tensor):
        raise DataError(
            "a task has neither labels nor targets",
            hint=f"classes go into Dataset.label, numbers into Dataset.truth[{TARGET!r}], one for each point",
        )
    target = target.reshape(len(part))
    return target if target.is_floating_point() else target.long()


def tasks_in_turn(
    types: Sequence[Kind], m: int, size: int, generator: torch.Generator, split: str
) -> list[tuple[Kind, torch.Generator]]:
    """The type and the generator of each of m tasks of a size. Fewer tasks are the first of more tasks.

    Each type has generators of its own. So two types do not have the same tasks with different noise, where their tasks
    are drawn separately. Raises ``DataError`` for no tasks or labels, and for a split that is unknown.
    """
    if m < 1 or size < 1:
        raise DataError(f"{m} tasks of {size} labels were asked for; expected one or more of each")
    if split not in SPLITS:
        raise DataError(f"there is no split called {split!r}; there are {', '.join(SPLITS)}")
    root = int(torch.randint(0, 2**62, (), generator=generator, device=generator.device))
    kinds = [types[place] for place in types_in_turn(types, m).tolist()]
    return [(kind, derive_generator(root, split, kind.name, number)) for number, kind in enumerate(kinds)]


def types_in_turn(types: Sequence[TypeConfig], m: int) -> Tensor:
    """The type of each of m tasks, (m,) integers: as even as the shares allow among the first tasks of any number."""
    shares = torch.tensor([kind.share for kind in types], dtype=torch.float64)
    spots = (0.5 + _GOLDEN * torch.arange(m, dtype=torch.float64)) % 1.0
    return torch.bucketize(spots, (shares / shares.sum()).cumsum(0)[:-1], right=True)
