"""Few-shot tasks from any labelled source, whose classes are divided among the splits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from scorefold.data import Dataset, StreamedDataset
from scorefold.errors import ConfigError, DataError, SplitError
from scorefold.interfaces import DataSource
from scorefold.interfaces.data import SPLITS
from scorefold_allocation.data.batch import BatchedTasks, TaskBatch
from scorefold_allocation.data.classes import class_tasks, positions_by_class, quarter_turns
from scorefold_allocation.data.config import FewShotConfig, NoisyTypeConfig
from scorefold_toolkit.data.splits import class_numbers, labels_of, moments, of_classes, pick

_MEASURED = 2048


class FewShot(DataSource, BatchedTasks[NoisyTypeConfig]):
    """The points of a labelled source, of all its splits together, in splits that share no class, but for ``validation:
    train``.

    Events, labels and indices are the source's; conditions are left out. The scale's moments are of training classes.
    A source that decodes its points as they are read is read so here too. Raises ``ConfigError`` for classes that there
    are not, that stand in two splits, or that are fewer than a task has, and ``DataError`` for a source without labels.

    >>> from scorefold_registry import Host
    >>> digits = {"use": "data:digits", "config": {"limit": 400}}
    >>> source = Host.discover().create("data:few-shot", {"ways": 3, "validation": [3, 4, 5]}, data=digits)
    >>> (support, query), = source.tasks(1, support=6, query=3, generator=torch.Generator().manual_seed(0))
    >>> support.x.shape, support.label.tolist()
    (torch.Size([6, 1, 8, 8]), [0, 1, 2, 0, 1, 2])
    """

    def __init__(self, config: FewShotConfig, *, data: DataSource, generator: torch.Generator | None = None) -> None:
        self.config = config
        self.ways, self.types = config.ways, config.types
        self.event_shape, self.label_names, self.rows = data.event_shape, data.label_names, data.rows
        if config.turned and data.label_names:
            self.label_names = [f"{name} turned by {90 * turn}" for name in data.label_names for turn in range(4)]
        whole, label = _pooled(data)
        classes = _divided(config, label, data.label_names)
        self._splits: dict[str, Dataset] = {}
        self._members: dict[str, list[Tensor]] = {}
        self._superclass: dict[str, Tensor] = {}
        superclass = _superclasses(config, label, data.label_names)
        for split, numbers in classes.items():
            rows = torch.isin(label, torch.tensor(numbers, dtype=torch.long)).nonzero()[:, 0]
            points, own = _part(whole, rows), label[rows]
            if config.turned:
                points = quarter_turns(replace(whole.take(rows), label=own))
                own = labels_of(points)
            self._members[split] = positions_by_class(own)
            self._superclass[split] = superclass[own.unique() // config.turns]
            self._splits[split] = points
        train = self._splits["train"]
        count = len(train)
        # Over all of the split: sources that are made of others may hold one class after the other.
        sample = train.take(torch.linspace(0, count - 1, min(count, _MEASURED)).long())
        mean, std = moments(sample.x, bounded=data.event_scale.bounded)
        self.event_scale = replace(data.event_scale, mean=mean, std=std)
        content = hashlib.sha256(f"{data.fingerprint()} {classes}".encode())
        for part in (label, sample.x):
            content.update(part.contiguous().cpu().numpy().tobytes())
        self._fingerprint = content.hexdigest()

    def load(self, split: str) -> Dataset:
        return pick(self._splits, split)

    def fingerprint(self) -> str:
        return self._fingerprint

    def batch(self, m: int, size: int, generator: torch.Generator, split: str = "train") -> TaskBatch:
        points, superclass = self.load(split), self._superclass[split]
        return class_tasks(points, self._members[split], self.ways, self.types, m, size, generator, split, superclass)


@dataclass(frozen=True)
class _Rows:
    """Fetches points out of several data sets, one after the other, as one."""

    parts: Sequence[Dataset]

    def __call__(self, index: Tensor) -> Dataset:
        ends = torch.tensor([len(part) for part in self.parts]).cumsum(0)
        owner = torch.bucketize(index, ends, right=True)
        order, found = [], []
        for number, part in enumerate(self.parts):
            mine = (owner == number).nonzero()[:, 0]
            if len(mine):
                order.append(mine)
                found.append(part.take(index[mine] - (ends[number] - len(part))))
        if not found:
            return self.parts[0].take(index)
        back = torch.cat(order).argsort()
        return _without_conditions(found).take(back)


def _pooled(data: DataSource) -> tuple[Dataset, Tensor]:
    """The points of all splits of a source, and their labels (N,)."""
    parts = []
    for split in SPLITS:
        try:
            parts.append(data.load(split))
        except SplitError:
            continue  # a source need not have every split
    try:
        label = torch.cat([labels_of(part).cpu() for part in parts])
    except DataError:
        raise DataError(
            f"few-shot tasks are drawn from classes, and {type(data).__name__} has no labels",
            hint="data:array has label, data:images sub-folders, data:celeba label",
        ) from None
    if all(isinstance(part, StreamedDataset) for part in parts):
        stream = StreamedDataset(x=parts[0].x[:0], fetch=_Rows(parts), size=len(label))
        return stream, label
    return _without_conditions(parts), label


def _without_conditions(parts: Sequence[Dataset]) -> Dataset:
    """Data sets one after the other, with their labels and indices alone."""
    label = torch.cat([part.label for part in parts if part.label is not None])
    index = [part.index for part in parts if part.index is not None]
    return Dataset(
        x=torch.cat([part.tensor() for part in parts]),
        label=label,
        index=torch.cat(index) if len(index) == len(parts) else None,
    )


def _part(whole: Dataset, rows: Tensor) -> Dataset:
    if not isinstance(whole, StreamedDataset):
        return whole.take(rows)
    return StreamedDataset(x=whole.x, fetch=_Chosen(whole, rows), size=len(rows))


@dataclass(frozen=True)
class _Chosen:
    """Fetches some rows (n,) of a data set."""

    whole: Dataset
    rows: Tensor

    def __call__(self, index: Tensor) -> Dataset:
        return self.whole.take(self.rows[index])


def _divided(config: FewShotConfig, label: Tensor, label_names: Sequence[str] | None) -> Mapping[str, list[int]]:
    """The classes of each split."""
    there, names = label.unique().tolist(), _names(label, label_names)
    given = {split: getattr(config, split) for split in SPLITS}
    if config.validation == "train":
        given["validation"] = None
    classes = {split: class_numbers(wanted, names) for split, wanted in given.items() if wanted is not None}
    for split, numbers in classes.items():
        of_classes(label, numbers or None, names)
        for other, others in classes.items():
            shared = [number for number in numbers if number in others]
            if other != split and shared:
                raise ConfigError(
                    f"class {shared[0]} ({names[shared[0]]}) stands in {split} and in {other}; expected it in one"
                )
    left = [number for number in there if not any(number in numbers for numbers in classes.values())]
    open_splits = [split for split in ("train", "test") if split not in classes]
    for place, split in enumerate(open_splits):
        half = -(-len(left) // len(open_splits))
        classes[split] = left[place * half : (place + 1) * half]
    classes.setdefault("validation", classes["train"])
    for split, numbers in classes.items():
        count = len(numbers) * config.turns
        if count < config.ways and (numbers or split != "validation"):
            raise ConfigError(
                f"{split} has {count} classes and a task {config.ways}; the data have {len(there)}",
                hint="lower 'ways', or give the split more classes",
            )
    return {split: classes[split] for split in SPLITS}


def _superclasses(config: FewShotConfig, label: Tensor, label_names: Sequence[str] | None) -> Tensor:
    """The superclass of every class number, (classes,), counted in the order given; -1 for none."""
    names = _names(label, label_names)
    found = torch.full((len(names),), -1)
    for place, classes in enumerate(config.superclasses.values()):
        numbers = class_numbers(classes, names)
        shared = [number for number in numbers if found[number] >= 0]
        if shared:
            other = list(config.superclasses)[int(found[shared[0]])]
            raise ConfigError(
                f"class {shared[0]} ({names[shared[0]]}) stands in the superclasses {other} and "
                f"{list(config.superclasses)[place]}; expected it in one"
            )
        found[numbers] = place
    return found


def _names(label: Tensor, label_names: Sequence[str] | None) -> Sequence[str]:
    return label_names or [str(number) for number in range(int(label.max()) + 1)]
