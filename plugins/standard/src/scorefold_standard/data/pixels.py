"""Common parts of image sources: splits in memory or streamed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from scorefold.data import Condition, Dataset, EventScale, StreamedDataset, index_condition
from scorefold_standard.data.units import Units
from scorefold_toolkit.data.splits import moments

_SAMPLE = 2048  # training images that the scale of streamed data is measured on
_BATCH = 256


def resized(images: Tensor, size: int | None) -> Tensor:
    """Images (N, C, H, W) of bytes at size x size, by bicubic interpolation, antialiased; as they are for None."""
    if size is None or images.shape[2:] == (size, size):
        return images
    smooth = torch.nn.functional.interpolate(images.float(), (size, size), mode="bicubic", antialias=True)
    return smooth.round().clamp(0, 255).to(torch.uint8)


def image_splits(
    read: Callable[[Tensor], Tensor],
    shape: tuple[int, ...],
    positions: Mapping[str, Tensor],
    units: Units,
    *,
    label: Tensor | None = None,
    condition: Condition | None = None,
    memory: float,
    workers: int = 0,
) -> tuple[dict[str, Dataset], EventScale]:
    """The splits at ``positions`` and their scale.

    ``read`` gives the raw images (n, *shape) at some positions; ``label`` and ``condition`` have a row for every
    position of the source. All splits are held in memory where they fit in ``memory`` MiB as float32, and streamed
    otherwise; the scale of streamed data is measured on 2048 training images.
    """

    def fetch(rows: Tensor) -> Dataset:
        return Dataset(
            x=units.apply(read(rows)),
            condition=index_condition(condition, rows),
            label=None if label is None else label[rows],
            index=rows,
        )

    def streamed(rows: Tensor) -> StreamedDataset:
        return StreamedDataset(
            x=torch.empty(0, *shape),
            index=rows,
            fetch=lambda index: fetch(rows[index]),
            size=len(rows),
            workers=workers,
        )

    count = sum(len(rows) for rows in positions.values())
    splits: dict[str, Dataset] = {name: streamed(rows) for name, rows in positions.items()}
    if count * math.prod(shape) * 4 <= memory * 2**20:
        splits = {
            name: Dataset(
                x=torch.cat([split.x, *(batch.x for batch in split.batches(_BATCH))]),
                condition=index_condition(condition, positions[name]),
                label=None if label is None else label[positions[name]],
                index=positions[name],
            )
            for name, split in splits.items()
        }
    train = splits["train"]
    sample = train.tensor(_SAMPLE) if isinstance(train, StreamedDataset) else train.x
    return splits, units.scale(*moments(sample))
