"""Published image sets from a local folder: MNIST, Fashion-MNIST, CIFAR-10, CelebA. Nothing is downloaded."""

from __future__ import annotations

import gzip
import pickle
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scorefold.data import Condition, ConditionSpec, Dataset, EventScale, TensorSpec
from scorefold.errors import ConfigError, DataError
from scorefold.interfaces import DataSource
from scorefold_standard.data.config import CelebAConfig, CIFAR10Config, FashionMNISTConfig, MNISTConfig
from scorefold_standard.data.pixels import PixelUnits, class_condition, image_splits, resized_images
from scorefold_standard.data.stored import digest_files
from scorefold_toolkit.data.images import read_image
from scorefold_toolkit.data.splits import hold_out, of_classes, pick, random_positions, source_seed

_IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
FASHION = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR_FOLDER = "cifar-10-batches-py"
_ARRAY_PARTS = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


class MNIST(DataSource):
    """MNIST or Fashion-MNIST as images (1, 28, 28), or resized and padded; the published test split is the test split.

    ``index`` counts over the training images, then the test images.

    >>> from importlib.resources import files
    >>> from scorefold_registry import Host
    >>> root = str(files("scorefold_standard") / "samples/mnist")  # the first images, for tests
    >>> Host.discover().create("data:mnist", {"root": root}).event_shape
    (1, 28, 28)
    """

    def __init__(self, config: MNISTConfig | FashionMNISTConfig, *, generator: torch.Generator | None = None) -> None:
        folder = "FashionMNIST" if isinstance(config, FashionMNISTConfig) else "MNIST"
        self._files = _find_idx(config.root.expanduser(), folder)
        train, train_label, test, test_label = (_read_idx(path) for path in self._files)
        for name, images, label in (("training", train, train_label), ("test", test, test_label)):
            if images.dim() != 3 or label.dim() != 1 or len(images) != len(label):
                raise DataError(
                    f"the {name} files of {self._files[0].parent} hold images {tuple(images.shape)} and labels "
                    f"{tuple(label.shape)}; expected (N, H, W) and (N,)"
                )
        images = torch.cat([train, test])[:, None]
        label = torch.cat([train_label, test_label]).long()
        self.label_names = [str(n) for n in range(10)] if folder == "MNIST" else FASHION
        self.rows = range(len(images))
        self.event_shape, self._splits, self.event_scale, self.condition_spec = _labelled_splits(
            images, label, len(train), config, self.label_names, generator, pad=config.pad
        )

    def load(self, split: str) -> Dataset:
        return pick(self._splits, split)

    def fingerprint(self) -> str:
        return digest_files(self._files)


class CIFAR10(DataSource):
    """CIFAR-10 as images (3, 32, 32), or resized; the published test batch is the test split.

    ``index`` is as in ``MNIST``.

    >>> from importlib.resources import files
    >>> from scorefold_registry import Host
    >>> root = str(files("scorefold_standard") / "samples/cifar10")  # the first images, for tests
    >>> cifar = Host.discover().create("data:cifar10", {"root": root, "verify": False})
    >>> cifar.event_shape, cifar.label_names[:3]
    ((3, 32, 32), ('airplane', 'automobile', 'bird'))
    """

    def __init__(self, config: CIFAR10Config, *, generator: torch.Generator | None = None) -> None:
        self._files, train, train_label, test, test_label = _read_cifar(config.root.expanduser(), config.verify)
        images, label = torch.cat([train, test]), torch.cat([train_label, test_label])
        self.label_names = CIFAR
        self.rows = range(len(images))
        self.event_shape, self._splits, self.event_scale, self.condition_spec = _labelled_splits(
            images, label, len(train), config, self.label_names, generator
        )

    def load(self, split: str) -> Dataset:
        return pick(self._splits, split)

    def fingerprint(self) -> str:
        return digest_files(self._files)


class CelebA(DataSource):
    """CelebA's aligned faces as images (C, size, size), in the published splits.

    The label is an attribute, 0 or 1; the condition the forty attributes (40,), each 0.0 or 1.0. ``index`` is the row
    of the attribute list, from 0.

    >>> from importlib.resources import files
    >>> from scorefold_registry import Host
    >>> root = str(files("scorefold_standard") / "samples")  # the first images, for tests
    >>> Host.discover().create("data:celeba", {"root": root, "size": 16}).event_shape
    (3, 16, 16)
    """

    def __init__(self, config: CelebAConfig, *, generator: torch.Generator | None = None) -> None:
        root = config.root.expanduser()
        folder = root if (root / "img_align_celeba").is_dir() else root / "celeba"
        self._folder = folder
        names, attributes, values, partition = _read_celeba(folder)
        self.rows = names
        if config.label is not None and config.label not in attributes:
            raise ConfigError(f"CelebA has no attribute {config.label!r}; it has {', '.join(attributes)}")
        shape = self.event_shape = (1 if config.grey else 3, config.size, config.size)

        def read(rows: Tensor) -> Tensor:
            images = [torch.empty(0, *shape, dtype=torch.uint8)]
            for row in rows.tolist():
                path = folder / "img_align_celeba" / names[row]
                found = read_image(path, size=config.size, crop=config.crop, grey=config.grey, box=config.box)
                images.append(found[None])
            return torch.cat(images)

        seed = source_seed(config.seed, generator)
        positions = {}
        label = None if config.label is None else values[:, attributes.index(config.label)]
        kept = torch.ones(len(names), dtype=torch.bool)
        if label is not None:
            self.label_names = (f"not {config.label}", str(config.label))
            kept = torch.isin(torch.arange(len(names)), of_classes(label, config.classes, self.label_names))
        for number, split in enumerate(("train", "validation", "test")):
            rows = (kept & (partition == number)).nonzero()[:, 0]
            positions[split] = rows[random_positions(len(rows), config.limit, seed)]
        condition: Condition | None = None
        self.condition_spec: ConditionSpec | None = None
        if config.condition == "attributes":
            condition, self.condition_spec = values.float(), TensorSpec((len(attributes),))
        self._splits, self.event_scale = image_splits(
            read,
            shape,
            positions,
            PixelUnits(*config.range, raw_high=255.0, levels=256),
            label=label,
            condition=condition,
            memory=config.memory,
            workers=config.workers,
        )

    def load(self, split: str) -> Dataset:
        return pick(self._splits, split)

    def fingerprint(self) -> str:
        images = sorted((self._folder / "img_align_celeba").iterdir())
        return digest_files([self._folder / "list_attr_celeba.txt", self._folder / "list_eval_partition.txt", *images])


def _labelled_splits(
    images: Tensor,
    label: Tensor,
    train: int,
    config: MNISTConfig | FashionMNISTConfig | CIFAR10Config,
    names: Sequence[str],
    generator: torch.Generator | None,
    pad: int = 0,
) -> tuple[tuple[int, ...], dict[str, Dataset], EventScale, ConditionSpec | None]:
    """The shape, splits, scale and condition of images (N, C, H, W) in ten classes, the first ``train`` for training,
    resized and then padded."""
    condition, spec = class_condition(config.condition == "label", label, 10)
    seed = source_seed(config.seed, generator)
    kept = of_classes(label, config.classes, names)

    def read(rows: Tensor) -> Tensor:
        return torch.nn.functional.pad(resized_images(images[rows], config.size), [pad] * 4)

    shape = tuple(read(kept[:1]).shape[1:])
    splits, scale = image_splits(
        read,
        shape,
        _own_splits(kept[kept < train], kept[kept >= train], config.validation, config.limit, seed),
        PixelUnits(*config.range, raw_high=255.0, levels=256),
        label=label,
        condition=condition,
        memory=config.memory,
    )
    return shape, splits, scale, spec


def _own_splits(train: Tensor, test: Tensor, validation: float, limit: int | None, seed: int) -> dict[str, Tensor]:
    """Positions of published splits, with a validation split held out of the training images."""
    kept, held = hold_out(train[random_positions(len(train), limit, seed)], validation)
    return {"train": kept, "validation": held, "test": test[random_positions(len(test), limit, seed)]}


def _missing(what: str, places: Sequence[Path], names: Sequence[str]) -> DataError:
    return DataError(
        f"{what} isn't at {', '.join(map(str, places))}: missing {', '.join(names)}",
        hint="download the published files yourself and point 'root' at their folder; nothing is downloaded here",
    )


def _find_idx(root: Path, name: str) -> list[Path]:
    """The four idx files, plain or gzipped, in the folder or where torchvision puts them."""
    places = [root, root / name / "raw", root / "raw"]
    for place in places:
        found = [
            next((path for path in (place / file, place / f"{file}.gz") if path.is_file()), None) for file in _IDX_FILES
        ]
        paths = [path for path in found if path is not None]
        if len(paths) == len(_IDX_FILES):
            return paths
        if paths:
            lacking = [file for file, path in zip(_IDX_FILES, found, strict=True) if path is None]
            raise _missing(name, [place], [f"{file}[.gz]" for file in lacking])
    raise _missing(name, places, [f"{file}[.gz]" for file in _IDX_FILES])


def _read_idx(path: Path) -> Tensor:
    """An idx file of bytes, plain or gzipped, by torchvision's reader."""
    from torchvision.datasets.mnist import read_sn3_pascalvincent_tensor

    try:
        if path.suffix != ".gz":
            values: Tensor = read_sn3_pascalvincent_tensor(str(path))
        else:
            with tempfile.NamedTemporaryFile() as plain:
                plain.write(gzip.decompress(path.read_bytes()))
                plain.flush()
                values = read_sn3_pascalvincent_tensor(plain.name)
    except Exception as error:  # a damaged file raises anything, from zlib to the header's reader
        raise DataError(f"{path} isn't a complete idx file: {error or 'its header and its size disagree'}") from error
    if values.dtype != torch.uint8:
        raise DataError(f"{path} holds {values.dtype}; expected bytes")
    return values


class _ArraysOnly(pickle.Unpickler):
    """Unpickles what CIFAR-10's batches hold, arrays and plain values, and runs nothing else that a pickle names."""

    def find_class(self, module: str, name: str) -> Any:
        if (module.replace("numpy._core", "numpy.core"), name) not in _ARRAY_PARTS:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is no part of an array")
        return super().find_class(module, name)


def _read_cifar(root: Path, verify: bool) -> tuple[list[Path], Tensor, Tensor, Tensor, Tensor]:
    """The files, and the training and test images (N, 3, 32, 32) with their labels."""
    from torchvision.datasets import cifar
    from torchvision.datasets.utils import check_integrity

    folder = root if (root / "test_batch").is_file() else root / _CIFAR_FOLDER
    digests = {
        **dict(cifar.CIFAR10.train_list),
        **dict(cifar.CIFAR10.test_list),
        cifar.CIFAR10.meta["filename"]: cifar.CIFAR10.meta["md5"],
    }
    lacking = [name for name in digests if not (folder / name).is_file()]
    if lacking:
        raise _missing("CIFAR-10", [folder], lacking)
    changed = [name for name, md5 in digests.items() if verify and not check_integrity(str(folder / name), md5)]
    if changed:
        raise DataError(
            f"{folder / changed[0]} isn't the published file: its MD5 is another",
            hint="download it again, or set 'verify: false' if you made the files yourself",
        )
    parts: list[Tensor] = []
    for batches in (cifar.CIFAR10.train_list, cifar.CIFAR10.test_list):
        read = [_read_batch(folder / name) for name, _ in batches]
        parts += [torch.cat([images for images, _ in read]), torch.cat([label for _, label in read])]
    return [folder / name for name in digests], parts[0], parts[1], parts[2], parts[3]


def _read_batch(path: Path) -> tuple[Tensor, Tensor]:
    """The images (N, 3, 32, 32) of a batch and their labels (N,)."""
    try:
        with path.open("rb") as file:
            batch = _ArraysOnly(file, encoding="latin1").load()
        images = torch.from_numpy(np.asarray(batch["data"])).reshape(-1, 3, 32, 32)
        label = torch.tensor(batch["labels"])
        if images.dtype != torch.uint8 or label.dtype != torch.int64 or label.shape != images.shape[:1]:
            raise ValueError(f"{len(images)} images of {images.dtype}, labels {tuple(label.shape)} of {label.dtype}")
    except Exception as error:  # a damaged pickle raises anything
        raise DataError(f"the batch {path} can't be read: {error}", hint="download it again") from error
    return images, label


def _read_celeba(folder: Path) -> tuple[list[str], list[str], Tensor, Tensor]:
    """File and attribute names, attributes (N, 40) as 0 and 1, and splits (N,): 0 train, 1 validation, 2 test."""
    import pandas as pd

    lacking = [name for name in ("list_attr_celeba.txt", "list_eval_partition.txt") if not (folder / name).is_file()]
    if not (folder / "img_align_celeba").is_dir():
        lacking.append("img_align_celeba/")
    if lacking:
        raise _missing("CelebA", [folder], lacking)
    try:
        table = pd.read_csv(folder / "list_attr_celeba.txt", sep=r"\s+", skiprows=1)
        partition = pd.read_csv(folder / "list_eval_partition.txt", sep=r"\s+", header=None, index_col=0)[1]
        split = torch.tensor(partition.loc[table.index].tolist())
        values = torch.tensor(table.to_numpy(dtype="int64"))
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise DataError(f"the lists in {folder} aren't CelebA's: {error}") from error
    return [str(name) for name in table.index], [str(name) for name in table.columns], (values + 1) // 2, split
