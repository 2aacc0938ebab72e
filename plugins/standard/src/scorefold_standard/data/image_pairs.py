"""Pairs of images from files: an image as the event, and what it is to be made from as its condition."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from scorefold.artefacts import digest_folder, files_in
from scorefold.data import Dataset, StreamedDataset, TensorSpec
from scorefold.errors import DataError
from scorefold.interfaces import DataSource
from scorefold_standard.config.data import ImagePairsConfig
from scorefold_standard.data.pixels import image_splits
from scorefold_standard.data.units import Units
from scorefold_toolkit.data.images import image_size, read_image
from scorefold_toolkit.data.splits import moments, pick, source_seed, split_positions

_MEASURED = 2048  # training images that the scale is measured on
Box = tuple[int, int, int, int]
Pair = tuple[tuple[Path, Box | None], tuple[Path, Box | None]]


class ImagePairs(DataSource):
    """Pairs of images (C, size, size), A and B: of one file whose left half is A, as pix2pix publishes them, or of two
    files of one name in the folders A and B. B is the event and A its condition, the other way round with
    ``direction: b-to-a``.

    All images below ``root`` are taken, in the order of their names, and split by ``fractions``. The scale's moments
    are those of the events. Raises ``DataError`` for a folder without pairs, a file without a partner and one that
    can't be decoded.

    >>> import tempfile
    >>> from PIL import Image
    >>> from scorefold_registry import Host
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for number in range(20):
    ...         Image.new("RGB", (32, 16), color=(number, 0, 0)).save(f"{folder}/{number}.png")
    ...     pairs = Host.discover().create("data:image-pairs", {"root": folder, "size": 8})
    ...     pairs.load("train"), pairs.load("train").condition.shape
    (Dataset(16 of shape (3, 8, 8), condition, index), torch.Size([16, 3, 8, 8]))
    """

    def __init__(self, config: ImagePairsConfig, *, generator: torch.Generator | None = None) -> None:
        self._config, self._root = config, config.root.expanduser()
        self._files = _pairs_of(self._root, config.layout)
        self.rows = [str(pair[0][0].relative_to(self._root)) for pair in self._files]
        channels = 1 if config.grey else 3
        self.event_shape = (channels, config.size, config.size)
        self.condition_spec = TensorSpec(self.event_shape)
        self._seed = seed = source_seed(config.seed, generator)
        units = Units(*config.range, raw_high=255.0, levels=256)
        self._splits, scale = image_splits(
            self._read,
            (2 * channels, config.size, config.size),
            split_positions(len(self._files), config.fractions, seed, config.limit),
            units,
            memory=config.memory,
            workers=config.workers,
        )
        mean, std = moments(self.load("train").tensor(_MEASURED), bounded=scale.bounded)
        self.event_scale = replace(scale, mean=mean, std=std)

    def _read(self, rows: Tensor) -> Tensor:
        """Events over their conditions, (n, 2 C, size, size)."""
        config = self._config
        images = [torch.empty(0, 2 * self.event_shape[0], config.size, config.size, dtype=torch.uint8)]
        for row in rows.tolist():
            sides = [
                read_image(path, size=config.size, crop=config.crop, grey=config.grey, box=box)
                for path, box in self._files[row]
            ]
            images.append(torch.cat(sides[:: -1 if config.direction == "a-to-b" else 1])[None])
        return torch.cat(images)

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the source so that its files are opened and split again."""
        return type(self), (self._config.model_copy(update={"seed": self._seed}),)

    def load(self, split: str) -> Dataset:
        both = pick(self._splits, split)
        if not isinstance(both, StreamedDataset):
            return self._parted(both)
        return replace(both, x=both.x[:, : self.event_shape[0]], fetch=lambda rows: self._parted(both.take(rows)))

    def _parted(self, both: Dataset) -> Dataset:
        channels = self.event_shape[0]
        return replace(both, x=both.x[:, :channels], condition=both.x[:, channels:])

    def fingerprint(self) -> str:
        return digest_folder(self._root)


def _pairs_of(root: Path, layout: str) -> list[Pair]:
    """A and B of each pair: a file and the part of it that counts, None for all."""
    from torchvision.datasets.folder import is_image_file

    if not root.is_dir():
        raise DataError(
            f"{root} isn't a folder", hint="a relative path starts at the run file, elsewhere at the working folder"
        )
    images = sorted(path for path in files_in(root) if is_image_file(path.name))
    if layout == "folders":
        sides = [
            {path.relative_to(root / side).with_suffix(""): path for path in images if root / side in path.parents}
            for side in "AB"
        ]
        alone = sorted(sides[0].keys() ^ sides[1].keys())
        if alone:
            side = "A" if alone[0] in sides[0] else "B"
            raise DataError(
                f"{alone[0]} is in {root / side} only; expected an image of that name in both folders, A and B",
                hint="add its partner or remove it",
            )
        found: list[Pair] = [((sides[0][name], None), (sides[1][name], None)) for name in sorted(sides[0])]
    else:
        found = [_halves(path) for path in images]
    if not found:
        hint = "layout: folders expects images in A and B" if layout == "folders" else None
        raise DataError(f"{root} holds no pairs of images", hint=hint)
    return found


def _halves(path: Path) -> Pair:
    size = image_size(path)
    if size is None or size[0] % 2:
        text = "can't be read" if size is None else f"is {size[0]} pixels wide"
        raise DataError(
            f"{path} {text}; expected an image whose left half is A and whose right half is B",
            hint="layout: folders, for pairs in two folders",
        )
    half, height = size[0] // 2, size[1]
    return (path, (0, 0, half, height)), (path, (half, 0, 2 * half, height))
