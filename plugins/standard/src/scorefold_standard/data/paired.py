"""Inverse problems: images with their degraded version as the condition."""

from __future__ import annotations

import torch
from torch import Tensor

from scorefold.data import Condition, Dataset, StreamedDataset, TensorSpec
from scorefold.errors import ConfigError, DataError
from scorefold.interfaces import DataSource
from scorefold.operators import Haar, Mask, Operator, RandomMask, build_operator
from scorefold.seeds import derive_generator
from scorefold.splits import source_seed
from scorefold_standard.data_config import PairedConfig


class Paired(DataSource):
    """x is an event of the source, its condition A x + noise_std z with A an operator; Poisson counts where asked for.

    The noise comes from the seed and the point's ``index`` alone, and so does a mask of its own (``each``), so a point
    is degraded in the same way in every batch. The source's own conditions are dropped; its labels, indices and truths
    stay. ``operator.at(index)`` is the operator that some points went through.
    """

    def __init__(self, config: PairedConfig, *, data: DataSource, generator: torch.Generator | None = None) -> None:
        self._data = data
        self._seed = source_seed(config.seed, generator)
        self._noise_std = config.noise_std
        self.operator = build_operator(config.operator, data.event_shape, scale=data.event_scale)
        self.event_shape = data.event_shape
        self.event_scale = data.event_scale
        self._flux = None if config.poisson_peak is None else self._flux_of(config.poisson_peak)
        self._with_mask = config.mask
        spec = TensorSpec(self.operator.out_shape)
        self.condition_spec = spec
        if config.mask:
            if not isinstance(self.operator, Mask | RandomMask):
                raise ConfigError("mask is true, and the operator is none", hint="operator: mask, or leave mask out")
            shape = self.event_shape
            self.condition_spec = {"image": spec, "mask": TensorSpec((1, *shape[1:]) if len(shape) == 3 else shape)}

    def load(self, split: str) -> Dataset:
        dataset = self._data.load(split)
        if not isinstance(dataset, StreamedDataset):
            return self._degraded(dataset)
        return StreamedDataset(
            x=dataset.x,
            truth=dataset.truth,
            fetch=lambda rows: self._degraded(dataset.take(rows)),
            size=dataset.size,
            workers=dataset.workers,
        )

    def fingerprint(self) -> str | None:
        return self._data.fingerprint()

    def _flux_of(self, peak: float) -> float:
        """Photons in one unit of the data."""
        scale = self.event_scale
        if scale.low is None or scale.high is None or scale.low < 0:
            raise ConfigError(
                f"photons are counted in images from 0 up to a bound; these lie between {scale.low} and {scale.high}",
                hint="give the images the range [0, 1]",
            )
        if _signed(self.operator):
            raise ConfigError(
                "photons are counted, and haar gives differences of either sign",
                hint="leave poisson_peak out, or take another operator",
            )
        return peak / scale.high

    def _degraded(self, dataset: Dataset) -> Dataset:
        operator = self.operator.at(dataset.index)
        image = self._noisy(operator(dataset.x), dataset)
        condition: Condition = image
        if self._with_mask and isinstance(operator, Mask):
            mask = operator.mask.to(image).expand(len(image), *self.event_shape)
            condition = {"image": image, "mask": mask[:, :1] if len(self.event_shape) == 3 else mask}
        return Dataset(x=dataset.x, condition=condition, label=dataset.label, index=dataset.index, truth=dataset.truth)

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


def _signed(operator: Operator) -> bool:
    """Whether what an operator makes of images from 0 up falls far below 0."""
    return isinstance(operator, Haar) or any(map(_signed, getattr(operator, "operators", ())))
