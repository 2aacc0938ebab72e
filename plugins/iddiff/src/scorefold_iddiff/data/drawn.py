"""Sources that draw their points when they are made: squares and blobs of the paper, curved sets of benchmarks."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from scorefold.config import Config
from scorefold.data import Dataset
from scorefold.diffusion.divergence import forward_rules
from scorefold.errors import ConfigError
from scorefold.interfaces import DataSource
from scorefold.interfaces.capabilities import KnowsDistribution
from scorefold.seeds import derive_generator
from scorefold_iddiff.data import config as configs
from scorefold_iddiff.data.config import (
    BlobsConfig,
    LollipopConfig,
    NonUniformSphereConfig,
    SpaghettiConfig,
    SquaresConfig,
    SquigglyConfig,
)
from scorefold_toolkit.data.manifolds import Draw, ambient, isometry, seeded_normal, sphere_tangent, splits_of, uniform
from scorefold_toolkit.data.splits import measured_split, pick, plain_scale, source_seed
from scorefold_toolkit.distributions import Distribution, Points

SIDES = (3, 5)
_AT_ONCE = 2**22


def squares(config: SquaresConfig, seed: int) -> Draw:
    """Image = sum_i c_i 1_i with c_i uniform on [0, 1] and 1_i the indicator of the i-th square; overlaps add up.

    The dimension is the rank of the indicators: squares that coincide count once. Stanczuk et al. 2024, the squares.
    """
    indicators = torch.zeros(config.squares, config.size, config.size, dtype=torch.float64)
    for image, (side, row, column) in zip(indicators, places(config), strict=True):
        image[row : row + side, column : column + side] = 1
    flat = indicators.flatten(1)
    left, values, _ = torch.linalg.svd(flat.mT, full_matrices=False)
    rank = int((values > 1e-9 * values[0]).sum())
    x = uniform((config.points, config.squares), seed, "points") @ flat
    tangent = left[:, :rank].expand(config.points, -1, -1) if config.tangents else None
    return Draw(_shaped(x, config), rank, tangent)


def places(config: SquaresConfig) -> list[tuple[int, int, int]]:
    """(side, top row, left column) of each square, drawn as published: side 3 or 5, then the two centres.

    A centre keeps (side + 1) / 2 pixels from the first row and one more from the last. Raises ``ConfigError`` for more
    distinct squares than there are.
    """
    centres = {side: range((side + 1) // 2, config.size - (side + 1) // 2) for side in SIDES}
    most = sum(len(choices) ** 2 for choices in centres.values())
    if config.distinct and config.squares > most:
        raise ConfigError(
            f"{config.squares} distinct squares were asked for; an image of {config.size} pixels has {most}",
            hint="set fewer squares, a larger size, or distinct: false",
        )
    generator = random.Random(config.placement_seed)
    found: list[tuple[int, int, int]] = []
    while len(found) < config.squares:
        side = generator.choice(SIDES)
        row, column = (generator.choice(centres[side]) - ((side + 1) // 2 - 1) for _ in range(2))
        if not (config.distinct and (side, row, column) in found):
            found.append((side, row, column))
    return found


def blobs(config: BlobsConfig, seed: int) -> Draw:
    """Images of ``blob_image``, each width uniform over the widths. Stanczuk et al. 2024, the Gaussian blobs."""
    image = blob_image(config)
    low, high = config.widths
    width = low + (high - low) * uniform((config.points, config.blobs), seed, "points")
    at_once = max(1, _AT_ONCE // (config.size**2 * config.blobs))
    x = torch.func.vmap(image, chunk_size=at_once)(width)
    tangent = None
    if config.tangents:
        forward_rules()
        jacobian = torch.func.vmap(torch.func.jacfwd(image), chunk_size=max(1, at_once // config.blobs))(width)
        tangent = torch.linalg.qr(jacobian).Q
    return Draw(_shaped(x, config), config.blobs, tangent)


def blob_image(config: BlobsConfig) -> Callable[[Tensor], Tensor]:
    """The function from widths s (k,) to an image (D,): sum_i exp(-r_i^2 / 2 s_i^2) / (sqrt(2 pi) s_i) in [0, 1].

    r_i is the distance in pixels from the i-th centre; centres are distinct pixels. The formula uses the normaliser of
    one dimension, as published. Each image is shifted and scaled so that its darkest pixel is 0 and its brightest 1.
    """
    centres = random.Random(config.placement_seed).sample(range(config.size**2), config.blobs)
    rows = torch.arange(config.size, dtype=torch.float64)
    grid = torch.cartesian_prod(rows, rows)
    squared_distance = ((grid[:, None] - grid[centres]) ** 2).sum(2)

    def image(width: Tensor) -> Tensor:
        bell = torch.exp(-squared_distance / (2 * width**2))
        raw = (bell / (math.sqrt(2 * math.pi) * width)).sum(1)
        return (raw - raw.amin()) / (raw.amax() - raw.amin())

    return image


def _shaped(x: Tensor, config: SquaresConfig | BlobsConfig) -> Tensor:
    return x if config.flatten else x.reshape(-1, 1, config.size, config.size)


def non_uniform_sphere(config: NonUniformSphereConfig, seed: int) -> Draw:
    """x_i = cos a_i prod_{j<i} sin a_j for i up to k, and x_{k+1} = prod_j sin a_j, with angles a ~ N(0, angle_std^2).

    Coordinates shrink geometrically, so that at a given noise only the first few directions can be seen. Stanczuk et
    al. 2024, the non-uniform k-spheres.
    """
    k = config.dimension
    size = ambient(config.ambient, k + 1, f"a {k}-sphere")
    basis = isometry(size, k + 1, seed, published=config.isometry)
    angle = config.angle_std * seeded_normal((config.points, k), seed, "points")
    ones = torch.ones(config.points, 1, dtype=torch.float64)
    u = torch.cat([ones, angle.sin().cumprod(1)], dim=1) * torch.cat([angle.cos(), ones], dim=1)
    tangent = basis @ sphere_tangent(u) if config.tangents else None
    return Draw(u @ basis.mT, k, tangent)


def spaghetti(config: SpaghettiConfig, seed: int) -> Draw:
    """x_j = sin(j t), j = 1..D, t uniform on [0, 1] (Stanczuk et al. 2024, the spaghetti line).

    The distribution is a sum over midpoints of the curve: for noise from their spacing on, it differs from the integral
    by less than 1e-8 of its value.
    """
    frequency = torch.arange(1, config.ambient + 1, dtype=torch.float64)

    def at(t: Tensor) -> Tensor:
        return (t[:, None] * frequency).sin()

    t = uniform((config.points,), seed, "points")
    tangent = None
    if config.tangents:
        velocity = frequency * (t[:, None] * frequency).cos()
        tangent = (velocity / velocity.norm(dim=1, keepdim=True))[..., None]
    middles = (torch.arange(config.nodes, dtype=torch.float64) + 0.5) / config.nodes
    return Draw(at(t), 1, tangent, distribution=Points(at(middles)))


def squiggly(config: SquigglyConfig, seed: int) -> Draw:
    """A standard normal distribution on a random k-plane, then ``repeats`` times: on half of the coordinates, drawn at
    random, x + sin(f x) / 2f; random signs; a random rotation.

    The slope of a bend is between 1/2 and 3/2, so the map is a diffeomorphism and the dimension stays. Kamkari et al.
    2024 (FLIPD), the squiggly manifolds of their benchmark; they leave open how many coordinates are bent.
    """
    k, f = config.dimension, config.frequency
    size = ambient(config.ambient, k, f"a {k}-dimensional plane")
    basis = isometry(size, k, seed)
    x = seeded_normal((config.points, k), seed, "points") @ basis.mT
    along = basis.expand(config.points, -1, -1) if config.tangents else None
    for step in range(config.repeats):
        bent = uniform((size,), seed, "bent", step) < 0.5
        turn = isometry(size, size, seed, step) * (2.0 * (uniform((size,), seed, "sign", step) < 0.5) - 1)
        if along is not None:
            slope = torch.where(bent, 1 + 0.5 * (f * x).cos(), 1.0)
            along = turn @ (slope[..., None] * along)
        x = torch.where(bent, x + (f * x).sin() / (2 * f), x) @ turn.mT
    return Draw(x, k, None if along is None else torch.linalg.qr(along).Q)


def lollipop(config: LollipopConfig, seed: int) -> Draw:
    """A disk of radius 1 around (3, 3), a stick from its rim to (1.5, 1.5), a dot at (0, 0): dimensions 2, 1 and 0.

    Uniform by area and by length; ``label`` 0, 1, 2 in this order. Kamkari et al. 2024 (FLIPD).
    """
    basis = isometry(ambient(config.ambient, 2, "a lollipop"), 2, seed)
    weights = torch.tensor(config.weights, dtype=torch.float64)
    label = torch.multinomial(weights, config.points, replacement=True, generator=derive_generator(seed, "label"))
    along, angle = uniform((2, config.points), seed, "points")
    angle = 2 * math.pi * angle
    disk = 3 + along.sqrt()[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)
    rim = 3 - 1 / math.sqrt(2)
    stick = (1.5 + (rim - 1.5) * along)[:, None].expand(-1, 2)
    x = torch.stack([disk, stick, torch.zeros_like(disk)])[label, torch.arange(config.points)]
    return Draw(x @ basis.mT, 2 - label, label=label)


DRAWS: Mapping[type[Config], Callable[[Any, int], Draw]] = {
    configs.NonUniformSphereConfig: non_uniform_sphere,
    configs.SpaghettiConfig: spaghetti,
    configs.SquigglyConfig: squiggly,
    configs.LollipopConfig: lollipop,
    configs.SquaresConfig: squares,
    configs.BlobsConfig: blobs,
}


def draw_source(config: Config, seed: int) -> Draw:
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
        self._splits = _splits(draw_source(config, seed), config, seed)
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
        drawn = draw_source(config, seed)
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
