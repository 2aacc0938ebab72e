"""Latents as images: samples of a latent model, or encoded data."""

from __future__ import annotations

import torch
from torch import Tensor

from scorefold.data import Dataset, EventScale
from scorefold.errors import SplitError
from scorefold.interfaces import DataSource
from scorefold.interfaces.data import SPLITS
from scorefold.stage import reported
from scorefold_checkpoints.config.diffusers import DecodedConfig
from scorefold_checkpoints.data.latents import joined
from scorefold_checkpoints.diffusers.latent import DecodesLatents
from scorefold_toolkit.data.splits import moments


class Decoded(DataSource):
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
            self._decoded[split] = joined(found)
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
