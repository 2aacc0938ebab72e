"""Choice of surrogates: some of every dimension that the data allow, then more like those that resemble the data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import islice, pairwise, zip_longest
from typing import TypeVar

import numpy as np
import torch

from scorefold_neighbours.calibrated.calibration import Array
from scorefold_neighbours.calibrated.facts import Facts
from scorefold_neighbours.calibrated.surrogates import LATENTS, Recipe

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


def coarse(facts: Facts, count: int, draws: Draws) -> list[Recipe]:
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
        found.append(Recipe(kept, draws.one_of(LATENTS), bend, mixed, _noise(facts, draws), shape))
    return found


def refined(facts: Facts, recipes: Sequence[Recipe], weights: Array, count: int, draws: Draws) -> list[Recipe]:
    """Recipes near those with large weights: each part is moved a little, or drawn again."""
    found = []
    for _ in range(count):
        near = draws.one_of(recipes, list(weights))
        moved = round(near.dimension * math.exp(0.2 * draws.normal()) + draws.one_of((-1, 0, 0, 1)))
        dimension = min(max(1, moved), facts.seen)
        low, high = _bends(facts.count, dimension)
        found.append(
            Recipe(
                dimension=dimension,
                latent=near.latent if draws.uniform() < 0.5 else draws.one_of(LATENTS),
                frequency=min(high, max(low, near.frequency * math.exp(0.4 * draws.normal()))),
                shape=min(SHAPES[1], max(SHAPES[0], near.shape * math.exp(0.4 * draws.normal()))),
                mixed=near.mixed if draws.uniform() < 0.5 else draws.one_of((1, 2, facts.seen)),
                noise=min(near.noise * math.exp(0.4 * draws.normal()), _most_noise(facts))
                if draws.uniform() < 0.7
                else _noise(facts, draws),
            )
        )
    return found


def chosen(dimensions: Array, distances: Array, count: int) -> list[int]:
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
