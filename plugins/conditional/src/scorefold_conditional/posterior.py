"""An inverse problem whose posterior is known: a noisy first coordinate of points on a ring of Gaussians."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefold.data import Dataset, TensorSpec
from scorefold.interfaces import DataSource
from scorefold.interfaces.capabilities import KnowsDistribution
from scorefold.random import draw_normal
from scorefold.seeds import derive_generator
from scorefold_conditional.config import PosteriorConfig
from scorefold_toolkit.data.manifolds import seeded_normal
from scorefold_toolkit.data.splits import measured_split, pick, plain_scale, source_seed, split_positions
from scorefold_toolkit.distributions import Distribution, Mixture, SubspaceGaussian


@dataclass(frozen=True)
class RingPosterior:
    """x ~ 1/K sum_k N(m_k, s^2 I) with m_k on a circle, y = x_1 + tau z, and the distribution of x given y.

    Given y, component k has weight proportional to N(y; m_k1, s^2 + tau^2), first coordinate of mean
    m_k1 + s^2 / (s^2 + tau^2) (y - m_k1) and variance s^2 tau^2 / (s^2 + tau^2), and the second coordinate as before.
    """

    config: PosteriorConfig

    @property
    def means(self) -> Tensor:
        """m, (K, 2)."""
        angles = 2 * math.pi * torch.arange(self.config.modes, dtype=torch.float64) / self.config.modes
        return self.config.radius * torch.stack([angles.cos(), angles.sin()], dim=1)

    def given(self, y: Tensor, more: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
        """(weights (C, K), means (C, K, 2), standard deviations (2,)) of the posterior mixtures at y (C, 1).

        ``more`` is the standard deviation of further noise on y.
        """
        y, m = y.double(), self.means
        s, tau = self.config.std**2, self.config.noise_std**2 + more**2
        weights = torch.softmax(-((y - m[:, 0]) ** 2) / (2 * (s + tau)), dim=1)
        first = m[:, 0] + s / (s + tau) * (y - m[:, 0])
        means = torch.stack([first, m[:, 1].expand_as(first)], dim=2)
        return weights, means, torch.tensor([s * tau / (s + tau), s], dtype=torch.float64).sqrt()

    def score(self, x: Tensor, y: Tensor, sigma_x: float, sigma_y: float = 0.0) -> Tensor:
        """grad_x log p(x + sigma_x z given y + sigma_y z') at x (C, 2), y (C, 1) as noised: (C, 2), in float64."""
        weights, means, stds = self.given(y, sigma_y)
        variances = stds**2 + sigma_x**2
        off = x.double()[:, None] - means
        part = torch.softmax(weights.log() - (off**2 / variances).sum(2) / 2, dim=1)
        return -(part[:, :, None] * off / variances).sum(1)

    def sample(self, n: int, y: Tensor, generator: torch.Generator) -> Tensor:
        """n draws of x for each condition y (C, 1): (n, C, 2), in float64."""
        weights, means, stds = self.given(y)
        chosen = torch.multinomial(weights, n, replacement=True, generator=generator).T
        centres = means[torch.arange(len(y)), chosen]
        return centres + stds * draw_normal(tuple(centres.shape), generator=generator, like=centres)

    def log_prob(self, x: Tensor, y: Tensor) -> Tensor:
        """log p(x | y) in nats at x (C, 2), y (C, 1): (C,)."""
        weights, means, stds = self.given(y)
        standard = (x.double()[:, None] - means) / stds
        parts = -(standard**2 / 2 + stds.log() + math.log(2 * math.pi) / 2).sum(2)
        return torch.logsumexp(weights.log() + parts, dim=1)

    def mean(self, y: Tensor) -> Tensor:
        """E[x | y], (C, 2)."""
        weights, means, _ = self.given(y)
        return (weights[:, :, None] * means).sum(1)


class PosteriorSource(DataSource, KnowsDistribution):
    """Pairs of x (2,) and its condition y (1,). ``posterior`` is the exact distribution of x given y; ``truth`` holds
    each point's ``log_density`` under it, in nats.

    >>> from scorefold_registry import Host
    >>> ring = Host.discover().create("data:posterior", {"points": 200}).load("train")
    >>> ring.x.shape, ring.condition.shape
    (torch.Size([160, 2]), torch.Size([160, 1]))
    """

    def __init__(self, config: PosteriorConfig, *, generator: torch.Generator | None = None) -> None:
        seed = source_seed(config.seed, generator)
        self.posterior = RingPosterior(config)
        mode = torch.randint(config.modes, (config.points,), generator=derive_generator(seed, "modes"))
        x = self.posterior.means[mode] + config.std * seeded_normal((config.points, 2), seed, "points")
        y = x[:, :1] + config.noise_std * seeded_normal((config.points, 1), seed, "noise")
        whole = Dataset(
            x=x.float(),
            condition=y.float(),
            label=mode,
            index=torch.arange(config.points),
            truth={"log_density": self.posterior.log_prob(x, y)},
        )
        positions = split_positions(config.points, config.fractions, seed)
        self._splits = {name: whole.take(position) for name, position in positions.items()}
        self.event_shape = (2,)
        self.condition_spec = TensorSpec((1,))
        self.event_scale = plain_scale(measured_split(self._splits).x)

    def load(self, split: str) -> Dataset:
        return pick(self._splits, split)

    def distribution(self) -> Distribution:
        """The distribution of x alone."""
        variances = torch.full((2,), self.posterior.config.std**2, dtype=torch.float64)
        parts = [SubspaceGaussian(m, torch.eye(2, dtype=torch.float64), variances) for m in self.posterior.means]
        return Mixture(torch.full((len(parts),), 1 / len(parts), dtype=torch.float64), tuple(parts))
