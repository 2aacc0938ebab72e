"""Images of a Gaussian field with a degraded version as the condition: pairs whose conditional distribution is
known."""

from __future__ import annotations

import torch
from torch import Tensor

from scorefold.data import Dataset, TensorSpec
from scorefold.interfaces import DataSource
from scorefold.interfaces.capabilities import KnowsDistribution
from scorefold_caflow.data.bounds import GaussianPair
from scorefold_caflow.data.config import GaussianPairsConfig
from scorefold_toolkit.data.manifolds import seeded_normal
from scorefold_toolkit.data.splits import measured_split, pick, plain_scale, source_seed, split_positions
from scorefold_toolkit.distributions import SubspaceGaussian


class GaussianPairs(DataSource, KnowsDistribution):
    """Images w (1, n, n) of covariance exp(-distance / length) + nugget [same pixel], and y = P w + noise of the same
    size. ``pair`` is their distribution; ``truth`` holds the ``log_density`` of each image given its condition, in
    nats.

    >>> from scorefold_registry import Host
    >>> pairs = Host.discover().create("data:gaussian-pairs", {"points": 200}).load("train")
    >>> pairs.x.shape[1:], pairs.condition.shape[1:]
    (torch.Size([1, 8, 8]), torch.Size([1, 8, 8]))
    """

    def __init__(self, config: GaussianPairsConfig, *, generator: torch.Generator | None = None) -> None:
        seed = source_seed(config.seed, generator)
        self.event_shape = (1, config.size, config.size)
        self.condition_spec = TensorSpec(self.event_shape)
        self.pair = gaussian_pair(config)
        values, axes = torch.linalg.eigh(self.pair.covariance)
        self._distribution = SubspaceGaussian(torch.zeros(len(values), dtype=torch.float64), axes, values.clamp_min(0))
        size = (config.points, config.size**2)
        w = (seeded_normal(size, seed, "points") * values.clamp_min(0).sqrt()) @ axes.mT
        y = w @ self.pair.operator.mT + config.noise_variance**0.5 * seeded_normal(size, seed, "noise")
        whole = Dataset(
            x=w.reshape(-1, *self.event_shape).float(),
            condition=y.reshape(-1, *self.event_shape).float(),
            index=torch.arange(config.points),
            truth={"log_density": self.pair.log_prob(w, y)},
        )
        positions = split_positions(config.points, config.fractions, seed)
        self._splits = {name: whole.take(position) for name, position in positions.items()}
        self.event_scale = plain_scale(measured_split(self._splits).x)

    def load(self, split: str) -> Dataset:
        return pick(self._splits, split)

    def distribution(self) -> SubspaceGaussian:
        """The distribution of w alone."""
        return self._distribution


def gaussian_pair(config: GaussianPairsConfig) -> GaussianPair:
    """The distribution of an image and its condition."""
    n = config.size
    line = torch.arange(n, dtype=torch.float64)
    pixels = torch.cartesian_prod(line, line)
    covariance = (-torch.cdist(pixels, pixels) / config.length).exp()
    covariance = covariance + config.nugget * torch.eye(n * n, dtype=torch.float64)
    return GaussianPair(covariance, _operator(config, pixels), config.noise_variance)


def _operator(config: GaussianPairsConfig, pixels: Tensor) -> Tensor:
    """P, (n^2, n^2): the mean of each pixel's cell, or the left half of the image and 0 elsewhere."""
    if config.task == "inpainting":
        return torch.diag((pixels[:, 1] < config.size // 2).double())
    cell = (pixels // config.factor) @ pixels.new_tensor([config.size, 1.0])
    return (cell[:, None] == cell[None, :]).double() / config.factor**2
