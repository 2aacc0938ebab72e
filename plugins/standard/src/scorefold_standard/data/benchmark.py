"""scikit-dimension's benchmark manifolds, with the dimensions that its table gives (Bac et al. 2021)."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from scorefold.data import Dataset, EventScale
from scorefold.interfaces import DataSource
from scorefold.manifolds import Draw, splits_of
from scorefold.seeds import derive_seed
from scorefold.splits import chosen, moments, pick, source_seed
from scorefold_standard.data_config import BenchmarkManifoldConfig


class BenchmarkManifold(DataSource):
    """Points of one of 24 manifolds that estimators of dimension are commonly compared on.

    Events are vectors; ``truth`` holds ``dimension``. M9_Affine and M12_Norm fill all their coordinates; the M10 are
    surfaces of cubes, where faces meet at edges. Raises ``DataError`` for too few points.
    """

    def __init__(self, config: BenchmarkManifoldConfig, *, generator: torch.Generator | None = None) -> None:
        seed = source_seed(config.seed, generator)
        x, dimension = generated(config.name, config.points, seed)
        drawn = Draw(x, dimension)
        splits = splits_of(drawn, noise_std=config.noise_std, fractions=config.fractions, seed=seed)
        mean, std = moments(splits["train"].x)
        shift, factor = (mean, std) if config.standardise else (0.0, 1.0)
        self._splits = {name: _scaled(dataset, shift, factor) for name, dataset in splits.items()}
        self.event_shape = self._splits["train"].event_shape
        self.event_scale = EventScale(mean=(mean - shift) / factor, std=std / factor, shift=shift, factor=factor)

    def load(self, split: str) -> Dataset:
        return pick(self._splits, split)


def generated(name: str, count: int, seed: int) -> tuple[Tensor, int]:
    """Points (count, D) in float64 of the manifold of that name, and its dimension."""
    # Its first import switches all warnings off, which must neither last nor hide the next ones.
    with warnings.catch_warnings():
        from skdim.datasets import BenchmarkManifolds

    manifolds = BenchmarkManifolds(random_state=derive_seed(seed, "points") % 2**32)
    dimension, size = (int(value) for value in manifolds.truth.loc[name].iloc[:2])
    drawn = count
    if name.startswith("M10"):
        # Faces are drawn one after the other and the list is cut off at the end: this number cuts a single point.
        faces = 2 * (dimension + 1)
        drawn = faces * (count // faces + 1) - 1
    # Without d and dim, some generators are handed None.
    points = torch.from_numpy(manifolds.generate(name, n=drawn, d=dimension, dim=size))
    return points[chosen(drawn, count, seed)], dimension


def _scaled(dataset: Dataset, shift: float, factor: float) -> Dataset:
    x = ((dataset.x.double() - shift) / factor).float()
    return Dataset(x, index=dataset.index, truth=dataset.truth)
