"""Few-shot tasks drawn from the classes of a data set, and scikit-learn's digits turned by quarters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from scorefold.data import Dataset, EventScale
from scorefold.errors import ConfigError, DataError
from scorefold.interfaces import DataSource
from scorefold.interfaces.data import SPLITS
from scorefold_allocation.data.batch import BatchedTasks, Noise, TaskBatch, flipped, tasks_in_turn
from scorefold_allocation.data.config import DigitRotationsConfig, NoisyTypeConfig
from scorefold_toolkit.data.splits import measured_split, moments, pick


def class_tasks(
    points: Dataset,
    members: Sequence[Tensor],
    ways: int,
    types: Sequence[NoisyTypeConfig],
    m: int,
    size: int,
    generator: torch.Generator,
    split: str,
    superclass: Tensor | None = None,
) -> TaskBatch:
    """m tasks of ``size`` labels: each has ``ways`` of the classes, in a random order, and they take turns.

    ``members`` are the positions of each class among the points, ``superclass`` (classes,) the number of its superclass
    or -1. A class gives a task no point twice. Label noise is drawn once, with the task, or where a type redraws it at
    each reading. Raises ``DataError`` where there are fewer classes than ways, or where a class has fewer points than a
    task takes of it, and as ``chosen_classes``.
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
    if superclass is None:
        superclass = torch.full((len(members),), -1)
    turn = torch.arange(size) % ways
    index, target, chance = [], [], []
    turns = tasks_in_turn(types, m, size, generator, split)
    for kind, own in turns:
        chosen = chosen_classes(kind, superclass, ways, own).tolist()
        rows = torch.stack([members[c][torch.randperm(len(members[c]), generator=own)[:shots]] for c in chosen])
        index.append(rows.T.flatten()[:size])
        chance.append(kind.label_noise if kind.redrawn else 0.0)
        target.append(
            turn if kind.redrawn else flipped(turn, ways, torch.tensor(kind.label_noise, dtype=torch.float64), own)
        )
    batch = TaskBatch(points, torch.stack(index), torch.stack(target), ways)
    return replace(batch, noise=Noise(torch.tensor(chance, dtype=torch.float64), turns[0][1])) if any(chance) else batch


def chosen_classes(kind: NoisyTypeConfig, superclass: Tensor, ways: int, generator: torch.Generator) -> Tensor:
    """The positions (ways,) of a task's classes, in a random order; all sets of them that the type allows are alike.

    Raises ``DataError`` where there is no such set.
    """
    count = len(superclass)
    if kind.classes == "any":
        return torch.randperm(count, generator=generator)[:ways]
    groups = [(superclass == number).nonzero()[:, 0] for number in superclass.unique().tolist() if number >= 0]
    within = [math.comb(len(group), ways) for group in groups]
    if not groups or sum(within) == (0 if kind.classes == "within" else math.comb(count, ways)):
        raise DataError(
            f"tasks of type {kind.name} have {ways} classes {kind.classes} superclasses, and there are none: {count} "
            f"classes, in superclasses of {', '.join(str(len(group)) for group in groups) or 'none'}",
            hint="give data:few-shot 'superclasses' that fit, or lower 'ways'",
        )
    if kind.classes == "within":
        shares = torch.tensor([sets / max(within) for sets in within], dtype=torch.float64)
        group: Tensor = groups[int(shares.multinomial(1, generator=generator))]
        return group[torch.randperm(len(group), generator=generator)[:ways]]
    while True:
        chosen = torch.randperm(count, generator=generator)[:ways]
        own = superclass[chosen].unique()
        if len(own) > 1 or int(own) < 0:
            return chosen


def positions_by_class(label: Tensor) -> list[Tensor]:
    """The positions of each class that there is, in order of the classes."""
    return [(label == number).nonzero()[:, 0] for number in label.unique()]


def quarter_turns(points: Dataset) -> Dataset:
    """Square images (N, C, H, H) in four positions each, (4 N, C, H, H): image i turned t times is row 4 i + t.

    Its label is 4 label + t and its index 4 index + t, so a class gives four. Raises ``ConfigError`` for other events.

    >>> turned = quarter_turns(Dataset(x=torch.rand(3, 1, 8, 8), label=torch.tensor([0, 0, 2])))
    >>> turned.x.shape, turned.label.unique().tolist()
    (torch.Size([12, 1, 8, 8]), [0, 1, 2, 3, 8, 9, 10, 11])
    """
    if len(points.event_shape) != 3 or points.event_shape[1] != points.event_shape[2]:
        raise ConfigError(
            f"turned takes square images (C, H, H); the events of this source are {points.event_shape}",
            hint="turned: false takes events of any shape; data:images has a 'size'",
        )
    label, index = (
        None if rows is None else (4 * rows[:, None] + torch.arange(4)).flatten()
        for rows in (points.label, points.index)
    )
    x = torch.stack([torch.rot90(points.x, turn, (-2, -1)) for turn in range(4)], 1)
    return Dataset(x=x.flatten(0, 1), label=label, index=index)


_LEVELS = 17


class DigitRotations(DataSource, BatchedTasks[NoisyTypeConfig]):
    """1,797 images in 17 grey levels from 0 to 1, each in four positions; the class is the digit and its turn.

    Events are vectors (64) or images (1, 8, 8). The label, as ordinary data, is 4 digit + turn, the index 4 image +
    turn. The splits share no class.

    >>> from scorefold_registry import Host
    >>> source = Host.discover().create("data:digit-rotations")
    >>> (support, query), = source.tasks(1, support=10, query=5, generator=torch.Generator().manual_seed(0))
    >>> support.x.shape, query.x.shape, support.label.unique().tolist()
    (torch.Size([10, 64]), torch.Size([5, 64]), [0, 1, 2, 3, 4])
    """

    def __init__(self, config: DigitRotationsConfig, *, generator: torch.Generator | None = None) -> None:
        from sklearn.datasets import load_digits

        raw, digit = load_digits(return_X_y=True)
        images = torch.from_numpy(raw).float().reshape(-1, 1, 8, 8) / (_LEVELS - 1)
        self.config = config
        self.ways, self.types = config.ways, config.types
        self.event_shape = (64,) if config.flatten else (1, 8, 8)
        own = torch.from_numpy(digit).long()
        whole = quarter_turns(Dataset(x=images, label=own, index=torch.arange(len(own))))
        whole = replace(whole, x=whole.x.reshape(-1, *self.event_shape))
        digits = own.repeat_interleave(4)
        self._splits = {
            split: whole.take(torch.isin(digits, torch.tensor(getattr(config, split))).nonzero()[:, 0])
            for split in SPLITS
        }
        mean, std = moments(measured_split(self._splits).x)
        self.event_scale = EventScale(low=0.0, high=1.0, levels=_LEVELS, mean=mean, std=std, factor=_LEVELS - 1.0)

    def load(self, split: str) -> Dataset:
        return pick(self._splits, split)

    def batch(self, m: int, size: int, generator: torch.Generator, split: str = "train") -> TaskBatch:
        points = self.load(split)
        assert points.label is not None
        members = positions_by_class(points.label)
        return class_tasks(points, members, self.ways, self.types, m, size, generator, split)
