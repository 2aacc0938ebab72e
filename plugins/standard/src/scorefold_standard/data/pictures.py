"""Encoded images with their classes, wherever they are: in folders, in tar files, in saved datasets."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from scorefold.artefacts import digest_folder, files_in
from scorefold.errors import DataError
from scorefold_standard.data.array_stores import column_types
from scorefold_standard.data.stored import digest_files, unchanged_files
from scorefold_toolkit.libraries import library

_TABLES = {".npy", ".npz", ".csv", ".tsv", ".parquet"}
_SPLIT_NAMES = {"train", "val", "valid", "validation", "test"}
_PADDING = 512
"""The size of the blocks that a tar file is made of; two empty ones are its end."""

_DIGITS = 6
"""Of the number of a class at most: every number up to the greatest is a class."""


@dataclass(frozen=True, eq=False)
class EncodedImages:
    """``count`` images: ``read(row)`` gives the name of one for errors, and its bytes where it is no file of that name.

    ``rows`` names each for the user; ``label`` (N,) are the classes, called ``classes``; None and () where there are
    none. ``digest`` is the digest of the files.
    """

    rows: Sequence[object]
    read: Callable[[int], tuple[Path, bytes | None]]
    label: Tensor | None
    classes: Sequence[str]
    digest: Callable[[], str]

    @property
    def count(self) -> int:
        return len(self.rows)


def folder_pictures(root: Path) -> EncodedImages:
    """The images of a folder; sub-folders, where there are any, are the classes."""
    files, classes = list_images(root)
    label = torch.tensor([label for _, label in files]) if classes else None
    names = [str(path.relative_to(root)) for path, _ in files]
    return EncodedImages(names, lambda row: (files[row][0], None), label, classes, lambda: digest_folder(root))


@dataclass(frozen=True)
class _Sample:
    """Image of a tar file: its start, its number of bytes, its name and its class."""

    start: int
    size: int
    name: str
    label: int | None


def tar_pictures(files: Sequence[Path]) -> EncodedImages:
    """The images of tar files in the layout of WebDataset, one file after the other.

    A sample is an image and, where there is one, a class: files of one name up to its first dot, ``000.jpg`` and
    ``000.cls``, which holds a whole number from 0; other files of a sample are passed over. What is where is noted
    once; images are then read one by one. Raises ``DataError``, which names the tar file, for one that is cut off or
    compressed, two images of a sample, and a class that is missing or no number.
    """
    found = [(file, sample) for file in files for sample in _samples(file)]
    if not found:
        raise DataError(f"{', '.join(map(str, files[:3]))} hold no images (.png, .jpg and others that Pillow reads)")
    labels = [sample.label for _, sample in found if sample.label is not None]
    if 0 < len(labels) < len(found):
        file, sample = next((file, sample) for file, sample in found if sample.label is None)
        raise DataError(
            f"{sample.name} of {file} has no class, and other images have one",
            hint="write a .cls file for every image, or for none",
        )

    check = unchanged_files(files)

    def read(row: int) -> tuple[Path, bytes]:
        file, sample = found[row]
        check(file)
        with file.open("rb") as opened:
            opened.seek(sample.start)
            content = opened.read(sample.size)
        return file / sample.name, content

    label = torch.tensor(labels) if labels else None
    classes = [str(number) for number in range(max(labels, default=-1) + 1)]
    names = [f"{sample.name} of {file.name}" if len(files) > 1 else sample.name for file, sample in found]
    return EncodedImages(names, read, label, classes, lambda: digest_files(files))


def _samples(file: Path) -> list[_Sample]:
    """The images of a tar file, in order."""
    from torchvision.datasets.folder import is_image_file

    found: dict[str, dict[str, tarfile.TarInfo]] = {}
    try:
        with tarfile.open(file, mode="r:") as tar, file.open("rb") as content:
            end = 0
            for member in tar:
                end = member.offset_data + -(-member.size // _PADDING) * _PADDING
                folder, _, name = member.name.rpartition("/")
                key, _, kind = name.partition(".")
                what = "image" if is_image_file(name) else kind.lower()
                if not key or what not in ("image", "cls"):
                    continue
                if not member.isreg() or member.issparse():
                    raise DataError(
                        f"{member.name} of {file} is no plain file", hint="save it as a file, not as a link"
                    )
                parts = found.setdefault(f"{folder}/{key}", {})
                if what in parts:
                    raise DataError(
                        f"{file} holds {parts[what].name} and {member.name} of one sample; expected one {what} of each",
                        hint="name samples differently up to their first dot, and keep one image of each",
                    )
                parts[what] = member
            content.seek(end)
            if len(ending := content.read(2 * _PADDING)) < 2 * _PADDING or any(ending):
                raise DataError(f"{file} is cut off: the end of a tar file is missing", hint="copy it again")
            return [
                _Sample(image.offset_data, image.size, image.name, _label(file, content, parts.get("cls")))
                for parts in found.values()
                if (image := parts.get("image")) is not None
            ]
    except (tarfile.TarError, OSError) as error:
        raise DataError(
            f"{file} can't be read as a tar file: {error}",
            hint="copy it again; unpack a compressed one (gunzip), as images are looked up by their places in it",
        ) from error


def _label(file: Path, content: BinaryIO, member: tarfile.TarInfo | None) -> int | None:
    if member is None:
        return None
    content.seek(member.offset_data)
    text = content.read(member.size)
    if not text.strip().isdigit() or len(text.strip()) > _DIGITS:
        raise DataError(
            f"{member.name} of {file} holds {text[:20]!r}; expected a whole number from 0 to {10**_DIGITS - 1}",
            hint="write the number of the class as text into each .cls file",
        )
    return int(text)


def saved_pictures(folder: Path) -> EncodedImages:
    """The images of a folder that Hugging Face's datasets saved: of its one column of the type Image, with the classes
    of its one column of the type ClassLabel, if any.

    Raises ``DataError`` where there is another number of such columns, and for images that are kept elsewhere.
    """
    with library(f"the saved dataset {folder}", "scorefold-standard[parquet]"):
        from scorefold_standard.data.arrow_tables import saved_frames
    frames = saved_frames(folder)
    features = column_types(folder)
    images, labels = (
        [name for name in frames.schema.names if features.get(name, {}).get("_type") == kind]
        for kind in ("Image", "ClassLabel")
    )
    hint = "keep the columns to read with dataset.select_columns([...]) and save again"
    if len(images) != 1 or len(labels) > 1:
        raise DataError(
            f"{folder} has {len(images)} columns of images and {len(labels)} of classes; expected one, and one or none",
            hint=hint if images else "its numbers are read by data:array",
        )
    starts = np.cumsum([0, *(block.rows for block in frames.blocks)])
    check = unchanged_files(frames.files)

    def read(row: int) -> tuple[Path, bytes]:
        number = int(np.searchsorted(starts, row, side="right")) - 1
        block = frames.blocks[number]
        check(block.path)
        value = frames.read(block, images).column(0)[row - int(starts[number])].as_py() or {}
        if not value.get("bytes"):
            raise DataError(
                f"row {row} of {folder} holds no image"
                + (f" but the path {path}" if (path := value.get("path")) else ""),
                hint="save the dataset with its images in it: dataset.cast_column(name, Image()) and save_to_disk",
            )
        return block.path / f"image {row}", value["bytes"]

    label = torch.from_numpy(frames.column(labels[0]).astype(np.int64)) if labels else None
    classes = [str(name) for name in features[labels[0]].get("names") or []] if labels else []
    if label is not None and (int(label.min()) < 0 or int(label.max()) >= len(classes)):
        raise DataError(f"column {labels[0]!r} of {folder} has classes outside 0 to {len(classes) - 1}", hint=hint)
    return EncodedImages(range(int(starts[-1])), read, label, classes, lambda: digest_files(frames.files))


def list_images(root: Path) -> tuple[list[tuple[Path, int]], list[str]]:
    """The image files under a folder with their class, and the names of the classes (none for a flat folder).

    They are among the files that the fingerprint is of (``files_in``), links included.
    """
    from torchvision.datasets.folder import IMG_EXTENSIONS, is_image_file

    if not root.is_dir():
        raise DataError(
            f"{root} isn't a folder",
            hint="a relative path starts at the run file, elsewhere at the working folder",
        )
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
        tables = sorted(path for path in files_in(root) if path.suffix.lower() in _TABLES)
        hint = f"it holds numbers: give a file, such as {tables[0]}" if tables else None
        if len(tables) > 1 and tables[0].suffix in (".npy", ".parquet"):
            hint = f"it holds arrays: give them by a pattern, '{tables[0].parent}/*{tables[0].suffix}'"
        looked = f"(looked for {', '.join(IMG_EXTENSIONS)}, in it and its sub-folders)"
        raise DataError(f"{root} holds no images {looked}", hint=hint)
    classes = sorted({folder for folder, _, _ in nested})
    number = {name: place for place, name in enumerate(classes)}
    if set(map(str.lower, classes)) <= _SPLIT_NAMES and len(classes) > 1:
        raise DataError(
            f"the sub-folders of {root} are {', '.join(classes)}, which are splits and not classes",
            hint=f"root: {root / classes[0]} (the splits are drawn by 'fractions')",
        )
    return [(path, number[folder]) for folder, _, path in nested], classes
