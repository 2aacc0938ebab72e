"""Choice of surrogates: some of every dimension that the data allow, then more like those that resemble the data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import islice, pairwise, zip_longest
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from scorefold_neighbours.calibrated.calibration import Array
from scorefold_neighbours.calibrated.facts import Facts
from scorefold_neighbours.calibrated.surrogates import LATENTS, SurrogateRecipe

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
        bend = math.exp(draws.uniform(*map(math.log, _bends(facts.count, kept))))
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
        low, high = _bends(facts.count, dimension)
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
def _bends(count: int, dimension: int) -> tuple[float, float]:
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
