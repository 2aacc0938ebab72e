"""scikit-dimension's benchmark manifolds, with the dimensions that its table gives (Bac et al. 2021)."""

from __future__ import annotations

import warnings
from dataclasses import replace

import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold.interfaces import DataSource
from scorefold.seeds import derive_seed
from scorefold_standard.config.manifolds import BenchmarkManifoldConfig
from scorefold_standard.data.scaling import scale_of, statistics_of
from scorefold_toolkit.data.manifolds import Draw, splits_of
from scorefold_toolkit.data.splits import chosen, measured_split, pick, source_seed
from scorefold_toolkit.libraries import library


class BenchmarkManifold(DataSource):
    """Points of one of 24 manifolds that estimators of dimension are commonly compared on.

    Events are vectors; ``truth`` holds ``dimension``. M9_Affine and M12_Norm fill all their coordinates; the M10 are
    surfaces of cubes, where faces meet at edges. Raises ``DataError`` for too few points.

    >>> from scorefold_registry import Host
    >>> manifold = Host.discover().create("data:benchmark-manifold", {"name": "M6_Nonlinear", "points": 200})
    >>> train = manifold.load("train")
    >>> train.x.shape, int(train.truth["dimension"])
    (torch.Size([160, 36]), 6)
    """

    def __init__(self, config: BenchmarkManifoldConfig, *, generator: torch.Generator | None = None) -> None:
        seed = source_seed(config.seed, generator)
        x, dimension = generated(config.name, config.points, seed)
        drawn = Draw(x, dimension)
        splits = splits_of(drawn, noise_std=config.noise_std, fractions=config.fractions, seed=seed)
        self.event_shape = splits["train"].event_shape
        found = statistics_of([measured_split(splits).x.double().numpy()], every=1)
        self.event_scale = scale_of(found, config.scale or "none", vectors=True)
        self._splits = {
            name: replace(dataset, x=self.event_scale.from_raw(dataset.x).float()) for name, dataset in splits.items()
        }

    def load(self, split: str) -> Dataset:
        return pick(self._splits, split)


def generated(name: str, count: int, seed: int) -> tuple[Tensor, int]:
    """Points (count, D) in float64 of the manifold of that name, and its dimension."""
    # Its first import switches all warnings off, which must neither last nor hide the next ones.
    with warnings.catch_warnings(), library("data:benchmark-manifold", "scorefold-standard[dimension]"):
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
