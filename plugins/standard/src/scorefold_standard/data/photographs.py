"""Patches of scikit-learn's two photographs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold.errors import ConfigError
from scorefold.interfaces import DataSource
from scorefold.interfaces.data import SPLITS
from scorefold.seeds import derive_generator
from scorefold_standard.config.data import PhotographsConfig
from scorefold_standard.data.units import Units
from scorefold_toolkit.data.splits import measured_split, moments, pick, source_seed, split_sizes


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
        units = Units(*config.range, raw_high=255.0, levels=256)
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
    pictures: Tensor, band: tuple[int, int], count: int, first: int, size: int, units: Units, seed: int, name: str
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
