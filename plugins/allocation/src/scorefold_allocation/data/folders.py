"""Few-shot tasks from folders of images, in the forms in which CIFAR-FS and mini-ImageNet are published."""

from __future__ import annotations

import csv
import hashlib
import math
import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import torch
from torch import Tensor

from scorefold.artefacts import digest_file
from scorefold.data import Dataset, EventScale, StreamedDataset
from scorefold.errors import DataError
from scorefold.interfaces import DataSource
from scorefold_allocation.data.batch import BatchedTasks, TaskBatch
from scorefold_allocation.data.classes import class_tasks, positions_by_class
from scorefold_allocation.data.config import FewShotFoldersConfig, NoisyTypeConfig
from scorefold_toolkit.data.images import read_image
from scorefold_toolkit.data.splits import moments, pick

_FILES = {"train": ("train",), "validation": ("val", "validation"), "test": ("test",)}
_MEASURED = 2048

Listed = list[tuple[Path, str]]
"""Image files with the names of their classes."""


class FewShotFolders(DataSource, BatchedTasks[NoisyTypeConfig]):
    """Images of folders as events (C, H, W), in splits that share no class; few-shot tasks draw on their classes.

    A label, as ordinary data, is the number of the class in order of name; the index counts files split by split, in
    the order of the lists. Images are decoded when they are read, but for splits that fit in memory. Raises
    ``DataError`` for lists that name what isn't there or one thing twice, classes in two splits, files that can't be
    decoded, and images of several sizes where no size is given.

    >>> from importlib.resources import files
    >>> from scorefold_registry import Host
    >>> root = str(files("scorefold_allocation") / "samples/few-shot")
    >>> source = Host.discover().create("data:few-shot-folders", {"root": root, "ways": 2})
    >>> (support, query), = source.tasks(1, support=4, query=2, generator=torch.Generator().manual_seed(0))
    >>> support.x.shape, query.x.shape
    (torch.Size([4, 3, 8, 8]), torch.Size([2, 3, 8, 8]))
    """

    def __init__(self, config: FewShotFoldersConfig, *, generator: torch.Generator | None = None) -> None:
        root = config.root.expanduser()
        listed, self._lists = _listed(root, config.form)
        _refuse_shared(listed)
        names = {name: number for number, name in enumerate(sorted({name for f in listed.values() for _, name in f}))}
        self._files = [path for files in listed.values() for path, _ in files]
        self.rows = list(map(str, self._files))
        self.config = config
        self.ways, self.types = config.ways, config.types
        first = _decode(self._files[0], config)
        shape = self.event_shape = tuple(first.shape)
        low, high = config.range
        factor = 255.0 / (high - low)
        label = torch.tensor([names[name] for files in listed.values() for _, name in files])
        self._splits: dict[str, Dataset] = {}
        self._members: dict[str, list[Tensor]] = {}
        start = 0
        for split, files in listed.items():
            rows = torch.arange(start, start + len(files))
            start += len(files)
            read = Images(config, [path for path, _ in files], label[rows], rows, shape)
            fits = len(files) * math.prod(shape) * 4 <= config.memory * 2**20
            lazy = StreamedDataset(x=torch.empty(0, *shape), fetch=read, size=len(files))
            self._splits[split] = read(torch.arange(len(files))) if fits else lazy
            self._members[split] = positions_by_class(label[rows])
        count = len(listed["train"])
        spread = torch.linspace(0, count - 1, min(count, _MEASURED)).long()  # over all classes, which come one by one
        mean, std = moments(self._splits["train"].take(spread).x)
        self.event_scale = EventScale(
            low=low, high=high, levels=256, mean=mean, std=std, shift=-low * factor, factor=factor
        )

    def load(self, split: str) -> Dataset:
        return pick(self._splits, split)

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for file in (*self._lists, *self._files):
            digest.update(f"{file.name}:{digest_file(file)}\n".encode())
        return digest.hexdigest()

    def batch(self, m: int, size: int, generator: torch.Generator, split: str = "train") -> TaskBatch:
        points = self.load(split)
        return class_tasks(points, self._members[split], self.ways, self.types, m, size, generator, split)


@dataclass(frozen=True)
class Images:
    """Decodes images of a split: files with their labels (N,) and indices (N,), and the shape that they must have."""

    config: FewShotFoldersConfig
    files: list[Path]
    label: Tensor
    index: Tensor
    shape: tuple[int, ...]

    def __call__(self, rows: Tensor) -> Dataset:
        """The images at some rows (n,)."""
        images = [torch.empty(0, *self.shape, dtype=torch.uint8)]
        for row in rows.tolist():
            image = _decode(self.files[row], self.config)
            if image.shape != self.shape:
                raise DataError(
                    f"{self.files[row]} has the shape {tuple(image.shape)}, and the first image {self.shape}",
                    hint="set 'size' to resize all images to one size",
                )
            images.append(image[None])
        low, high = self.config.range
        x = torch.cat(images).float() * ((high - low) / 255.0) + low
        return Dataset(x=x, label=self.label[rows], index=self.index[rows])


def _decode(path: Path, config: FewShotFoldersConfig) -> Tensor:
    """An image file as uint8 (C, H, W). Raises ``DataError`` for one that can't be read."""
    return read_image(path, size=config.size, crop=False, grey=config.grey)


def _listed(root: Path, form: str | None) -> tuple[dict[str, Listed], list[Path]]:
    """The files of each split with their classes, and the lists that say so."""
    if not root.is_dir():
        raise DataError(
            f"{root} isn't a folder",
            hint="a relative path starts at the run file, elsewhere at the working folder",
        )
    if form == "csv" or (form is None and (root / "train.csv").is_file()):
        return _read_lists(root, ".csv", _files_of_table)
    places = [root, root / "splits", *sorted((root / "splits").glob("*/"))]
    found = [place for place in places if (place / "train.txt").is_file()]
    if not found:
        raise DataError(
            f"{root} has neither train.csv nor train.txt (looked in it, in splits and in the folders there)",
            hint="give lists of class names, train.txt, val.txt and test.txt, or tables of filename,label with .csv",
        )
    if len(found) > 1:
        raise DataError(
            f"{root} has {len(found)} lists of training classes: train.txt in {' and in '.join(map(str, found))}",
            hint="leave the lists of one split there",
        )
    data = root / "data" if (root / "data").is_dir() else root
    return _read_lists(found[0], ".txt", lambda file: _files_of_classes(file, data))


def _read_lists(place: Path, suffix: str, read: Callable[[Path], Listed]) -> tuple[dict[str, Listed], list[Path]]:
    named = {split: [place / f"{name}{suffix}" for name in names] for split, names in _FILES.items()}
    lists = {split: next(filter(Path.is_file, files), files[0]) for split, files in named.items()}
    for split in ("train", "test"):
        if not lists[split].is_file():
            raise DataError(f"{lists[split]} is missing; the {split} split stands in it")
    listed = {split: read(file) if file.is_file() else [] for split, file in lists.items()}
    for split, files in listed.items():
        if lists[split].is_file() and not files:
            raise DataError(f"{lists[split]} lists no images")
        _refuse_twice(lists[split], files)
    return listed, [file for file in lists.values() if file.is_file()]


def _files_of_table(table: Path) -> Listed:
    """The rows of a table with the columns filename and label."""
    rows = csv.reader(_text(table).splitlines())
    header = [column.strip().lower() for column in next(rows, [])]
    if not {"filename", "label"} <= set(header):
        raise DataError(
            f"{table} begins with {','.join(header) or 'nothing'}; expected filename,label, with a comma",
            hint="filename,label stand in the first line, and one image in each other",
        )
    found: Listed = []
    for row in filter(None, rows):
        entry = dict(zip(header, map(str.strip, row), strict=False))
        if not entry.get("filename") or not entry.get("label"):
            raise DataError(f"line {rows.line_num} of {table} is {','.join(row)}; expected a file and its label")
        found.append((table.parent / "images" / entry["filename"], entry["label"]))
    lacking = [path for path, _ in found if not path.is_file()]
    if lacking:
        raise DataError(f"{table} lists {len(lacking)} files that aren't there, {lacking[0]} among them")
    return found


def _files_of_classes(names: Path, data: Path) -> Listed:
    """The images in the folders of the classes that a list names, one a line."""
    from torchvision.datasets.folder import is_image_file

    found: Listed = []
    for name in filter(None, map(str.strip, _text(names).splitlines())):
        if not (data / name).is_dir():
            raise DataError(f"{names} lists the class {name}, and {data} has no such folder")
        files = [path for path in sorted((data / name).iterdir()) if is_image_file(path.name)]
        images = [path for path in files if not path.name.startswith(".")]
        if not images:
            raise DataError(f"{data / name} has no images", hint=f"remove {name} from {names}, or add its images")
        found += [(path, name) for path in images]
    return found


def _text(file: Path) -> str:
    """A text without the mark that some programs put before it."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file} isn't text in UTF-8: {error.reason}", hint="save it as UTF-8") from error


def _refuse_twice(names: Path, listed: Listed) -> None:
    """An image that stands twice would be in a task's support and query sets."""
    path, count = Counter(os.path.normpath(path) for path, _ in listed).most_common(1)[0] if listed else ("", 1)
    if count > 1:
        raise DataError(f"{names} lists {path} {count} times; expected once", hint="remove a line that repeats another")


def _refuse_shared(listed: Mapping[str, Listed]) -> None:
    for (one, first), (other, second) in combinations(listed.items(), 2):
        for what, part in (("classes", 1), ("images", 0)):
            shared = sorted({str(entry[part]) for entry in first} & {str(entry[part]) for entry in second})
            if shared:
                raise DataError(f"{one} and {other} share {len(shared)} {what}, {shared[0]} among them; expected none")
