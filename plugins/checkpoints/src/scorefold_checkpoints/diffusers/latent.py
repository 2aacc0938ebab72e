"""The autoencoder of a latent model: images to latents in the model's units, and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scorefold.data import EventScale
from scorefold.errors import ConfigError, ShapeError
from scorefold_checkpoints.diffusers.files import Source, autoencoder_folder, read_settings
from scorefold_checkpoints.diffusers.networks import load_part

REMARK = (
    "these are likelihoods of latents, comparable under one autoencoder and not with those of pixels or of another: a "
    "perceptual decoder has no density of images"
)


class DecodesLatents(ABC):
    """A score model whose events are latents that it can show as images."""

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """Images (B, C, H, W) in [-1, 1] of latents (B, *E), on the device of the model. Raises ``ConfigError`` for a
        model of pixels, ``ShapeError`` for latents of another shape."""


class Autoencoder:
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
        settings = read_settings(folder / "config.json")
        scale, shift = settings.get("scaling_factor"), settings.get("shift_factor")
        self.scale: Tensor | float = 1.0 if scale is None else float(scale)
        self.shift: Tensor | float = 0.0 if shift is None else float(shift)
        mean, std = settings.get("latents_mean"), settings.get("latents_std")
        if mean is not None and std is not None:
            self.shift, self.scale = _channels(mean), self.scale / _channels(std)

    def units(self) -> EventScale:
        """The units of z: raw latents are z / scale + shift. Each channel's own are left at those of z."""
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
