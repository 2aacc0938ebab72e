"""Sources that draw their points when they are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from scorefold.config import Config
from scorefold.data import Dataset
from scorefold.interfaces import DataSource
from scorefold.interfaces.capabilities import KnowsDistribution
from scorefold_iddiff.config import data as configs
from scorefold_iddiff.data import curved, images
from scorefold_toolkit.data.manifolds import Draw, splits_of
from scorefold_toolkit.data.splits import measured_split, pick, plain_scale, source_seed
from scorefold_toolkit.distributions import Distribution

DRAWS: Mapping[type[Config], Callable[[Any, int], Draw]] = {
    configs.NonUniformSphereConfig: curved.non_uniform_sphere,
    configs.SpaghettiConfig: curved.spaghetti,
    configs.SquigglyConfig: curved.squiggly,
    configs.LollipopConfig: curved.lollipop,
    configs.SquaresConfig: images.squares,
    configs.BlobsConfig: images.blobs,
}


def draw(config: Config, seed: int) -> Draw:
    """Points of the set that a config describes, all randomness from the seed."""
    return DRAWS[type(config)](config, seed)


class Drawn(DataSource):
    """Points of a set whose distribution has no closed form; the type of the config says which set.

    ``truth`` holds ``dimension`` and, where asked for, ``tangent``, of flattened events. Raises ``ConfigError`` for
    sizes that can't be and ``DataError`` for too few points.

    >>> from scorefold_registry import Host
    >>> squares = Host.discover().create("data:squares", {"points": 100}).load("train")
    >>> squares.x.shape[1:], int(squares.truth["dimension"])
    (torch.Size([1, 32, 32]), 10)
    """

    def __init__(self, config: Any, *, generator: torch.Generator | None = None) -> None:
        seed = source_seed(config.seed, generator)
        self._splits = _splits(draw(config, seed), config, seed)
        self.event_shape = self._splits["train"].event_shape
        self.event_scale = plain_scale(measured_split(self._splits).x)

    def load(self, split: str) -> Dataset:
        return pick(self._splits, split)


class DensityDrawn(DataSource, KnowsDistribution):
    """Points of a set whose distribution is known. Otherwise as ``Drawn``.

    >>> from scorefold_registry import Host
    >>> curve = Host.discover().create("data:spaghetti", {"ambient": 10, "points": 100, "nodes": 2001}).load("train")
    >>> curve.x.shape[1], int(curve.truth["dimension"])
    (10, 1)
    """

    def __init__(self, config: Any, *, generator: torch.Generator | None = None) -> None:
        seed = source_seed(config.seed, generator)
        drawn = draw(config, seed)
        self._distribution = drawn.distribution
        self._splits = _splits(drawn, config, seed)
        self.event_shape = self._splits["train"].event_shape
        self.event_scale = plain_scale(measured_split(self._splits).x)

    def load(self, split: str) -> Dataset:
        return pick(self._splits, split)

    def distribution(self) -> Distribution | None:
        return self._distribution


def _splits(drawn: Draw, config: Any, seed: int) -> dict[str, Dataset]:
    noise_std = getattr(config, "noise_std", 0.0)  # images and curves whose distribution is known have none
    return splits_of(drawn, noise_std=noise_std, fractions=config.fractions, seed=seed)
