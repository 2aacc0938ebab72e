"""Synthetic manifolds of known dimension, moved into the ambient space by a random isometry."""

from __future__ import annotations

import math
from functools import singledispatch

import torch
from torch import Tensor

from scorefold.config import Config
from scorefold.data import Dataset
from scorefold.errors import ConfigError
from scorefold.interfaces import DataSource
from scorefold.interfaces.capabilities import KnowsDistribution
from scorefold.seeds import derive_generator
from scorefold_standard.manifolds.config import (
    GaussianMixtureConfig,
    HelixConfig,
    SphereConfig,
    SubspaceConfig,
    SwissRollConfig,
    TorusConfig,
)
from scorefold_toolkit.data.manifolds import (
    Draw,
    ambient,
    complete_basis,
    isometry,
    seeded_normal,
    sphere_tangent,
    splits_of,
    uniform,
)
from scorefold_toolkit.data.splits import measured_split, pick, plain_scale, source_seed
from scorefold_toolkit.distributions import (
    Distribution,
    Embedded,
    Mixture,
    Product,
    SphereDistribution,
    SubspaceGaussian,
)

ManifoldConfig = SwissRollConfig | HelixConfig
DensityConfig = SphereConfig | TorusConfig | SubspaceConfig | GaussianMixtureConfig


class _Drawn(DataSource):
    """Common part of both kinds of manifold: points from ``draw``."""

    def __init__(self, config: ManifoldConfig | DensityConfig, *, generator: torch.Generator | None = None) -> None:
        seed = source_seed(config.seed, generator)
        drawn = draw_manifold(config, seed)
        self._distribution = drawn.distribution
        self._splits = splits_of(drawn, noise_std=config.noise_std, fractions=config.fractions, seed=seed)
        self.event_shape = self._splits["train"].event_shape
        self.event_scale = plain_scale(measured_split(self._splits).x)

    def load(self, split: str) -> Dataset:
        return pick(self._splits, split)


class SyntheticManifold(_Drawn):
    """Points on a manifold whose distribution has no closed form: Swiss roll, helix.

    Events are vectors (ambient,); ``truth`` holds ``dimension`` and, where asked for, ``tangent``.

    >>> from scorefold_registry import Host
    >>> sheet = Host.discover().create("data:swiss-roll", {"points": 100}).load("train")
    >>> sheet.x.shape, sheet.truth["dimension"]
    (torch.Size([80, 3]), 2)
    """


class DensityManifold(_Drawn, KnowsDistribution):
    """Points of a closed-form distribution: sphere, flat torus, subspace, Gaussian mixture. Otherwise as
    ``SyntheticManifold``.

    A torus of revolution is the one without.

    >>> from scorefold_registry import Host
    >>> sphere = Host.discover().create("data:sphere", {"dimension": 2, "ambient": 5, "points": 100})
    >>> x = sphere.load("train").x
    >>> x.shape, bool((x.norm(dim=1) - 1).abs().max() < 1e-5)
    (torch.Size([80, 5]), True)
    """

    def distribution(self) -> Distribution | None:
        return self._distribution


def noisy_distribution(distribution: SubspaceGaussian, noise_std: float) -> SubspaceGaussian:
    """The distribution of a Gaussian's points with Gaussian noise added to every coordinate, which fills all
    directions."""
    if noise_std == 0:
        return distribution
    full = complete_basis(distribution.basis)
    variances = torch.full((len(full),), noise_std**2, dtype=full.dtype)
    variances[: len(distribution.variances)] += distribution.variances
    return SubspaceGaussian(distribution.mean, full, variances)


@singledispatch
def draw_manifold(config: Config, seed: int) -> Draw:
    """Points of the manifold that a config describes, all randomness from the seed."""
    raise TypeError(f"there is no manifold for a {type(config).__name__}")


@draw_manifold.register
def _sphere(config: SphereConfig, seed: int) -> Draw:
    k = config.dimension
    size = ambient(config.ambient, k + 1, f"a {k}-sphere")
    basis = isometry(size, k + 1, seed, published=config.isometry)
    u = seeded_normal((config.points, k + 1), seed, "points")
    u = u / u.norm(dim=1, keepdim=True)
    tangent = basis @ sphere_tangent(u) if config.tangents else None
    distribution = SphereDistribution(
        torch.zeros(len(basis), dtype=torch.float64), basis, config.radius, config.noise_std
    )
    return Draw(config.radius * u @ basis.mT, k, tangent, distribution=distribution)


@draw_manifold.register
def _torus(config: TorusConfig, seed: int) -> Draw:
    if config.form == "revolution":
        return _torus_of_revolution(config, seed)
    k = config.dimension
    basis = isometry(ambient(config.ambient, 2 * k, f"a flat {k}-torus"), 2 * k, seed)
    angle = 2 * math.pi * uniform((config.points, k), seed, "points")
    x = torch.stack([angle.cos(), angle.sin()], dim=2).flatten(1)
    tangent = None
    if config.tangents:
        velocity = torch.stack([-angle.sin(), angle.cos()], dim=2)
        along = torch.eye(k, dtype=torch.float64)[None, :, None] * velocity[..., None]
        tangent = basis @ along.flatten(1, 2)
    return Draw(config.radius * x @ basis.mT, k, tangent, distribution=_circles(config, basis))


def _circles(config: TorusConfig, basis: Tensor) -> Embedded:
    """Circles in two coordinates each, and the noise that fills the coordinates which they leave, if there is any."""
    plane, origin = torch.eye(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    circle = SphereDistribution(origin, plane, config.radius, config.noise_std)
    parts: list[Distribution] = [circle] * config.dimension
    size, spanned = basis.shape
    if config.noise_std > 0 and size > spanned:
        rest = torch.zeros(size - spanned, dtype=torch.float64)
        point = SubspaceGaussian(rest, rest.new_zeros(len(rest), 0), rest[:0])
        parts.append(noisy_distribution(point, config.noise_std))
        basis = complete_basis(basis)
    return Embedded(Product(tuple(parts)), torch.zeros(size, dtype=torch.float64), basis)


def _torus_of_revolution(config: TorusConfig, seed: int) -> Draw:
    basis = isometry(ambient(config.ambient, 3, "a torus of revolution"), 3, seed)
    tube, ring = config.radius, config.ring_radius
    around = 2 * math.pi * uniform((config.points,), seed, "ring")
    angle = _angles_by_area(tube / ring, config.points, seed)
    distance = ring + tube * angle.cos()
    x = torch.stack([distance * around.cos(), distance * around.sin(), tube * angle.sin()], dim=1)
    tangent = None
    if config.tangents:
        zero = torch.zeros_like(angle)
        ring_way = torch.stack([-around.sin(), around.cos(), zero], dim=1)
        tube_way = torch.stack([-angle.sin() * around.cos(), -angle.sin() * around.sin(), angle.cos()], dim=1)
        tangent = basis @ torch.stack([ring_way, tube_way], dim=2)
    return Draw(x @ basis.mT, 2, tangent)


def _angles_by_area(ratio: float, count: int, seed: int) -> Tensor:
    """Tube angles with density (1 + ratio cos a) / 2 pi, which is uniform by area, by inverting their distribution."""
    target = 2 * math.pi * uniform((count,), seed, "tube")
    low, high = torch.zeros_like(target), torch.full_like(target, 2 * math.pi)
    for _ in range(60):
        middle = (low + high) / 2
        below = middle + ratio * middle.sin() < target
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


@draw_manifold.register
def _swiss_roll(config: SwissRollConfig, seed: int) -> Draw:
    basis = isometry(ambient(config.ambient, 3, "a Swiss roll"), 3, seed)
    t = math.pi * (1.5 + 2 * config.turns * uniform((config.points,), seed, "points"))
    height = config.height * uniform((config.points,), seed, "height")
    x = torch.stack([t * t.cos(), height, t * t.sin()], dim=1)
    tangent = None
    if config.tangents:
        along = torch.stack([t.cos() - t * t.sin(), torch.zeros_like(t), t.sin() + t * t.cos()], dim=1)
        along = along / (1 + t**2).sqrt()[:, None]
        across = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64).expand_as(along)
        tangent = basis @ torch.stack([along, across], dim=2)
    return Draw(x @ basis.mT, 2, tangent)


@draw_manifold.register
def _helix(config: HelixConfig, seed: int) -> Draw:
    basis = isometry(ambient(config.ambient, 3, "a helix"), 3, seed)
    t = 2 * math.pi * config.turns * uniform((config.points,), seed, "points")
    rise = config.pitch / (2 * math.pi)
    x = torch.stack([config.radius * t.cos(), config.radius * t.sin(), rise * t], dim=1)
    tangent = None
    if config.tangents:
        velocity = torch.stack([-config.radius * t.sin(), config.radius * t.cos(), torch.full_like(t, rise)], dim=1)
        tangent = basis @ (velocity / velocity.norm(dim=1, keepdim=True))[..., None]
    return Draw(x @ basis.mT, 1, tangent)


@draw_manifold.register
def _subspace(config: SubspaceConfig, seed: int) -> Draw:
    k = config.dimension
    size = ambient(config.ambient, max(k, 1), f"a {k}-dimensional subspace")
    if config.variances is not None and len(config.variances) != k:
        raise ConfigError(f"variances has {len(config.variances)} numbers; expected {k}, one a direction")
    if config.mean is not None and len(config.mean) != size:
        raise ConfigError(f"mean has {len(config.mean)} numbers; expected {size}, one a coordinate")
    basis = isometry(size, k, seed)
    variances = torch.tensor(config.variances or (1.0,) * k, dtype=torch.float64)
    mean = torch.tensor(config.mean or (0.0,) * size, dtype=torch.float64)
    x = mean + (seeded_normal((config.points, k), seed, "points") * variances.sqrt()) @ basis.mT
    tangent = basis.expand(config.points, -1, -1) if config.tangents else None
    return Draw(
        x, k, tangent, distribution=noisy_distribution(SubspaceGaussian(mean, basis, variances), config.noise_std)
    )


@draw_manifold.register
def _mixture(config: GaussianMixtureConfig, seed: int) -> Draw:
    largest = max(config.dimensions)
    size = ambient(config.ambient, max(largest, 1), f"a component of dimension {largest}")
    weights = torch.tensor(config.weights or (1.0,) * len(config.dimensions), dtype=torch.float64)
    weights = weights / weights.sum()
    label = torch.multinomial(weights, config.points, replacement=True, generator=derive_generator(seed, "label"))
    g = seeded_normal((config.points, largest), seed, "points")
    x = torch.empty(config.points, size, dtype=torch.float64)
    components = []
    for i, k in enumerate(config.dimensions):
        centre = seeded_normal((size,), seed, "centre", i)
        centre = config.separation * centre / centre.norm()
        basis = isometry(size, k, seed, i)
        members = label == i
        x[members] = centre + config.std * g[members][:, :k] @ basis.mT
        gaussian = SubspaceGaussian(centre, basis, torch.full((k,), config.std**2, dtype=torch.float64))
        components.append(noisy_distribution(gaussian, config.noise_std))
    dimension = torch.tensor(config.dimensions)[label]
    return Draw(x, dimension, label=label, distribution=Mixture(weights, tuple(components)))
