"""What image sources share: decoding, and splits that are held in memory or streamed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scorefold.data import Condition, Dataset, EventScale, StreamedDataset, index_condition
from scorefold.errors import DataError
from scorefold.splits import moments
from scorefold_standard.data.units import Units

_SAMPLE = 2048  # training images that the scale of streamed data is measured on
_BATCH = 256


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


def read_image(path: Path, *, size: int | None, crop: bool, grey: bool) -> Tensor:
    """An image file as uint8 (C, H, W), upright, resized where a size is given; a ``DataError`` names the file."""
    from PIL import Image, ImageOps
    from torchvision.transforms.functional import pil_to_tensor

    try:
        with Image.open(path) as opened:
            if opened.mode.startswith(("I", "F")):
                raise DataError(
                    f"{path} has {opened.mode} pixels, more than 8 bits each",
                    hint="convert it to 8 bits, or read it as an array with data:array",
                )
            image: Any = ImageOps.exif_transpose(opened).convert("L" if grey else "RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} can't be read as an image: {error}", hint="repair or remove the file") from error
    if size is not None:
        shape = (size, size)
        way = Image.Resampling.BICUBIC
        image = ImageOps.fit(image, shape, way) if crop else image.resize(shape, way)
    pixels: Tensor = pil_to_tensor(image)
    return pixels
