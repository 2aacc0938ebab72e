"""scikit-learn's digits, turned by quarters: few-shot tasks of 40 classes."""

from __future__ import annotations

import torch

from scorefold.data import Dataset, EventScale
from scorefold.interfaces import DataSource
from scorefold.interfaces.data import SPLITS
from scorefold_allocation.config.data import DigitRotationsConfig, NoisyTypeConfig
from scorefold_allocation.data.batch import BatchedTasks, TaskBatch
from scorefold_allocation.data.classes import class_tasks, positions_by_class
from scorefold_toolkit.data.splits import measured_split, moments, pick

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
        images = torch.from_numpy(raw).float().reshape(-1, 8, 8) / (_LEVELS - 1)
        self.config = config
        self.ways, self.types = config.ways, config.types
        self.event_shape = (64,) if config.flatten else (1, 8, 8)
        turned = torch.stack([torch.rot90(images, turn, (1, 2)) for turn in range(4)], 1)
        label = 4 * torch.from_numpy(digit).long()[:, None] + torch.arange(4)
        whole = Dataset(
            x=turned.reshape(-1, *self.event_shape), label=label.flatten(), index=torch.arange(label.numel())
        )
        self._splits = {
            split: whole.take(torch.isin(label.flatten() // 4, torch.tensor(getattr(config, split))).nonzero()[:, 0])
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
