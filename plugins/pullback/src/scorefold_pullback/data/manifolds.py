"""Sinusoids and hemispheres: the paper's manifolds of several dimensions."""

from __future__ import annotations

import math

import torch

from scorefold.data import Dataset
from scorefold.interfaces import DataSource
from scorefold_pullback.config.data import HemisphereConfig, SinusoidConfig
from scorefold_toolkit.data.manifolds import Draw, ambient, isometry, normal, sphere_tangent, splits_of, uniform
from scorefold_toolkit.data.splits import measured_split, pick, plain_scale, source_seed


def sinusoid(config: SinusoidConfig, seed: int) -> Draw:
    """x_j = sin(beta_j . z) + noise for j = 1..N-K, then z: z ~ N(0, variance I_K), beta_j ~ U[1, 2]^K drawn once."""
    k = config.dimension
    size = ambient(config.ambient, k + 1, f"a sinusoid of dimension {k}")
    z = math.sqrt(config.variance) * normal((config.points, k), seed, "points")
    beta = 1 + uniform((size - k, k), seed, "frequencies")
    phase = z @ beta.mT
    sines = phase.sin() + config.noise_std * normal((config.points, size - k), seed, "noise")
    tangent = None
    if config.tangents:
        flat = torch.eye(k, dtype=torch.float64).expand(config.points, k, k)
        tangent = torch.linalg.qr(torch.cat([phase.cos()[..., None] * beta, flat], dim=1)).Q
    return Draw(torch.cat([sines, z], dim=1), k, tangent)


def hemisphere(config: HemisphereConfig, seed: int) -> Draw:
    """(cos t_1, sin t_1 cos t_2, ..., prod sin t_i), t_1 ~ (pi/2) Beta(5, 5), the other angles uniform on [0, pi].

    Because those end at pi, the last coordinate is not below 0 either: for K = 2 it is a quarter of a sphere.
    """
    k = config.dimension
    size = ambient(config.ambient, k + 1, f"a {k}-sphere")
    basis = isometry(size, k + 1, seed, published=config.isometry)
    # The fifth of nine uniform numbers in order is Beta(5, 5).
    first = 0.5 * math.pi * uniform((config.points, 9), seed, "first angle").sort(1).values[:, 4:5]
    angle = torch.cat([first, math.pi * uniform((config.points, k - 1), seed, "angles")], dim=1)
    ones = torch.ones(config.points, 1, dtype=torch.float64)
    u = torch.cat([ones, angle.sin().cumprod(1)], dim=1) * torch.cat([angle.cos(), ones], dim=1)
    tangent = basis @ sphere_tangent(u) if config.tangents else None
    return Draw(u @ basis.mT, k, tangent)


class ManifoldSource(DataSource):
    """Points of a sinusoid or a hemisphere; ``truth`` holds ``dimension`` and, where asked for, ``tangent``.

    Raises ``ConfigError`` for too few coordinates and ``DataError`` for too few points.

    >>> from scorefold_registry import Host
    >>> cap = Host.discover().create("data:hemisphere", {"points": 200}).load("train")
    >>> cap.x.shape, int(cap.truth["dimension"])
    (torch.Size([160, 3]), 2)
    """

    def __init__(self, config: SinusoidConfig | HemisphereConfig, *, generator: torch.Generator | None = None) -> None:
        seed = source_seed(config.seed, generator)
        if isinstance(config, SinusoidConfig):
            drawn, noise_std = sinusoid(config, seed), 0.0  # its noise is on the sines alone
        else:
            drawn, noise_std = hemisphere(config, seed), config.noise_std
        self._splits = splits_of(drawn, noise_std=noise_std, fractions=config.fractions, seed=seed)
        self.event_shape = self._splits["train"].event_shape
        self.event_scale = plain_scale(measured_split(self._splits).x)

    def load(self, split: str) -> Dataset:
        return pick(self._splits, split)
