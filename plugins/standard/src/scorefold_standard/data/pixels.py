"""scikit-learn's digits and photographs, and what sources of images share: units of pixels, splits held or streamed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefold.data import Condition, Dataset, EventScale, StreamedDataset, TensorSpec, index_condition
from scorefold.errors import ConfigError, DataError
from scorefold.interfaces import DataSource
from scorefold.interfaces.data import SPLITS
from scorefold.seeds import derive_generator
from scorefold_standard.data.config import DigitsConfig, PhotographsConfig
from scorefold_toolkit.data.splits import measured_split, moments, pick, source_seed, split_positions, split_sizes


@dataclass(frozen=True)
class PixelUnits:
    """Map from raw values in [0, raw_high] to values in [low, high]: x = (raw - shift) / factor."""

    low: float
    high: float
    raw_high: float
    levels: int

    @property
    def factor(self) -> float:
        return self.raw_high / (self.high - self.low)

    def apply(self, raw: Tensor) -> Tensor:
        """Raw values of any dtype as float32 values in [low, high]."""
        return raw.float() / self.factor + self.low

    def scale(self, mean: float, std: float) -> EventScale:
        return EventScale(
            low=self.low,
            high=self.high,
            levels=self.levels,
            mean=mean,
            std=std,
            shift=-self.low * self.factor,
            factor=self.factor,
        )


def class_condition(wanted: bool, label: Tensor | None, classes: int) -> tuple[Condition | None, TensorSpec | None]:
    """The label as a condition and its specification, or (None, None)."""
    if not wanted:
        return None, None
    if label is None:
        raise DataError(
            "the condition is the class, but these data have no classes",
            hint="remove 'condition', or give classes (sub-folders of images, or a label column)",
        )
    return label, TensorSpec((), classes=classes)


_SAMPLE = 2048  # training images that the scale of streamed data is measured on
_BATCH = 256


def resized_images(images: Tensor, size: int | None) -> Tensor:
    """Images (N, C, H, W) of bytes at size x size, by bicubic interpolation, antialiased; as they are for None."""
    if size is None or images.shape[2:] == (size, size):
        return images
    smooth = torch.nn.functional.interpolate(images.float(), (size, size), mode="bicubic", antialias=True)
    return smooth.round().clamp(0, 255).to(torch.uint8)


def image_splits(
    read: Callable[[Tensor], Tensor],
    shape: tuple[int, ...],
    positions: Mapping[str, Tensor],
    units: PixelUnits,
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
                x=_read(split, shape),
                condition=index_condition(condition, positions[name]),
                label=None if label is None else label[positions[name]],
                index=positions[name],
            )
            for name, split in splits.items()
        }
    train = splits["train"]
    sample = train.tensor(_SAMPLE) if isinstance(train, StreamedDataset) else train.x
    return splits, units.scale(*moments(sample))


def _read(split: Dataset, shape: tuple[int, ...]) -> Tensor:
    """All images of a streamed split, (n, *shape), without a second copy of them."""
    x, start = torch.empty(len(split), *shape), 0
    for batch in split.batches(_BATCH):
        x[start : start + len(batch)] = batch.x
        start += len(batch)
    return x


class Digits(DataSource):
    """1,797 digits as images (1, 8, 8), or vectors (64), with 17 grey levels; the label is the digit.

    ``index`` is the position in scikit-learn's array.

    >>> from scorefold_registry import Host
    >>> binary = Host.discover().create("data:digits", {"digits": [0, 1]})
    >>> binary.event_shape, binary.load("test").label.unique().tolist()
    ((1, 8, 8), [0, 1])
    """

    label_names = tuple(map(str, range(10)))

    def __init__(self, config: DigitsConfig, *, generator: torch.Generator | None = None) -> None:
        from sklearn.datasets import load_digits

        raw, target = load_digits(return_X_y=True)
        label = torch.from_numpy(target).long()
        index, self.rows = torch.arange(len(label)), range(len(label))
        if config.digits is not None:
            index = index[torch.isin(label, torch.tensor(config.digits, dtype=torch.long))]
        units = PixelUnits(*config.range, raw_high=16.0, levels=17)
        self.event_shape = (64,) if config.flatten else (1, 8, 8)
        x = units.apply(torch.from_numpy(raw)[index]).reshape(-1, *self.event_shape)
        condition, self.condition_spec = class_condition(config.condition == "label", label[index], 10)
        dataset = Dataset(x=x, condition=condition, label=label[index], index=index)
        positions = split_positions(len(x), config.fractions, source_seed(config.seed, generator), config.limit)
        self._splits = {name: dataset.take(position) for name, position in positions.items()}
        self.event_scale = units.scale(*moments(measured_split(self._splits).x))

    def load(self, split: str) -> Dataset:
        return pick(self._splits, split)


class Photographs(DataSource):
    """Square patches as images (C, size, size).

    Each photograph is cut from left to right into one band a split, as wide as its fraction, and patches are drawn
    within the bands, so no two splits share a pixel; patches of one split may overlap. The label is the photograph,
    truth ``corner`` (N, 2) the row and column of each patch's first pixel.

    >>> from scorefold_registry import Host
    >>> Host.discover().create("data:photographs", {"size": 16, "points": 200}).load("test").x.shape
    torch.Size([30, 3, 16, 16])
    """

    def __init__(self, config: PhotographsConfig, *, generator: torch.Generator | None = None) -> None:
        pictures = read_photographs(config.grey)
        seed = source_seed(config.seed, generator)
        height, width = pictures.shape[2:]
        units = PixelUnits(*config.range, raw_high=255.0, levels=256)
        self.event_shape = (pictures.shape[1], config.size, config.size)
        counts = split_sizes(config.points, config.fractions)
        ends = list(itertools.accumulate(counts))
        self._splits: dict[str, Dataset] = {}
        for name, count, end, band in zip(SPLITS, counts, ends, bands(width, config.fractions), strict=True):
            if count and config.size > min(height, band[1] - band[0]):
                raise ConfigError(
                    f"patches of {config.size} pixels don't fit the {name} band of each photograph, "
                    f"{height} x {band[1] - band[0]} pixels",
                    hint=f"take smaller patches, or a larger fraction for {name}",
                )
            self._splits[name] = _patches(pictures, band, count, end - count, config.size, units, seed, name)
        self.event_scale = units.scale(*moments(measured_split(self._splits).x))

    def load(self, split: str) -> Dataset:
        return pick(self._splits, split)


def read_photographs(grey: bool) -> Tensor:
    """Both photographs as uint8, (2, 3, 427, 640), or (2, 1, 427, 640) in grey (Rec. 601 luma)."""
    from sklearn.datasets import load_sample_images
    from torchvision.transforms.functional import rgb_to_grayscale

    pictures = torch.stack([torch.tensor(picture) for picture in load_sample_images().images]).permute(0, 3, 1, 2)
    return rgb_to_grayscale(pictures) if grey else pictures


def bands(width: int, fractions: Sequence[float]) -> list[tuple[int, int]]:
    """The columns [first, last) of each split's band."""
    edges = [round(width * share) for share in itertools.accumulate(fractions, initial=0.0)]
    return list(itertools.pairwise(edges))


def _patches(
    pictures: Tensor, band: tuple[int, int], count: int, first: int, size: int, units: PixelUnits, seed: int, name: str
) -> Dataset:
    """``count`` patches within a band, numbered from ``first``."""
    draws = derive_generator(seed, "patches", name)
    picture = torch.randint(len(pictures), (count,), generator=draws)
    top = torch.randint(max(1, pictures.shape[2] - size + 1), (count,), generator=draws)
    left = band[0] + torch.randint(max(1, band[1] - band[0] - size + 1), (count,), generator=draws)
    rows = top[:, None, None] + torch.arange(size)[None, :, None]
    columns = left[:, None, None] + torch.arange(size)[None, None, :]
    raw = pictures.permute(0, 2, 3, 1)[picture[:, None, None], rows, columns].permute(0, 3, 1, 2)
    return Dataset(
        x=units.apply(raw),
        label=picture,
        index=torch.arange(first, first + count),
        truth={"corner": torch.stack([top, left], dim=1)},
    )
