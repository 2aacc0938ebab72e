"""Images from a folder."""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from scorefold.artefacts import digest_folder, files_in
from scorefold.data import Dataset
from scorefold.errors import ConfigError, DataError
from scorefold.interfaces import DataSource
from scorefold_standard.data.pixels import image_splits
from scorefold_standard.data.units import Units, class_condition
from scorefold_standard.data_config import ImagesConfig
from scorefold_toolkit.data.images import image_size, read_image
from scorefold_toolkit.data.splits import of_classes, pick, source_seed, split_positions

_LOOKED_AT = 1000  # images whose sizes are read
_SPLIT_NAMES = {"train", "val", "valid", "validation", "test"}


class ImageFolder(DataSource):
    """The images of a folder as events (C, H, W); sub-folders, where there are any, are the classes.

    The order is that of the file names, and ``index`` counts in it. Raises ``DataError`` for a folder without images, a
    file that can't be decoded, and images of several sizes where no size is given.
    """

    def __init__(self, config: ImagesConfig, *, generator: torch.Generator | None = None) -> None:
        self._root = Path(config.root).expanduser()
        files, classes = list_images(self._root)
        self._config, self._files = config, files
        label = torch.tensor([label for _, label in files]) if classes else None
        self.label_names = classes or None
        if config.classes is not None and label is None:
            raise ConfigError(
                f"classes are chosen, and {self._root} has none",
                hint="one sub-folder of images a class, or leave classes out",
            )
        kept = torch.arange(len(files)) if label is None else of_classes(label, config.classes, classes)
        sample = files[int(kept[0])][0]
        first = read_image(sample, size=config.size, crop=config.crop, grey=config.grey)
        shape = self.event_shape = tuple(first.shape)

        def read(rows: Tensor) -> Tensor:
            images = [first.new_empty(0, *shape)]
            for row in rows.tolist():
                path = files[row][0]
                image = read_image(path, size=config.size, crop=config.crop, grey=config.grey)
                if image.shape != first.shape:
                    size = f"{image.shape[1]} x {image.shape[2]}"
                    raise DataError(
                        f"{path} has {size} pixels and {sample.name} {shape[1]} x {shape[2]}",
                        hint="set 'size' to resize all images to one size",
                    )
                images.append(image[None])
            return torch.cat(images)

        condition, self.condition_spec = class_condition(config.condition == "label", label, len(classes))
        seed = source_seed(config.seed, generator)
        self._splits, self.event_scale = image_splits(
            read,
            shape,
            {
                name: kept[rows]
                for name, rows in split_positions(len(kept), config.fractions, seed, config.limit).items()
            },
            Units(*config.range, raw_high=255.0, levels=256),
            label=label,
            condition=condition,
            memory=config.memory,
            workers=config.workers,
        )

    def load(self, split: str) -> Dataset:
        return pick(self._splits, split)

    @cached_property
    def _resized(self) -> str | None:
        """What is done to images that are not square or of several sizes; of many, some are looked at."""
        if self._config.size is None:
            return None
        files = [path for path, _ in self._files[:: max(1, len(self._files) // _LOOKED_AT)]]
        sizes = {size for path in files if (size := image_size(path)) is not None}
        if len(sizes) < 2 and all(width == height for width, height in sizes):
            return None
        ordered = sorted(sizes, key=math.prod)
        texts = [f"{width} x {height}" for width, height in ordered]
        many = f"{len(sizes)} sizes from {texts[0]} to {texts[-1]}" if len(sizes) > 1 else f"the size {texts[0]}"
        new = f"{self._config.size} x {self._config.size}"
        if self._config.crop:
            return (
                f"the images have {many}: each is cut to its centred square, then resized to {new}. crop: false keeps "
                "the whole image and distorts it"
            )
        return f"the images have {many}: each is resized to {new}, which distorts those that are not square"

    def data_warnings(self) -> tuple[str, ...]:
        return () if self._resized is None else (self._resized,)

    def fingerprint(self) -> str:
        return digest_folder(self._root)


def list_images(root: Path) -> tuple[list[tuple[Path, int]], list[str]]:
    """The image files under a folder with their class, and the names of the classes (none for a flat folder).

    They are among the files that the fingerprint is of (``files_in``), links included.
    """
    from torchvision.datasets.folder import IMG_EXTENSIONS, is_image_file

    if not root.is_dir():
        raise DataError(f"{root} isn't a folder", hint="a relative path starts at the working folder")
    images = [path for path in files_in(root) if is_image_file(path.name)]
    flat = sorted(path for path in images if path.parent == root)
    below = [(path, path.relative_to(root).parts[0]) for path in images if path.parent != root]
    nested = sorted((folder, path.parent, path) for path, folder in below if not folder.startswith("."))
    if flat and nested:
        raise DataError(
            f"{root} holds images and also sub-folders of images; expected one or the other",
            hint="move the images into sub-folders, one a class, or point root at one of the folders",
        )
    if flat:
        return [(path, 0) for path in flat], []
    if not nested:
        raise DataError(f"{root} holds no images (looked for {', '.join(IMG_EXTENSIONS)}, in it and its sub-folders)")
    classes = sorted({folder for folder, _, _ in nested})
    number = {name: place for place, name in enumerate(classes)}
    if set(map(str.lower, classes)) <= _SPLIT_NAMES and len(classes) > 1:
        raise DataError(
            f"the sub-folders of {root} are {', '.join(classes)}, which are splits and not classes",
            hint=f"root: {root / classes[0]} (the splits are drawn by 'fractions')",
        )
    return [(path, number[folder]) for folder, _, path in nested], classes
