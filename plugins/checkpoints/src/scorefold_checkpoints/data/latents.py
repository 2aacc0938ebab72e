"""Images as latents: what a latent model was trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from scorefold.data import Dataset, EventScale
from scorefold.errors import ConfigError
from scorefold.interfaces import DataSource
from scorefold.stage import reported
from scorefold_checkpoints.config.diffusers import LatentsConfig
from scorefold_checkpoints.diffusers.files import find_source, weight_files, weights_digest
from scorefold_checkpoints.diffusers.latent import Autoencoder
from scorefold_toolkit.data.splits import moments

_MEASURED = 64  # training images that the units are measured on: those of the model make them about 0 and 1


class Latents(DataSource):
    """The latents z = (E(x) - shift) scale of images under a published autoencoder, in the units of its model.

    Images keep their labels and conditions. Those of another range are brought to [-1, 1] first. Raises ``ConfigError``
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
        self._autoencoder = Autoencoder(self._source, config.variant, config.precision)
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
            self._encoded[split] = joined(found)
        return self._encoded[split]

    def fingerprint(self) -> str:
        own = self._data.fingerprint()
        files = weight_files(self._autoencoder.folder, self._source, self._config.variant)
        return hashlib.sha256(f"{own} {weights_digest(files)}".encode()).hexdigest()

    def data_warnings(self) -> tuple[str, ...]:
        return self._data.data_warnings()

    def _encode(self, x: Tensor) -> Tensor:
        return self._autoencoder.encode((x - self._middle) / self._half)


def joined(parts: list[Dataset]) -> Dataset:
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
