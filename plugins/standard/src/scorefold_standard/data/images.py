"""Images from a folder, from tar files or from a saved dataset."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold.errors import ConfigError, DataError
from scorefold.interfaces import DataSource
from scorefold.summary import DataSummary
from scorefold_standard.data.array_stores import is_saved_dataset
from scorefold_standard.data.config import ImagesConfig
from scorefold_standard.data.pictures import EncodedImages, folder_pictures, saved_pictures, tar_pictures
from scorefold_standard.data.pixels import PixelUnits, class_condition, image_splits
from scorefold_standard.data.stored import matching_files
from scorefold_toolkit.data.images import image_size, read_image
from scorefold_toolkit.data.splits import of_classes, pick, source_seed, split_positions

_LOOKED_AT = 1000  # images whose sizes are read
_TRIED = 20_000  # images that are tried after one could not be read
_NAMED = 5
_TINY = 4  # how many times smaller than half of the sizes one is that all images are not reduced to
_LARGE = 256  # the largest side that images of several sizes are looked at in
_UNREAD = "can't be read as an image"
_SKIP = "damaged: skip (in commands: --data-option damaged=skip)"


class ImageFolder(DataSource):
    """Images as events (C, H, W), of a folder (sub-folders, where there are any, are the classes), of tar files in the
    layout of WebDataset, or of a dataset that Hugging Face's ``save_to_disk`` wrote.

    Images stand in the order of the file names, in tar files and datasets in the order of samples; ``index`` counts so.
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
        self._skipped = self._damaged(kept) if config.damaged == "skip" else {}
        kept = kept[~torch.isin(kept, torch.tensor(list(self._skipped), dtype=torch.long))]
        if len(kept) == 0:
            raise self._refused(self._skipped, len(self._skipped))
        sample, first = self._readable(int(kept[0]), kept)
        shape = self.event_shape = tuple(first.shape)

        def read(rows: Tensor) -> Tensor:
            images = [first.new_empty(0, *shape)]
            for row in rows.tolist():
                path, image = self._readable(row, kept)
                if image.shape != first.shape:
                    size, least = f"{image.shape[1]} x {image.shape[2]}", min(*shape[1:], *image.shape[1:])
                    raise DataError(
                        f"{path} has {size} pixels (height x width) and {sample.name} {shape[1]} x {shape[2]}",
                        hint=f"size: {least} resizes all images to one size (in commands: --data-option size={least})",
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
            PixelUnits(*config.range, raw_high=255.0, levels=256),
            label=label,
            condition=condition,
            memory=config.memory,
            workers=config.workers,
        )

    def _read(self, row: int) -> tuple[Path, Tensor]:
        """The name of an image and its pixels."""
        config, (path, content) = self._config, self._pictures.read(row)
        return path, read_image(path, content, size=config.size, crop=config.crop, grey=config.grey, box=config.box)

    def _readable(self, row: int, kept: Tensor) -> tuple[Path, Tensor]:
        """As ``_read``; of the kept images all that can't be read are named where one can't."""
        try:
            return self._read(row)
        except DataError as error:
            if _UNREAD not in error.message:
                raise
            found = self._damaged(kept) if len(kept) <= _TRIED else {}
            raise self._refused(found, len(kept)) if len(found) > 1 else _with_skip(error) from None

    def _damaged(self, rows: Tensor) -> dict[int, str]:
        """The images among some rows that can't be read, each with the reason."""
        found = {}
        for row in rows.tolist():
            try:
                self._read(row)
            except DataError as error:
                if _UNREAD not in error.message:
                    raise
                found[row] = error.message
        return found

    def _refused(self, damaged: Mapping[int, str], count: int) -> DataError:
        reasons: dict[str, list[str]] = {}
        for message in list(damaged.values())[:_NAMED]:
            name, _, reason = message.partition(f" {_UNREAD}")
            reasons.setdefault(reason.lstrip(":; "), []).append(name)
        named = "; ".join(f"{', '.join(names)} ({reason})" for reason, names in reasons.items())
        named += f"; and {len(damaged) - _NAMED} more" * (len(damaged) > _NAMED)
        hint = f"repair or remove these files, or leave them out: {_SKIP}"
        if len(damaged) == count:
            hint = "give files that programs for images open"
        return DataError(f"{len(damaged)} of {_images(count)} can't be read: {named}", hint=hint)

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the source so that its files are opened and split again."""
        return type(self), (self._config.model_copy(update={"seed": self._seed}),)

    def load(self, split: str) -> Dataset:
        return pick(self._splits, split)

    @cached_property
    def _resized(self) -> str | None:
        """Resizing of images that are not square or of several sizes; of many images, some are checked."""
        if self._config.size is None:
            return None
        sizes = _sizes(self._pictures)
        if len(sizes) < 2 and all(width == height for width, height in sizes):
            return None
        many = _texts(sizes)
        new = f"{self._config.size} x {self._config.size}"
        if self._config.crop:
            return (
                f"the images have {many}: each is cut to its centred square, then resized to {new}. crop: false keeps "
                "the whole image and distorts it"
            )
        return f"the images have {many}: each is resized to {new}, which distorts those that are not square"

    def data_warnings(self) -> tuple[str, ...]:
        found = [] if self._resized is None else [self._resized]
        if self._skipped:
            names = ", ".join(str(self._pictures.rows[row]) for row in list(self._skipped)[:_NAMED])
            more = f" and {len(self._skipped) - _NAMED} more" if len(self._skipped) > _NAMED else ""
            are = "is" if len(self._skipped) == 1 else "are"
            found.insert(0, f"{_images(len(self._skipped))} can't be read and {are} left out: {names}{more}")
        return tuple(found)

    @classmethod
    def inspect(cls, config: ImagesConfig) -> DataSummary:
        """Summary of a folder; images of several sizes are checked in a common size, and classes are named."""
        pictures = _pictures(config.root.expanduser())
        seen = cls._inspect_sizes(config, _sizes(pictures) if config.size is None else set())
        if len(pictures.classes) < 2:
            return seen
        shown = ", ".join(pictures.classes[:_NAMED]) + ", ..." * (len(pictures.classes) > _NAMED)
        text = (
            f"the images have {len(pictures.classes)} classes ({shown}): by: label answers for each, and "
            "data:few-shot makes tasks of them, for the question how many labels a task needs"
        )
        return replace(seen, warnings=(*seen.warnings, text))

    @classmethod
    def _inspect_sizes(cls, config: ImagesConfig, sizes: set[tuple[int, int]]) -> DataSummary:
        if len(sizes) < 2:
            return cls(config).summary()
        side = _common_side(sizes)
        seen = cls(config.model_copy(update={"size": side})).summary()
        kept = [text for text in seen.warnings if not text.startswith("the images have ")]
        text = f"the images have {_texts(sizes)}: size: {side} makes all of them {side} x {side}, as in this summary"
        text += ", and enlarges the smallest" * (min(map(min, sizes)) < side)
        return replace(seen, warnings=(text, *kept))

    def fingerprint(self) -> str:
        return self._pictures.digest()


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"


def _with_skip(error: DataError) -> DataError:
    return DataError(error.message, hint=f"{error.hint}, or leave unreadable images out: {_SKIP}")


def _sizes(pictures: EncodedImages) -> set[tuple[int, int]]:
    """The widths and heights of images; of many, some are looked at."""
    looked = map(pictures.read, range(0, pictures.count, max(1, pictures.count // _LOOKED_AT)))
    return {size for path, content in looked if (size := image_size(path, content)) is not None}


def _common_side(sizes: set[tuple[int, int]]) -> int:
    """The least shorter side of images, those far smaller than half of the sizes left out; at most ``_LARGE``."""
    sides = sorted(map(min, sizes))
    usual = sides[len(sides) // 2]
    return min(_LARGE, next(side for side in sides if _TINY * side >= usual))


def _texts(sizes: set[tuple[int, int]]) -> str:
    texts = [f"{width} x {height}" for width, height in sorted(sizes, key=math.prod)]
    return f"{len(sizes)} sizes from {texts[0]} to {texts[-1]}" if len(sizes) > 1 else f"the size {texts[0]}"


def _pictures(root: Path) -> EncodedImages:
    """The images of a folder, of a saved dataset, or of the tar files that a pattern names."""
    if root.is_dir():
        return saved_pictures(root) if is_saved_dataset(root) else folder_pictures(root)
    if root.suffix.lower() != ".tar":
        raise DataError(
            f"{root} isn't a folder and doesn't end with .tar; expected a folder of images, or tar files of them",
            hint="a relative path starts at the run file, elsewhere at the working folder; gunzip unpacks .tar.gz",
        )
    return tar_pictures(matching_files(str(root), "images"))
