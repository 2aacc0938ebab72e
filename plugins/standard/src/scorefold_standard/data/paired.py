"""Inverse problems: images with their degraded version as the condition."""

from __future__ import annotations

import torch
from torch import Tensor

from scorefold.data import Dataset, StreamedDataset, TensorSpec
from scorefold.errors import DataError
from scorefold.interfaces import DataSource
from scorefold.operators import build_operator
from scorefold.seeds import derive_generator
from scorefold.splits import source_seed
from scorefold_standard.data_config import PairedConfig


class Paired(DataSource):
    """x is an event of the source, its condition A x + noise_std z with A a linear operator.

    z comes from the seed and the point's ``index`` alone, so a point is degraded in the same way in every batch. The
    source's own conditions are dropped; its labels, indices and truths stay.
    """

    def __init__(self, config: PairedConfig, *, data: DataSource, generator: torch.Generator | None = None) -> None:
        self._data = data
        self._seed = source_seed(config.seed, generator)
        self._noise_std = config.noise_std
        self.operator = build_operator(config.operator, data.event_shape)
        self.event_shape = data.event_shape
        self.event_scale = data.event_scale
        self.condition_spec = TensorSpec(self.operator.out_shape)

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

    def _degraded(self, dataset: Dataset) -> Dataset:
        condition = self.operator(dataset.x)
        if self._noise_std > 0:
            condition = condition + self._noise_std * self._noise(dataset).to(condition)
        return Dataset(x=dataset.x, condition=condition, label=dataset.label, index=dataset.index, truth=dataset.truth)

    def _noise(self, dataset: Dataset) -> Tensor:
        if dataset.index is None:
            raise DataError("noise needs data whose points are numbered, and these have no index")
        shape = self.operator.out_shape
        noise = [torch.randn(shape, generator=derive_generator(self._seed, i)) for i in dataset.index.tolist()]
        return torch.stack(noise) if noise else torch.empty(0, *shape)
