"""Few-shot tasks drawn from the classes of a data set."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold.errors import DataError
from scorefold_allocation.config.data import NoisyTypeConfig
from scorefold_allocation.data.batch import TaskBatch, tasks_in_turn


def class_tasks(
    points: Dataset,
    members: Sequence[Tensor],
    ways: int,
    types: Sequence[NoisyTypeConfig],
    m: int,
    size: int,
    generator: torch.Generator,
    split: str,
) -> TaskBatch:
    """m tasks of ``size`` labels: each has ``ways`` classes out of all, in a random order, and they take turns.

    ``members`` are the positions of each class among the points. A class gives a task no point twice. Label noise is
    drawn once, with the task. Raises ``DataError`` where there are fewer classes than ways, or where a class has fewer
    points than a task takes of it.
    """
    if len(members) < ways:
        raise DataError(
            f"a task has {ways} classes; the {split} split has {len(members)}",
            hint="lower 'ways', or give more classes",
        )
    shots = math.ceil(size / ways)
    fewest = min(map(len, members))
    if fewest < shots:
        raise DataError(
            f"tasks of {size} labels take up to {shots} of a class; a class of the {split} split has {fewest}",
            hint=f"at most {fewest * ways} labels a task",
        )
    turn = torch.arange(size) % ways
    index, target = [], []
    for kind, own in tasks_in_turn(types, m, size, generator, split):
        chosen = torch.randperm(len(members), generator=own)[:ways].tolist()
        rows = torch.stack([members[c][torch.randperm(len(members[c]), generator=own)[:shots]] for c in chosen])
        index.append(rows.T.flatten()[:size])
        target.append(_flipped(turn, ways, kind.label_noise, own))
    return TaskBatch(points, torch.stack(index), torch.stack(target), ways)


def _flipped(labels: Tensor, ways: int, chance: float, generator: torch.Generator) -> Tensor:
    """Labels (n,), each with that chance one of the other classes, all alike."""
    wrong, other = torch.rand(len(labels), 2, generator=generator, dtype=torch.float64).unbind(1)
    moved = (labels + 1 + (other * (ways - 1)).long()) % ways
    return torch.where(wrong < chance, moved, labels)


def positions_by_class(label: Tensor) -> list[Tensor]:
    """The positions of each class that there is, in order of the classes."""
    return [(label == number).nonzero()[:, 0] for number in label.unique()]
