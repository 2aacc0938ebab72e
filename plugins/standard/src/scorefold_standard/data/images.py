"""Images from a folder, from tar files or from a saved dataset."""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold.errors import ConfigError, DataError
from scorefold.interfaces import DataSource
from scorefold_standard.config.data import ImagesConfig
from scorefold_standard.data.array_stores import is_saved_dataset
from scorefold_standard.data.pictures import Pictures, folder_pictures, saved_pictures, tar_pictures
from scorefold_standard.data.pixels import image_splits
from scorefold_standard.data.shards import files_of
from scorefold_standard.data.units import Units, class_condition
from scorefold_toolkit.data.images import image_size, read_image
from scorefold_toolkit.data.splits import of_classes, pick, source_seed, split_positions

_LOOKED_AT = 1000  # images whose sizes are read


class ImageFolder(DataSource):
    """Images as events (C, H, W), of a folder (sub-folders, where there are any, are the classes), of tar files in the
    layout of WebDataset, or of a dataset that Hugging Face's ``save_to_disk`` wrote.

    The order is that of the file names, in tar files and datasets that of their samples, and ``index`` counts in it.
    Those that do not fit in ``memory`` are decoded by ``workers`` threads as they are needed, in any order: each image
    is read by itself. Raises ``DataError`` where there are no images, for one that can't be decoded, and for images of
    several sizes where no size is given.

    >>> import tempfile
    >>> from PIL import Image
    >>> from scorefold_registry import Host
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for number in range(20):
    ...         Image.new("L", (8, 8), color=number).save(f"{folder}/{number}.png")
    ...     Host.discover().create("data:images", {"root": folder, "size": 4, "grey": True}).load("train")
    Dataset(16 of shape (1, 4, 4), index)
    """

    def __init__(self, config: ImagesConfig, *, generator: torch.Generator | None = None) -> None:
        root = config.root.expanduser()
        self._config, self._pictures = config, _pictures(root)
        label, classes = self._pictures.label, self._pictures.classes
        self.label_names, self.rows = classes or None, self._pictures.rows
        if config.classes is not None and label is None:
            raise ConfigError(
                f"classes are chosen, and {root} has none",
                hint="one sub-folder of images a class (in tar files, .cls files), or leave classes out",
            )
        count = self._pictures.count
        kept = torch.arange(count) if label is None else of_classes(label, config.classes, classes)
        sample, first = self._read(int(kept[0]))
        shape = self.event_shape = tuple(first.shape)

        def read(rows: Tensor) -> Tensor:
            images = [first.new_empty(0, *shape)]
            for row in rows.tolist():
                path, image = self._read(row)
                if image.shape != first.shape:
                    size = f"{image.shape[1]} x {image.shape[2]}"
                    raise DataError(
                        f"{path} has {size} pixels and {sample.name} {shape[1]} x {shape[2]}",
                        hint="set 'size' to resize all images to one size",
                    )
                images.append(image[None])
            return torch.cat(images)

        condition, self.condition_spec = class_condition(config.condition == "label", label, len(classes))
        self._seed = seed = source_seed(config.seed, generator)
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

    def _read(self, row: int) -> tuple[Path, Tensor]:
        """The name of an image and its pixels."""
        config, (path, content) = self._config, self._pictures.read(row)
        return path, read_image(path, content, size=config.size, crop=config.crop, grey=config.grey, box=config.box)

    def __reduce__(self) -> tuple[object, ...]:
        """Where it is sent its files are opened again, and split as here."""
        return type(self), (self._config.model_copy(update={"seed": self._seed}),)

    def load(self, split: str) -> Dataset:
        return pick(self._splits, split)

    @cached_property
    def _resized(self) -> str | None:
        """What is done to images that are not square or of several sizes; of many, some are looked at."""
        if self._config.size is None:
            return None
        count = self._pictures.count
        looked = map(self._pictures.read, range(0, count, max(1, count // _LOOKED_AT)))
        sizes = {size for path, content in looked if (size := image_size(path, content)) is not None}
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
        return self._pictures.digest()


def _pictures(root: Path) -> Pictures:
    """The images of a folder, of a saved dataset, or of the tar files that a pattern names."""
    if root.is_dir():
        return saved_pictures(root) if is_saved_dataset(root) else folder_pictures(root)
    if root.suffix.lower() != ".tar":
        raise DataError(
            f"{root} isn't a folder and doesn't end with .tar; expected a folder of images, or tar files of them",
            hint="a relative path starts at the run file, elsewhere at the working folder; gunzip unpacks .tar.gz",
        )
    return tar_pictures(files_of(str(root), "images"))
