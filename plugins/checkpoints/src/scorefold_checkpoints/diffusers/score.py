"""A published diffusers model as a score model: its network, and the exact diffusion of its scheduler."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor

from scorefold.data import Condition, DataSpec, EventScale
from scorefold.diffusion import IsotropicProcess
from scorefold.errors import ArtefactError, ConfigError, ShapeError
from scorefold.interfaces import DataSource, ScoreModel
from scorefold_checkpoints.config import DiffusersConfig
from scorefold_checkpoints.diffusers import networks
from scorefold_checkpoints.diffusers.files import (
    Source,
    autoencoder_folder,
    find_source,
    network_folder,
    scheduler_folder,
    weight_files,
    weights_digest,
)
from scorefold_checkpoints.diffusers.latent import REMARK, DecodesLatents, LatentAutoencoder
from scorefold_checkpoints.diffusers.schedulers import family_of, load_scheduler


class DiffusersScore(ScoreModel, DecodesLatents):
    """The score of a network of diffusers with its scheduler, of images or of latents (``space: latent``).

    Events are images in [-1, 1], as published pipelines are trained on, or in [0, 1] for ``ScoreSdeVeScheduler``; or
    latents in the units that the network sees. ``data`` give the mean and the deviation of what the model was trained
    on, which a checkpoint does not say; noise levels in units of the data count in it. A network that also predicts
    variances is read at its first half. Networks of classes take the label as their condition. In half precision the
    network alone computes in it. Raises ``ConfigError`` and ``ArtefactError`` for what is not such a model, and
    ``ShapeError`` for data of another shape.

    >>> from importlib.resources import files
    >>> from scorefold_registry import Host
    >>> path = str(files("scorefold_checkpoints") / "samples/diffusers")  # a U-Net of a few kilobytes
    >>> Host.discover().create("score:diffusers", {"path": path}).event_shape
    (1, 8, 8)
    """

    def __init__(self, config: DiffusersConfig, *, data: DataSource | DataSpec | None = None) -> None:
        source = find_source(config.path, config.revision, config.download, config.variant)
        folder = network_folder(source)
        family = family_of(load_scheduler(scheduler_folder(source, config.scheduler)))
        autoencoder = _autoencoder(source, config)
        _check_digest(source, config)
        network = networks.load_network(folder, source, config.variant, config.precision)
        shape = networks.network_event_shape(network, folder)
        spec, null = networks.class_spec(network)
        bounded = len(shape) == 3 and autoencoder is None
        scale = family.scale if bounded else EventScale() if autoencoder is None else autoencoder.units()
        if data is not None:
            scale = _measured(scale, shape, data, source)
        super().__init__(IsotropicProcess(family.schedule), shape, spec, scale)
        self.network, self.family, self.autoencoder = network, family, autoencoder
        self.low_precision = None if config.precision == "float32" else getattr(torch, config.precision)
        self.null_class = null if config.null_class is None else config.null_class
        self.label_rows = 0 if spec is None or spec.classes is None else spec.classes + (null is not None)
        if self.null_class is not None and self.null_class >= self.label_rows:
            raise ConfigError(f"null_class is {self.null_class}; this network has {self.label_rows} classes, from 0 on")
        self.divergence_mode = "reverse" if networks.attends(network) else "forward"
        self.remarks = (REMARK,) if autoencoder is not None else ()
        if config.download and config.revision is None:
            commit = source.folder.name
            self.remarks += (f"{source.name} was downloaded at the commit {commit}: set revision: {commit} to pin it",)

    def score(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        x, t, condition = self.match_inputs(x, t, condition)
        return self.process.score_from_noise(self.noise(x, t, condition), x, t)

    def noise(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        x, t, condition = self.match_inputs(x, t, condition)
        return self.family.expected_noise(self._answer, self.process, x, t, condition)

    def decode(self, z: Tensor) -> Tensor:
        if self.autoencoder is None:
            raise ConfigError("this model's events are images, and there is nothing to decode", hint="space: latent")
        z = z.to(self._reference())
        self.check_events(z)
        return self.autoencoder.decode(z)

    def _answer(self, shown: Tensor, time: Tensor, condition: Condition | None) -> Tensor:
        if self.condition_spec is not None and condition is None and self.null_class is not None:
            condition = torch.full((len(shown),), self.null_class, device=shown.device)
        if self.condition_spec is not None and not isinstance(condition, Tensor):
            raise ConfigError(
                "this network was trained on labelled images; pass the labels (B,) as its condition",
                hint="null_class: the class that stands for none, where the network was trained with one",
            )
        return networks.call_network(
            self.network, shown, time, condition if isinstance(condition, Tensor) else None, self.label_rows
        )

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """Moves to a device, and to a dtype all but a network in half precision."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.low_precision is not None:
            self.network.to(self.low_precision)
        return self

    def _reference(self, default: Tensor | None = None) -> Tensor:
        """Events are in float32 where the network is in half precision."""
        own = super()._reference(default)
        return own if own.dtype in (torch.float32, torch.float64) else own.new_empty((), dtype=torch.float32)


def _autoencoder(source: Source, config: DiffusersConfig) -> LatentAutoencoder | None:
    if config.space == "latent":
        return LatentAutoencoder(source, config.variant, config.precision)
    if folder := autoencoder_folder(source):
        raise ConfigError(
            f"{source.name} is a model of latents, not of pixels: it has an autoencoder, {folder.name}/",
            hint="set space: latent; data:latents encodes images for it, and data:decoded shows its samples",
        )
    return None


def _measured(scale: EventScale, shape: tuple[int, ...], data: DataSource | DataSpec, source: Source) -> EventScale:
    """A scale with the mean and the deviation of data. Raises ``ShapeError`` for events of another shape, and
    ``ConfigError`` for other bounds."""
    if tuple(data.event_shape) != shape:
        raise ShapeError(f"events of the data have {tuple(data.event_shape)}; {source.name} is a model of {shape}")
    own, given = (scale.low, scale.high), (data.event_scale.low, data.event_scale.high)
    if scale.bounded and given != own:
        raise ConfigError(
            f"events of the data lie between {given[0]} and {given[1]}; {source.name} is a model of images between "
            f"{own[0]} and {own[1]}",
            hint=f"bring them there, such as range: [{own[0]:g}, {own[1]:g}] of data:digits and data:images",
        )
    return replace(scale, mean=data.event_scale.mean, std=data.event_scale.std)


def _check_digest(source: Source, config: DiffusersConfig) -> None:
    """Raises ``ArtefactError`` for other weights than those whose digest the settings have."""
    if config.digest is None:
        return
    found = weights_digest(weight_files(network_folder(source), source, config.variant))
    if found != config.digest:
        raise ArtefactError(
            f"the weights of {source.name} have the SHA-256 {found}; expected {config.digest}",
            hint=source.again or "restore the file, or leave digest out to take these weights",
        )
