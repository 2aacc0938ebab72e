"""Inverse problems: images with their degraded version as the condition."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from scorefold.data import Condition, Dataset, StreamedDataset, TensorSpec
from scorefold.errors import ConfigError, DataError
from scorefold.interfaces import DataSource
from scorefold.seeds import derive_generator
from scorefold_standard.config.data import PairedConfig
from scorefold_toolkit.data.splits import moments, source_seed
from scorefold_toolkit.operators import Haar, Mask, Operator, RandomMask, build_operator

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
        self._noise_std = config.noise_std
        self._operator = build_operator(config.operator, data.event_shape, scale=data.event_scale)
        self.operator = None if config.hidden else self._operator
        self.event_shape = data.event_shape
        self.event_scale = data.event_scale
        self.label_names, self.rows = data.label_names, data.rows
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
        return self._data.data_warnings()

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
        if self._flux is None and self._noise_std == 0:
            return clean
        if dataset.index is None:
            raise DataError("noise needs data whose points are numbered, and these have no index")
        noisy = [self._noisy_one(one, i) for one, i in zip(clean.cpu(), dataset.index.tolist(), strict=True)]
        return torch.stack(noisy).to(clean) if noisy else clean

    def _noisy_one(self, clean: Tensor, index: int) -> Tensor:
        if self._flux is not None:
            counts = derive_generator(self._seed, "photons", index)
            clean = torch.poisson(self._flux * clean.clamp_min(0), generator=counts) / self._flux
        if self._noise_std == 0:
            return clean
        return clean + self._noise_std * torch.randn(clean.shape, generator=derive_generator(self._seed, index))


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
