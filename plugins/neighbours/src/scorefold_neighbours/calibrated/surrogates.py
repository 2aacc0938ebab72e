"""Surrogate data: smooth random manifolds of a chosen dimension that look like given data, and their choice.

First come some of every dimension that the data allow, then more like those that resemble the data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice, pairwise, zip_longest
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from scorefold_neighbours.calibrated.calibration import Array
from scorefold_neighbours.calibrated.facts import Facts

LATENTS = ("uniform", "gaussian", "sphere", "marginals", "skewed", "scaled", "rays")


@dataclass(frozen=True)
class SurrogateRecipe:
    """Recipe of a surrogate: its dimension, and unknown properties of the data.

    ``latent`` is the distribution of the coordinates: uniform in a cube or on a sphere, Gaussian, independent with the
    marginals of the data along their principal axes, ``skewed`` (Gamma of a ``shape``), Gaussian ``scaled`` by one
    log-normal factor a point whose logarithm has the deviation 1 / (1 + shape), or on ``rays``: uniform in a cube times
    one factor a point, U^(1 / shape) of a uniform U, so that points crowd at a corner. ``frequency`` is how strongly
    the manifold bends (radians a standard deviation of a coordinate) and ``mixed`` how many coordinates each bend
    depends on; ``noise`` is a deviation, in the data's units. Bends that are ``wound`` come in pairs of a sine and a
    cosine, as circles and coils do, and each coordinate or bend lies along an axis of its own.
    """

    dimension: int
    latent: str
    frequency: float
    mixed: int
    noise: float
    shape: float = 1.0
    wound: bool = False


def surrogate(facts: Facts, recipe: SurrogateRecipe, generator: torch.Generator) -> Tensor:
    """Points (n, r) on the principal axes of the data, or (n, D) where these lie on a grid, in float64."""
    u = _latent(facts, recipe, generator)
    clean = (facts.variances - recipe.noise**2).clamp(min=0)
    y = _bent(u, facts, recipe, clean, generator)
    y = _with_tails(y, facts)
    y = y + recipe.noise * torch.randn(y.shape, generator=generator, dtype=torch.float64)
    if not facts.on_grid:
        return y
    x = y @ facts.axes.T
    steps = facts.steps
    return torch.where(steps > 0, (x / steps.where(steps > 0, 1)).round() * steps, x)


def _latent(facts: Facts, recipe: SurrogateRecipe, generator: torch.Generator) -> Tensor:
    """Coordinates of deviation 1: (n, k), or (n, k + 1) on a k-sphere."""
    n, k = facts.count, recipe.dimension
    if recipe.latent == "uniform":
        return (2 * torch.rand(n, k, generator=generator, dtype=torch.float64) - 1) * math.sqrt(3)
    if recipe.latent == "sphere":
        z = torch.randn(n, k + 1, generator=generator, dtype=torch.float64)
        lengths: Tensor = z.norm(dim=1, keepdim=True)
        return z / lengths * math.sqrt(k + 1)
    if recipe.latent == "marginals":
        # Smooth draws from the marginals of the data: between neighbours in their order.
        columns = torch.arange(k) % facts.marginals.shape[1]
        place = torch.rand(n, k, generator=generator, dtype=torch.float64) * (n - 1)
        below = place.floor().long().clamp(max=n - 2)
        sorted_values = facts.marginals[:, columns]
        low, high = sorted_values.gather(0, below), sorted_values.gather(0, below + 1)
        return low + (place - below) * (high - low)
    if recipe.latent == "rays":
        u = torch.rand(n, k + 1, generator=generator, dtype=torch.float64)
        along = u[:, 1:] * u[:, :1] ** (1 / recipe.shape)
        return (along - along.mean(0)) / along.std(0)
    z = torch.randn(n, k, generator=generator, dtype=torch.float64)
    if recipe.latent == "skewed":
        return (_gamma(z, recipe.shape) - recipe.shape) / math.sqrt(recipe.shape)
    if recipe.latent == "scaled":
        factors = torch.randn(n, 1, generator=generator, dtype=torch.float64) / (1 + recipe.shape)
        return z * factors.exp()
    return z


def _gamma(z: Tensor, shape: float) -> Tensor:
    """Gamma draws of a shape from normal ones, by their quantiles."""
    from scipy.special import gammaincinv

    share = torch.special.ndtr(z).clamp(1e-12, 1 - 1e-12)
    return torch.from_numpy(gammaincinv(shape, share.numpy()))


def _bent(u: Tensor, facts: Facts, recipe: SurrogateRecipe, variances: Tensor, generator: torch.Generator) -> Tensor:
    """The coordinates and bends of them, mixed so that their covariance is the data's: (n, r)."""
    n, width = u.shape
    rank, seen = len(variances), facts.seen
    extra = max(0, rank - width)
    bends = _bends(u, extra, recipe, generator)
    features = torch.cat([u, bends], dim=1) if extra else u
    features = features - features.mean(0)
    if width < seen:
        # Where bends matter they are mixed with the coordinates, so that no axis of the data is free of them.
        head = features[:, :seen]
        features = torch.cat([_white(head) @ _turn(seen, recipe, generator), features[:, seen:]], dim=1)
    features = features[:, :rank]
    features = features / features.std(0).clamp(min=1e-12)
    y = features * variances[: features.shape[1]].sqrt()
    return torch.cat([y, y.new_zeros(n, rank - y.shape[1])], dim=1)


def _turn(count: int, recipe: SurrogateRecipe, generator: torch.Generator) -> Tensor:
    """A random rotation of the axes, or a random order of them where bends are wound: (count, count)."""
    if recipe.wound:
        return torch.eye(count, dtype=torch.float64)[torch.randperm(count, generator=generator)]
    rotation: Tensor = torch.linalg.qr(torch.randn(count, count, generator=generator, dtype=torch.float64)).Q
    return rotation


def _bends(u: Tensor, count: int, recipe: SurrogateRecipe, generator: torch.Generator) -> Tensor:
    """Random smooth functions of the coordinates: (n, count)."""
    if recipe.wound:
        angles = _angles(u, (count + 1) // 2, recipe, generator)
        return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[:, :count]
    return _angles(u, count, recipe, generator).sin()


def _angles(u: Tensor, count: int, recipe: SurrogateRecipe, generator: torch.Generator) -> Tensor:
    """Random linear functions of a few coordinates, in radians: (n, count).

    Their gradients are as long as the frequency in the mean of squares. The first of what is wound has this length
    itself, so that a search finds a coil.
    """
    width = u.shape[1]
    weights = torch.randn(width, count, generator=generator, dtype=torch.float64)
    kept = min(recipe.mixed, width)
    order = torch.rand(width, count, generator=generator, dtype=torch.float64).argsort(dim=0)
    weights = weights * (order < kept) / math.sqrt(kept)
    if recipe.wound:
        weights[:, :1] /= weights[:, :1].norm().clamp(min=1e-12)
    phases = 2 * math.pi * torch.rand(count, generator=generator, dtype=torch.float64)
    angles: Tensor = recipe.frequency * (u @ weights) + phases
    return angles


def _white(features: Tensor) -> Tensor:
    """Features with the identity as their covariance; directions that they do not fill stay small."""
    centred = features - features.mean(0)
    left, singular, right = torch.linalg.svd(centred, full_matrices=False)
    kept = singular > 1e-6 * singular[0]
    found: Tensor = (left * kept) @ right * math.sqrt(len(features) - 1)
    return found


def _with_tails(y: Tensor, facts: Facts) -> Tensor:
    """Points with distances from the mean as heavy-tailed as the data's, where their own are not."""
    norms: Tensor = y.norm(dim=1)
    own = norms.clamp(min=1e-12).log().std()
    if float(facts.norms.clamp(min=1e-12).log().std()) <= 1.1 * float(own):
        return y
    target = torch.empty_like(norms)
    target[norms.argsort()] = facts.norms
    return y * (target / norms.clamp(min=1e-12))[:, None]


T = TypeVar("T")

FREQUENCIES = (0.3, 10.0)
"""Curvature of surrogates, in radians per standard deviation of a coordinate: from nearly flat to folded."""

RESOLVED = 1.5
"""The most that a surrogate bends from a point to its neighbour, in radians: beyond, no points show its dimension."""

NOISE = (0.002, 0.1)
"""The noise of surrogates that have some, as shares of the data's spread; never more than the data allow."""

SHAPES = (0.2, 3.0)
"""The shape of skewed and scaled latents: the smaller, the farther from Gaussian."""

FULL = 8
"""One in so many recipes fills all the axes that can be seen, or all but one."""

NOISELESS = 0.25
"""The share of surrogates without noise."""

WOUND = 0.3
"""The share of surrogates whose bends are wound."""


class Draws:
    """Random numbers one at a time."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        return low + (high - low) * float(torch.rand((), generator=self.generator, dtype=torch.float64))

    def normal(self) -> float:
        return float(torch.randn((), generator=self.generator, dtype=torch.float64))

    def one_of(self, items: Sequence[T], weights: Sequence[float] | None = None) -> T:
        shares = torch.tensor([1.0] * len(items) if weights is None else list(weights), dtype=torch.float64)
        return items[int(torch.multinomial(shares, 1, generator=self.generator))]


def coarse(facts: Facts, count: int, draws: Draws) -> list[SurrogateRecipe]:
    """Recipes of all dimensions from 1 to those that can be seen, evenly in their logarithm; all else is drawn."""
    found = []
    for place in range(count):
        dimension = int(math.exp((place + draws.uniform()) / count * math.log(facts.seen + 1)))
        mixed = draws.one_of((1, 2, 2, facts.seen))
        kept = min(max(1, dimension), facts.seen)
        if place % FULL == FULL - 1:
            kept = draws.one_of((facts.seen, max(1, facts.seen - 1)))
        shape = math.exp(draws.uniform(*map(math.log, SHAPES)))
        bend = math.exp(draws.uniform(*map(math.log, _frequency_range(facts.count, kept))))
        latent, noise = draws.one_of(LATENTS), _noise(facts, draws)
        found.append(SurrogateRecipe(kept, latent, bend, mixed, noise, shape, draws.uniform() < WOUND))
    return found


def refined(
    facts: Facts, recipes: Sequence[SurrogateRecipe], weights: Array, count: int, draws: Draws
) -> list[SurrogateRecipe]:
    """Recipes near those with large weights: each part is moved a little, or drawn again."""
    found = []
    for _ in range(count):
        near = draws.one_of(recipes, list(weights))
        moved = round(near.dimension * math.exp(0.2 * draws.normal()) + draws.one_of((-1, 0, 0, 1)))
        dimension = min(max(1, moved), facts.seen)
        low, high = _frequency_range(facts.count, dimension)
        found.append(
            SurrogateRecipe(
                dimension=dimension,
                latent=near.latent if draws.uniform() < 0.5 else draws.one_of(LATENTS),
                frequency=min(high, max(low, near.frequency * math.exp(0.4 * draws.normal()))),
                shape=min(SHAPES[1], max(SHAPES[0], near.shape * math.exp(0.4 * draws.normal()))),
                mixed=near.mixed if draws.uniform() < 0.5 else draws.one_of((1, 2, facts.seen)),
                noise=min(near.noise * math.exp(0.4 * draws.normal()), _most_noise(facts))
                if draws.uniform() < 0.7
                else _noise(facts, draws),
                wound=near.wound,
            )
        )
    return found


def chosen_recipes(dimensions: Array, distances: Array, count: int) -> list[int]:
    """The positions of ``count`` recipes to read: the nearest, and for two of five, the nearest of every dimension.

    The latter come in turns from ten equal ranges of the logarithm of the dimension.
    """
    order = [int(place) for place in np.argsort(distances, kind="stable")]
    kept = order[: count - 2 * count // 5]
    edges = np.geomspace(dimensions.min(), dimensions.max() + 1, 11)
    ranges = [[place for place in order if low <= dimensions[place] < high] for low, high in pairwise(edges)]
    turns = (place for places in zip_longest(*ranges) for place in places if place is not None)
    kept += list(islice((place for place in turns if place not in kept), count - len(kept)))
    return sorted(kept)


@cache
def _frequency_range(count: int, dimension: int) -> tuple[float, float]:
    """The least and the largest frequency of a manifold of a dimension that so many points resolve."""
    some = torch.randn(count, dimension, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    nearest = torch.cdist(some, some).fill_diagonal_(math.inf).min(dim=1).values
    low, high = FREQUENCIES
    return low, min(high, max(1.01 * low, RESOLVED * math.sqrt(dimension) / float(nearest.median())))


def _spread(facts: Facts) -> float:
    return math.sqrt(float(facts.variances[: facts.seen].mean()))


def _most_noise(facts: Facts) -> float:
    return float(min(facts.noise, NOISE[1] * _spread(facts)))


def _noise(facts: Facts, draws: Draws) -> float:
    low, high = NOISE[0] * _spread(facts), _most_noise(facts)
    if draws.uniform() < NOISELESS:
        return 0.0
    return high if high <= low else math.exp(draws.uniform(math.log(low), math.log(high)))


NEIGHBOURS = (3, 6, 12, 25, 50)
"""The neighbours whose distances are compared."""

AROUND = 30
"""Neighbours in the local spectra, at up to this many points times four."""

TOUCHING = 1e-4
"""The least distance that counts, as a share of the spread: products of coordinates round to 1e-8 of it."""

EVEN = 1e-3
"""Smallest growth of distances that counts, in logarithms: on a coarse grid many distances are equal."""

SEPARATED = 0.8
"""The share of its own squared norm above which another point's projection counts as near (Albergante et al. 2019)."""


def look(x: Tensor, seen: int) -> Tensor:
    """Numbers (M,) above 0 of points (n, r) on principal axes, of which the first ``seen`` are looked at globally.

    They are: the maximum-likelihood dimension by several numbers of neighbours; distances of neighbours over the
    spread; the slope of the correlation integral, and how unequal distances of neighbours are; the participation ratio
    of local spectra, and how many of their variances are above a twentieth of the largest; the share of pairs that
    hyperplanes don't separate; the tails of distances from the mean and of coordinates.
    """
    n = len(x)
    kept = [count for count in NEIGHBOURS if count < n // 2]
    norms = x.norm(dim=1)
    spread = norms.square().mean().sqrt()
    between = torch.cdist(x, x)
    distances, order = between.topk(kept[-1] + 1, largest=False)
    distances = distances[:, 1:].clamp(min=TOUCHING * float(spread))
    small, large = distances[:, kept[1] - 1].median(), distances[:, kept[-1] - 1].median()
    # A radius is the distance of a pair, which rounding must not put on either side of it.
    counts = [torch.count_nonzero(between < radius * (1 + 1e-6)) - n for radius in (small, large)]
    pairs = [count.clamp(min=1).double() for count in counts]
    dense, sparse = torch.quantile(distances[:, kept[1] - 1], torch.tensor([0.1, 0.9], dtype=x.dtype))
    density = [(pairs[1] / pairs[0]).log() / (large / small).log().clamp(min=EVEN) + 0.01, sparse / dense]
    logs = distances.log()
    slopes = [1 / (logs[:, count - 1] - logs[:, : count - 1].mean(1)).mean().clamp(min=EVEN) for count in kept]
    lengths = [distances[:, count - 1].median() / spread for count in (1, kept[-1])]
    around = x[order[: 4 * AROUND, : min(AROUND, kept[-1]) + 1]]
    centred = around - around.mean(1, keepdim=True)
    # The products of m points are fewer than the products of r coordinates where r is large.
    products = centred @ centred.mT if centred.shape[1] < x.shape[1] else centred.mT @ centred
    spectra = torch.linalg.eigvalsh(products).clamp(min=0).flip(1)
    # On a coarse grid all neighbours may be copies, which have no spectrum: it counts as one of one axis.
    local = [
        (spectra.sum(1).square() / spectra.square().sum(1)).nan_to_num(1.0).mean(),
        (spectra > 0.05 * spectra[:, :1]).double().sum(1).clamp(min=1).mean(),
    ]
    y = x[:, :seen] / x[:, :seen].std(0).clamp(min=1e-12 * float(spread))
    unit = y / y.norm(dim=1, keepdim=True).clamp(min=1e-12)
    # Points at the mean, of which a coarse grid may hold many, are not near themselves.
    others = (torch.count_nonzero(unit @ unit.T > SEPARATED).double() - n).clamp(min=0)
    near = others / (n * (n - 1)) + 1 / n**2
    tails = [norms.clamp(min=1e-12 * float(spread)).log().std() + 0.01, y.pow(4).mean()]
    return torch.stack([*slopes, *lengths, *density, *local, near, *tails])
