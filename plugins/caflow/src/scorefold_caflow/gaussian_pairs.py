"""Gaussian pairs, images with a degraded version as the condition, and the fewest bits of a factorisation on them.

With invertible linear encoders, W -> L and Y -> D, all is Gaussian, and every factorisation of p(L | D) has a least
expected cost, a sum of conditional entropies: what each scale is not given costs it the information that this holds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefold.data import Dataset, TensorSpec
from scorefold.errors import ConfigError
from scorefold.interfaces import DataSource
from scorefold.interfaces.capabilities import KnowsDistribution
from scorefold_caflow.config import GaussianPairsConfig
from scorefold_toolkit.data.manifolds import seeded_normal
from scorefold_toolkit.data.splits import measured_split, pick, plain_scale, source_seed, split_positions
from scorefold_toolkit.distributions import SubspaceGaussian

Split = Callable[[Tensor], Sequence[Tensor]]
"""Images (B, C, H, W) to their latents, the coarsest first, each (B, C_i, H_i, W_i)."""


@dataclass(frozen=True)
class GaussianPair:
    """Images w ~ N(0, S) and conditions y = P w + N(0, noise_variance I), flattened: S (D, D), P (M, D), in float64."""

    covariance: Tensor
    operator: Tensor
    noise_variance: float

    @property
    def joint(self) -> Tensor:
        """The covariance (D + M, D + M) of (w, y)."""
        cross = self.operator @ self.covariance
        noise = self.noise_variance * torch.eye(len(self.operator)).to(cross)
        return torch.cat(
            (torch.cat((self.covariance, cross.mT), 1), torch.cat((cross, cross @ self.operator.mT + noise), 1))
        )

    def given(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (B, D) and covariance (D, D) of w given conditions y (B, M)."""
        size = len(self.covariance)
        joint = self.joint
        gain = torch.linalg.solve(joint[size:, size:], joint[size:, :size]).mT
        return y @ gain.mT, self.covariance - gain @ joint[size:, :size]

    def log_prob(self, w: Tensor, y: Tensor) -> Tensor:
        """log p(w | y) in nats, (B,), of images w (B, D) and conditions y (B, M)."""
        mean, covariance = self.given(y)
        distribution = torch.distributions.MultivariateNormal(torch.zeros_like(mean[0]), covariance)
        value: Tensor = distribution.log_prob(w - mean)
        return value


@dataclass(frozen=True)
class BitBounds:
    """The least expected cost in bits a dimension of p(w | y) with no restriction (``true``), of CAFLOW's
    factorisation, of Dual-Glow's, and of p(w) (``unconditional``)."""

    true: float
    caflow: float
    dual_glow: float
    unconditional: float
    dimension: int

    def standard_error(self, count: int) -> float:
        """Standard error of the mean cost of the true density over so many pairs, in bits a dimension."""
        return 1 / (math.log(2) * math.sqrt(2 * self.dimension * count))


def structural_bounds(
    pair: GaussianPair, event: Split, condition: Split, event_shape: Sequence[int], condition_shape: Sequence[int]
) -> BitBounds:
    """The bounds of a Gaussian pair for two encoders, of images of these shapes.

    Encoders are given images in float64. true <= caflow <= dual_glow, since conditioning never adds entropy. Raises
    ``ConfigError`` for an encoder that is not linear or not invertible, encoders of different numbers of scales, and
    shapes that do not fit the pair.
    """
    for name, shape, size in (
        ("event", event_shape, len(pair.covariance)),
        ("condition", condition_shape, len(pair.operator)),
    ):
        if math.prod(shape) != size:
            raise ConfigError(f"{name}s of shape {tuple(shape)} were given for a pair whose {name}s have {size} pixels")
    ours, own_sizes = _matrix(event, event_shape)
    theirs, given_sizes = _matrix(condition, condition_shape)
    if len(own_sizes) != len(given_sizes):
        raise ConfigError(
            f"the event has {len(own_sizes)} scales and the condition {len(given_sizes)}; expected as many"
        )
    joint = torch.block_diag(ours, theirs)
    covariance = joint @ pair.joint @ joint.mT
    size = len(ours)
    own, given = _places(own_sizes, 0), _places(given_sizes, size)
    everything = torch.arange(size, size + len(theirs))
    volume = float(torch.linalg.slogdet(ours)[1])

    def entropy(places: Tensor, known: Tensor) -> float:
        """h(places | known) in nats."""
        block = covariance[places][:, places]
        if len(known):
            cross = covariance[known][:, places]
            block = block - cross.mT @ torch.linalg.solve(covariance[known][:, known], cross)
        return float(len(places) * math.log(2 * math.pi * math.e) + torch.linalg.slogdet(block)[1]) / 2

    nothing = torch.arange(0)
    scales = range(len(own))
    caflow = sum(entropy(own[i], torch.cat((*own[:i], *given[: i + 1]))) for i in scales)
    dual_glow = sum(entropy(own[i], given[i]) for i in scales)
    true, unconditional = (entropy(torch.arange(size), known) for known in (everything, nothing))

    def bits(nats: float) -> float:
        return (nats - volume) / (size * math.log(2))

    return BitBounds(bits(true), bits(caflow), bits(dual_glow), bits(unconditional), size)


@torch.no_grad()
def _matrix(split: Split, shape: Sequence[int]) -> tuple[Tensor, list[int]]:
    """An encoder's matrix (D, D), its rows scale by scale, and the sizes of the scales."""
    size = math.prod(shape)
    unit = torch.eye(size, dtype=torch.float64)
    waves = torch.stack([torch.arange(size, dtype=torch.float64).mul(place + 1.0).cos() for place in range(4)])
    latents = [latent.flatten(1) for latent in split(torch.cat((unit, waves)).reshape(-1, *shape))]
    rows = torch.cat(latents, 1)
    if not torch.allclose(rows[size:], waves @ rows[:size], atol=1e-8):
        raise ConfigError(
            "the encoder is not linear, so that its latents of Gaussian images are not Gaussian",
            hint="encoder: {steps: 0, transitions: 0} is linear",
        )
    matrix = rows[:size].mT
    if len(matrix) != size or int(torch.linalg.matrix_rank(matrix)) < size:
        raise ConfigError(
            f"the encoder is not invertible: it makes {len(matrix)} numbers of {size}, "
            f"{int(torch.linalg.matrix_rank(matrix))} of them independent"
        )
    return matrix, [latent.shape[1] for latent in latents]


def _places(sizes: Sequence[int], start: int) -> list[Tensor]:
    return list(torch.arange(start, start + sum(sizes)).split(list(sizes)))


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
