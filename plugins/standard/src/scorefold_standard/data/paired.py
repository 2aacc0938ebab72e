"""Pairs of images: from files, or an image and its degraded version as the condition, which is an inverse problem."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scorefold.artefacts import digest_folder, files_in
from scorefold.data import Condition, Dataset, StreamedDataset, TensorSpec
from scorefold.errors import ConfigError, DataError
from scorefold.interfaces import DataSource
from scorefold.seeds import derive_generator
from scorefold_standard.data.config import ImagePairsConfig, PairedConfig
from scorefold_standard.data.pixels import PixelUnits, image_splits
from scorefold_toolkit.data.images import image_size, read_image
from scorefold_toolkit.data.series import HasTime
from scorefold_toolkit.data.splits import moments, pick, source_seed, split_positions
from scorefold_toolkit.operators import Haar, Mask, Operator, RandomMask, build_operator

_HIDING = 5.0  # deviations of clean observations
_MEASURED = 2048  # training images that the scale of a hidden part is measured on


class Paired(DataSource):
    """x is an event of the source, its condition A x + noise_std z with A an operator; Poisson counts where asked for.

    The noise comes from the seed and the point's ``index`` alone, and so does a mask of its own (``each``), so a point
    is degraded in the same way in every batch. The source's own conditions are dropped; its labels, indices and truths
    stay. ``operator.at(index)`` is the operator that some points went through.

    With ``hidden`` x is the part of the event that a mask hides, a rectangle that is the same for all points, and the
    scale's moments are of that part; ``operator`` is then None, since it takes whole events. Raises ``ConfigError`` for
    an operator that hides no rectangle.

    >>> from scorefold_registry import Host
    >>> halved = {"operator": {"name": "box-downsample", "factor": 2}}
    >>> pairs = Host.discover().create("data:paired", halved, data={"use": "data:digits", "config": {"limit": 100}})
    >>> pairs.event_shape, pairs.load("train").condition.shape[1:]
    ((1, 8, 8), torch.Size([1, 4, 4]))
    """

    def __init__(self, config: PairedConfig, *, data: DataSource, generator: torch.Generator | None = None) -> None:
        self._data = data
        self._seed = source_seed(config.seed, generator)
        self.noise_std, self.poisson_peak = config.noise_std, config.poisson_peak
        self._operator = build_operator(config.operator, data.event_shape, scale=data.event_scale)
        self.operator = None if config.hidden else self._operator
        self.event_shape = data.event_shape
        self.event_scale = data.event_scale
        self.label_names, self.rows = data.label_names, data.rows
        if isinstance(data, HasTime):
            self.correlation = data.correlation
        self._flux = None if config.poisson_peak is None else self._flux_of(config.poisson_peak)
        self._with_mask = config.mask
        spec = TensorSpec(self._operator.out_shape)
        self.condition_spec = spec
        if config.mask:
            if not isinstance(self._operator, Mask | RandomMask):
                raise ConfigError("mask is true, and the operator is none", hint="operator: mask, or leave mask out")
            shape = self.event_shape
            self.condition_spec = {"image": spec, "mask": TensorSpec((1, *shape[1:]) if len(shape) == 3 else shape)}
        self._part = _hidden_part(self._operator) if config.hidden else (...,)
        if config.hidden:
            train = self.load("train").tensor(_MEASURED)
            mean, std = moments(train, bounded=data.event_scale.bounded)
            self.event_shape, self.event_scale = tuple(train.shape[1:]), replace(data.event_scale, mean=mean, std=std)

    def load(self, split: str) -> Dataset:
        dataset = self._data.load(split)
        if not isinstance(dataset, StreamedDataset):
            return self._degraded(dataset)
        x = dataset.x[self._part]
        return replace(dataset, x=x, fetch=lambda rows: self._degraded(dataset.take(rows)))

    def fingerprint(self) -> str | None:
        return self._data.fingerprint()

    def data_warnings(self) -> tuple[str, ...]:
        return self._data.data_warnings() + self._noise_warnings()

    def _noise_warnings(self) -> tuple[str, ...]:
        """The warning that the noise hides the observations; the operator is applied only where this can be."""
        if self.noise_std <= self._data.event_scale.std:
            return ()
        train = self._data.load("train")
        some = train.take(torch.arange(min(_MEASURED, len(train))))
        clean = self._operator.at(some.index)(some.x).flatten(1).double()
        spread = float(clean.var(0, correction=0).mean().sqrt())
        if self.noise_std <= _HIDING * spread:
            return ()
        return (
            f"noise_std is {self.noise_std:g}, and observations without noise spread by {spread:.3g}: they show almost "
            "nothing of the events. noise_std is in the units of scaled data, not of the file",
        )

    def _flux_of(self, peak: float) -> float:
        """Photons in one unit of the data."""
        scale = self.event_scale
        if scale.low is None or scale.high is None or scale.low < 0:
            raise ConfigError(
                f"photons are counted in images from 0 up to a bound; these lie between {scale.low} and {scale.high}",
                hint="give the images the range [0, 1]",
            )
        if _signed(self._operator):
            raise ConfigError(
                "photons are counted, and haar gives differences of either sign",
                hint="leave poisson_peak out, or take another operator",
            )
        return peak / scale.high

    def _degraded(self, dataset: Dataset) -> Dataset:
        operator = self._operator.at(dataset.index)
        image = self._noisy(operator(dataset.x), dataset)
        condition: Condition = image
        if self._with_mask and isinstance(operator, Mask):
            mask = operator.mask.to(image).expand(len(image), *operator.in_shape)
            condition = {"image": image, "mask": mask[:, :1] if len(operator.in_shape) == 3 else mask}
        event = dataset.x[self._part]
        return Dataset(x=event, condition=condition, label=dataset.label, index=dataset.index, truth=dataset.truth)

    def _noisy(self, clean: Tensor, dataset: Dataset) -> Tensor:
        if self._flux is None and self.noise_std == 0:
            return clean
        if dataset.index is None:
            raise DataError("noise needs data whose points are numbered, and these have no index")
        noisy = [self._noisy_one(one, i) for one, i in zip(clean.cpu(), dataset.index.tolist(), strict=True)]
        return torch.stack(noisy).to(clean) if noisy else clean

    def _noisy_one(self, clean: Tensor, index: int) -> Tensor:
        if self._flux is not None:
            counts = derive_generator(self._seed, "photons", index)
            clean = torch.poisson(self._flux * clean.clamp_min(0), generator=counts) / self._flux
        if self.noise_std == 0:
            return clean
        return clean + self.noise_std * torch.randn(clean.shape, generator=derive_generator(self._seed, index))


def _hidden_part(operator: Operator) -> tuple[Any, ...]:
    """Function that takes the hidden rectangle out of events (B, C, H, W)."""
    mask = operator.mask if isinstance(operator, Mask) and len(operator.in_shape) == 3 else None
    places = torch.empty(0) if mask is None else (mask[0] == 0).nonzero()
    if mask is None or not len(places):
        raise ConfigError(
            "hidden takes images under one mask for all, and this operator hides no part of images",
            hint="operator: {name: mask, region: right}, or leave hidden out",
        )
    (top, left), (bottom, right) = places.amin(0).tolist(), places.amax(0).tolist()
    part = (..., slice(top, bottom + 1), slice(left, right + 1))
    if bool((mask[part] != 0).any()):
        raise ConfigError("hidden takes a mask that hides a rectangle, and this one has gaps", hint="region: right")
    return part


def _signed(operator: Operator) -> bool:
    """True if what an operator makes of images from 0 up falls far below 0."""
    return isinstance(operator, Haar) or any(map(_signed, getattr(operator, "operators", ())))


_MEASURED_PAIRS = 2048  # training images that the scale is measured on
Box = tuple[int, int, int, int]
Pair = tuple[tuple[Path, Box | None], tuple[Path, Box | None]]


class ImagePairs(DataSource):
    """Pairs of images (C, size, size), A and B: of one file whose left half is A, as pix2pix publishes them, or of two
    files of one name in the folders A and B. B is the event and A its condition, the other way round with
    ``direction: b-to-a``.

    All images below ``root`` are taken, in the order of their names, and split by ``fractions``. The scale has the
    moments of the events. Raises ``DataError`` for a folder without pairs, a file without a partner and one that
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
        units = PixelUnits(*config.range, raw_high=255.0, levels=256)
        self._splits, scale = image_splits(
            self._read,
            (2 * channels, config.size, config.size),
            split_positions(len(self._files), config.fractions, seed, config.limit),
            units,
            memory=config.memory,
            workers=config.workers,
        )
        mean, std = moments(self.load("train").tensor(_MEASURED_PAIRS), bounded=scale.bounded)
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
