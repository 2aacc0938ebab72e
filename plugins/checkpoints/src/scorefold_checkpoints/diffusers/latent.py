"""The autoencoder of a latent model, images as its latents, and latents as images."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scorefold.data import Dataset, EventScale
from scorefold.errors import ConfigError, ShapeError, SplitError
from scorefold.interfaces import DataSource
from scorefold.interfaces.data import SPLITS
from scorefold.stage import reported
from scorefold_checkpoints.config import DecodedConfig, LatentsConfig
from scorefold_checkpoints.diffusers.files import (
    Source,
    autoencoder_folder,
    find_source,
    read_diffusers_json,
    weight_files,
    weights_digest,
)
from scorefold_checkpoints.diffusers.networks import load_part
from scorefold_toolkit.data.splits import moments

REMARK = (
    "these are likelihoods of latents, comparable under one autoencoder and not with likelihoods of pixels or of "
    "another: a perceptual decoder has no density of images"
)


class DecodesLatents(ABC):
    """A score model whose events are latents that it can show as images."""

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """Images (B, C, H, W) in [-1, 1] of latents (B, *E), on the device of the model. Raises ``ConfigError`` for a
        model of pixels, ``ShapeError`` for latents of another shape."""


class LatentAutoencoder:
    """z = (E(x) - shift) scale of the autoencoder's E, as its config.json says, and the images of z.

    ``scale`` and ``shift`` are numbers, or tensors (C, 1, 1) where each channel has its own. The network is loaded when
    it is first used. Raises ``ConfigError`` for a model without an autoencoder.
    """

    def __init__(self, source: Source, variant: str | None, precision: str) -> None:
        folder = autoencoder_folder(source)
        if folder is None:
            raise ConfigError(
                f"{source.name} holds neither vae/config.json nor vqvae/config.json: it has no latents",
                hint=source.again or "leave out space: latent",
            )
        self.folder: Path = folder
        self._loading = (source, variant, precision)
        self._module: Any = None
        settings = read_diffusers_json(folder / "config.json")
        scale, shift = settings.get("scaling_factor"), settings.get("shift_factor")
        self.scale: Tensor | float = 1.0 if scale is None else float(scale)
        self.shift: Tensor | float = 0.0 if shift is None else float(shift)
        mean, std = settings.get("latents_mean"), settings.get("latents_std")
        if mean is not None and std is not None:
            self.shift, self.scale = _channels(mean), self.scale / _channels(std)

    def units(self) -> EventScale:
        """The units of z: raw latents are z / scale + shift. With numbers per channel, no conversion is made."""
        if isinstance(self.scale, Tensor) or isinstance(self.shift, Tensor):
            return EventScale()
        return EventScale(shift=self.shift, factor=1 / self.scale)

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Latents (B, *E) of images (B, C, H, W) in [-1, 1]: the mode, for an encoder that gives a distribution. Raises
        ``ShapeError`` for images that the encoder can't take."""
        module = self._on(x)
        try:
            found = module.encode(x.to(module.dtype))
        except RuntimeError as error:
            raise ShapeError(
                f"the encoder in {self.folder} can't take images {tuple(x.shape[1:])}: {str(error).splitlines()[0]}",
                hint="give images of as many channels as it has, and of a size that it can halve",
            ) from error
        if hasattr(found, "latent_dist"):
            raw = found.latent_dist.mode()
        else:
            raw = found.latents if hasattr(found, "latents") else found.latent
        latents: Tensor = (raw.to(x) - _like(self.shift, x)) * _like(self.scale, x)
        return latents

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """Images (B, C, H, W) in [-1, 1] of latents (B, *E)."""
        module = self._on(z)
        raw = z / _like(self.scale, z) + _like(self.shift, z)
        images: Tensor = module.decode(raw.to(module.dtype), return_dict=False)[0]
        return images.to(z.dtype).clamp(-1, 1)

    def _on(self, like: Tensor) -> Any:
        """The network where a tensor is."""
        if self._module is None:
            self._module = load_part(self.folder, *self._loading)
        return self._module.to(like.device)


def _channels(values: Any) -> Tensor:
    return torch.tensor([float(value) for value in values]).reshape(-1, 1, 1)


def _like(value: Tensor | float, x: Tensor) -> Tensor | float:
    return value.to(x) if isinstance(value, Tensor) else value


_MEASURED = 64  # training images for mean and deviation, which are about 0 and 1 in the units of the model


class Latents(DataSource):
    """The latents z = (E(x) - shift) scale of images under a published autoencoder, in the units of its model.

    Images keep their labels and conditions. Images of another range are scaled to [-1, 1] first. Raises ``ConfigError``
    for events that are no bounded images, ``ShapeError`` for images that the encoder can't take.

    >>> from importlib.resources import files
    >>> from scorefold_registry import Host
    >>> path = str(files("scorefold_checkpoints") / "samples/latent")
    >>> digits = {"use": "data:digits", "config": {"limit": 20}}
    >>> Host.discover().create("data:latents", {"path": path}, data=digits).event_shape
    (2, 4, 4)
    """

    def __init__(self, config: LatentsConfig, *, data: DataSource) -> None:
        self._source = find_source(config.path, config.revision, config.download, config.variant)
        self._autoencoder = LatentAutoencoder(self._source, config.variant, config.precision)
        self._config, self._data = config, data
        scale = data.event_scale
        if scale.low is None or scale.high is None or len(data.event_shape) != 3:
            raise ConfigError(
                f"an autoencoder takes images (C, H, W) with bounds; these events have the shape {data.event_shape} "
                f"and lie between {scale.low} and {scale.high}",
                hint="plug images into the port data, such as data:images",
            )
        self._middle, self._half = (scale.low + scale.high) / 2, (scale.high - scale.low) / 2
        self._encoded: dict[str, Dataset] = {}
        self.label_names, self.rows, self.condition_spec = data.label_names, data.rows, data.condition_spec
        some = self._encode(data.load("train").tensor(_MEASURED))
        self.event_shape = tuple(some.shape[1:])
        mean, std = moments(some, bounded=False)
        self.event_scale: EventScale = replace(self._autoencoder.units(), mean=mean, std=std)

    def load(self, split: str) -> Dataset:
        if split not in self._encoded:
            images, size = self._data.load(split), self._config.batch_size
            parts = reported(images.batches(size), len(images), "images encoded", size)
            found = [Dataset(self._encode(part.x), part.condition, part.label, part.index) for part in parts]
            self._encoded[split] = joined_batches(found)
        return self._encoded[split]

    def fingerprint(self) -> str:
        own = self._data.fingerprint()
        files = weight_files(self._autoencoder.folder, self._source, self._config.variant)
        return hashlib.sha256(f"{own} {weights_digest(files)}".encode()).hexdigest()

    def data_warnings(self) -> tuple[str, ...]:
        return self._data.data_warnings()

    def _encode(self, x: Tensor) -> Tensor:
        return self._autoencoder.encode((x - self._middle) / self._half)


def joined_batches(parts: list[Dataset]) -> Dataset:
    """Batches as one set of points."""

    def one(values: Sequence[Tensor | None]) -> Tensor | None:
        given = [value for value in values if value is not None]
        return torch.cat(given) if given else None

    conditions: list[Any] = [part.condition for part in parts]
    named = isinstance(conditions[0], Mapping)
    condition = {name: torch.cat([each[name] for each in conditions]) for name in conditions[0]} if named else None
    return Dataset(
        torch.cat([part.x for part in parts]),
        condition if named else one(conditions),
        one([part.label for part in parts]),
        one([part.index for part in parts]),
    )


class DecodedLatents(DataSource):
    """The images (C, H, W) in [-1, 1] that a latent model's decoder makes of latents, with their labels and conditions.

    A copy is judged after decoding, next to training images that went through the same decoder. Raises ``ConfigError``
    for a model of pixels, ``ShapeError`` for latents of another shape.

    >>> from importlib.resources import files
    >>> from scorefold_registry import Host
    >>> host, config = Host.discover(), {"path": str(files("scorefold_checkpoints") / "samples/latent")}
    >>> digits = {"use": "data:digits", "config": {"limit": 20}}
    >>> latents = host.create("data:latents", config, data=digits)
    >>> model = host.create("score:diffusers", {**config, "space": "latent"})
    >>> host.create("data:decoded", {}, model=model, latents=latents).event_shape
    (1, 8, 8)
    """

    def __init__(self, config: DecodedConfig, *, model: DecodesLatents, latents: DataSource) -> None:
        self._config, self._model, self._latents = config, model, latents
        self._decoded: dict[str, Dataset] = {}
        self.label_names, self.rows, self.condition_spec = latents.label_names, latents.rows, latents.condition_spec
        some = self._decode(_first(latents, config.batch_size))
        self.event_shape = tuple(some.shape[1:])
        mean, std = moments(some)
        self.event_scale = EventScale(low=-1.0, high=1.0, mean=mean, std=std)

    def load(self, split: str) -> Dataset:
        if split not in self._decoded:
            latents, size = self._latents.load(split), self._config.batch_size
            parts = reported(latents.batches(size), len(latents), "latents decoded", size)
            found = [Dataset(self._decode(part.x), part.condition, part.label, part.index) for part in parts]
            self._decoded[split] = joined_batches(found)
        return self._decoded[split]

    def data_warnings(self) -> tuple[str, ...]:
        return self._latents.data_warnings()

    def _decode(self, z: Tensor) -> Tensor:
        return self._model.decode(z).to(z)


def _first(source: DataSource, count: int) -> Tensor:
    """The first events of the first split that there is."""
    for split in SPLITS:
        try:
            return source.load(split).tensor(count)
        except SplitError:
            continue
    return torch.empty(0, *source.event_shape)
