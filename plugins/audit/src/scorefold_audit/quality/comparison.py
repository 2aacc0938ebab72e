"""Closeness of samples to held-out points as a whole: tests against equal distributions, distances, and FLD."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scorefold.errors import DataError
from scorefold_toolkit.metrics import frechet_distance
from scorefold_toolkit.training.optimiser import Adam

PRECISION, DENSITY = 3, 5
"""The neighbours behind precision and recall, and behind density and coverage, of the papers."""

FEWEST = 20
WIDEST = 2048
_SIZES = 15
_REPEATS = 5


@dataclass(frozen=True)
class Permuted:
    """A number, its mean and standard deviation over permutations of samples and held-out points, the chances of one as
    small and as large there, and the least chance that so many permutations can give."""

    value: float
    mean: float
    deviation: float
    p_low: float
    p_high: float
    least_p: float

    @classmethod
    def of(cls, value: float, permuted: Tensor) -> Permuted:
        count = len(permuted) + 1
        # A hair, so that a permutation that gives the same number counts as one whatever its rounding.
        hair = 1e-12 * max(1.0, abs(value))
        low, high = int((permuted <= value + hair).sum()), int((permuted >= value - hair).sum())
        deviation = float(permuted.std())
        return cls(value, float(permuted.mean()), deviation, (1 + low) / count, (1 + high) / count, 1 / count)


def check_enough(samples: Tensor, held_out: Tensor, what: str, fewest: int = FEWEST) -> None:
    """Raises ``DataError`` where either set, of which as many points are taken, has too few."""
    count = min(len(samples), len(held_out))
    if count < fewest:
        raise DataError(
            f"{what} needs at least {fewest} samples and as many held-out points; there are {count} of each"
        )


def neighbourhoods(
    samples: Tensor, held_out: Tensor, permutations: int, generator: torch.Generator
) -> dict[str, Permuted]:
    """Precision, recall, density and coverage of N samples (N, D) next to as many held-out points, with their values
    over permutations. Raises ``DataError`` for fewer than 20."""
    check_enough(samples, held_out, "the test of precision, recall, density and coverage")
    m = len(samples)
    every = torch.cat([samples, held_out]).double()
    apart = torch.cdist(every, every)
    # Neighbours are sorted once: a permutation changes only which of them are in a point's own set.
    others = apart + torch.diag(torch.full((len(every),), torch.inf, dtype=apart.dtype))
    distances, order = (part[:, :-1] for part in others.sort(1))
    labels = torch.zeros(1 + permutations, len(every), dtype=torch.bool)
    labels[0, :m] = True
    for row in labels[1:]:
        row[torch.randperm(len(every), generator=generator)[:m]] = True
    values = [_balls(distances, order, of_samples) for of_samples in labels]
    names = ("precision", "recall", "density", "coverage")
    return {
        name: Permuted.of(float(column[0]), column[1:])
        for name, column in zip(names, torch.tensor(values, dtype=torch.float64).T, strict=True)
    }


def _balls(distances: Tensor, order: Tensor, of_samples: Tensor, most: int = 64) -> tuple[float, float, float, float]:
    """Precision, recall, density and coverage, where a mask (N,) says which points are samples, of the distances (N, N)
    from each to all others in increasing order and their places (N, N). See ``scorefold_toolkit.metrics.distances``.

    Balls reach to a third or fifth neighbour, so the ``most`` nearest of each point are enough but for duplicates.
    """
    near, samples = distances[:, :most], of_samples[order[:, :most]]
    counts = (samples == of_samples[:, None]).cumsum(1, dtype=torch.int16)
    few, many = (
        near.gather(1, (counts < count).sum(1, keepdim=True).clamp_max(near.shape[1] - 1))
        for count in (PRECISION, DENSITY)
    )
    if most < distances.shape[1] and not bool(((counts[:, -1:] >= DENSITY) & (near[:, -1:] > many)).all()):
        return _balls(distances, order, of_samples, distances.shape[1])
    places, truths = order[:, :most], ~of_samples[:, None]
    covered = torch.zeros_like(of_samples)
    # Samples in balls of held-out points, and held-out points in balls of samples.
    covered[places[(near <= few) & (samples == truths)]] = True
    inside = (near <= many) & samples & truths
    return (
        float(covered[of_samples].double().mean()),
        float(covered[~of_samples].double().mean()),
        float(inside.sum()) / DENSITY / int(of_samples.sum()),
        float(inside.any(1)[~of_samples].double().mean()),
    )


def kernel_distance_test(
    samples: Tensor,
    held_out: Tensor,
    permutations: int,
    generator: torch.Generator,
    groups: tuple[Tensor, ...] | None = None,
) -> Permuted:
    """The unbiased squared kernel distance (KID) of samples (m, D) and held-out points (h, D), with the kernel
    (x.y / D + 1)^3 (Binkowski et al. 2018); with ``groups`` (m,) and (h,), their conditions, the kernel is 0 between
    points of different ones, so that only points of one condition are compared. Raises ``DataError`` for fewer than
    20."""
    check_enough(samples, held_out, "the test of the kernel distance")
    every, m, h = torch.cat([samples, held_out]).double(), len(samples), len(held_out)
    kernel = (every @ every.T / every.shape[1] + 1) ** 3
    if groups is not None:
        group = torch.cat(groups)
        kernel = kernel * (group[:, None] == group)
    orders = [torch.arange(m + h), *(torch.randperm(m + h, generator=generator) for _ in range(permutations))]
    labels = torch.zeros(len(orders), m + h, dtype=torch.float64)
    for row, order in zip(labels, orders, strict=True):
        row[order[:m]] = 1
    diagonal = kernel.diagonal()
    of_samples = labels @ kernel
    within = (of_samples * labels).sum(1) - labels @ diagonal
    cross = (of_samples * (1 - labels)).sum(1)
    others = (((1 - labels) @ kernel) * (1 - labels)).sum(1) - (1 - labels) @ diagonal
    values = within / (m * (m - 1)) + others / (h * (h - 1)) - 2 * cross / (m * h)
    return Permuted.of(float(values[0]), values[1:])


@dataclass(frozen=True)
class FrechetComparison:
    """The squared Frechet distance of samples and held-out points.

    ``training`` is the distance with as many training points in place of the samples. ``limit`` is the distance for
    ever more samples, from a line in 1 / N through 15 sizes.
    """

    value: float
    training: float | None
    limit: float | None
    points: int


def frechet(samples: Tensor, held_out: Tensor, training: Tensor, generator: torch.Generator) -> FrechetComparison:
    """Frechet distances of features (m, D), (h, D) and (n, D). Raises ``DataError`` for no more points than features,
    whose covariance would be singular, and for more than 2,048 features."""
    features = samples.shape[1]
    if features > WIDEST:
        raise DataError(f"a Frechet distance of {features} features takes too long; {WIDEST} at most")
    check_enough(samples, held_out, f"a Frechet distance of {features} features", features + 2)
    count = len(samples)
    of_training = frechet_distance(some(training, count, generator), held_out) if len(training) >= count else None
    least = max(count // 4, features + 2, 10)
    limit = None
    if count >= 2 * least:
        sizes = np.linspace(least, count, _SIZES).astype(int)
        values = [
            np.mean([frechet_distance(some(samples, int(size), generator), held_out) for _ in range(_REPEATS)])
            for size in sizes
        ]
        limit = float(np.polyfit(1 / sizes, values, 1)[1])
    return FrechetComparison(frechet_distance(samples, held_out), of_training, limit, count)


def some(points: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """At most so many of the points, chosen at random without replacement: repeated points would look like copies."""
    return points[torch.randperm(len(points), generator=generator)[:count]]


_STEPS, _RATE = 50, 0.5
_LEAST, _CLAMP = 1e-3, (-40.0, 20.0)
_NEARER = 0.81
"""The broad component is 0.9 times as far from every point as their mean is, as in the authors' code."""

_SPLITS = 3


@dataclass(frozen=True)
class Divergence:
    """Feature likelihood divergence of samples.

    ``fld`` is 0 where samples are as good as training points, and grows for poor samples and for copies; above 1000 all
    are copies. ``gap_of_held_out`` is the gap of held-out points in place of samples. ``gap`` is far below it where
    samples fit training points better than held-out points.
    """

    fld: float
    gap: float
    gap_of_held_out: float


def likelihood_divergence(
    samples: Tensor, training: Tensor, held_out: Tensor, generator: torch.Generator
) -> Divergence:
    """FLD and its gap, of samples (m, D), training (n, D) and held-out points (h, D) (Jiralerspong et al. 2023).

    All are standardised by held-out points. The gap of equal distributions is not 0, so it is compared with the gap of
    half of the held-out points as samples, next to the other half, in 3 splits; half of the samples stand there too.
    Raises ``DataError`` for fewer than 20 points of a set.
    """
    count = min(len(samples), len(training), len(held_out))
    if count < FEWEST:
        raise DataError(f"the likelihood divergence needs at least {FEWEST} points of each set; there are {count}")
    samples, training, held_out = standardised_sets(samples, training, held_out)
    order = torch.randperm(len(training), generator=generator)
    half, other = training[order[: len(order) // 2]], training[order[len(order) // 2 :]]
    base = cost(held_out, half[: len(samples)], log_variances(half[: len(samples)], other))
    value = 100 * (cost(held_out, samples, log_variances(samples, training)) - base)
    gaps = torch.empty(2, _SPLITS)
    for split in range(_SPLITS):
        order = torch.randperm(len(held_out), generator=generator)
        stand_in, rest = held_out[order[: len(order) // 2]], held_out[order[len(order) // 2 :]]
        some = samples[torch.randperm(len(samples), generator=generator)[: len(stand_in)]]
        for row, centres in enumerate((some, stand_in)):
            gaps[row, split] = gap(centres, training, rest)
    return Divergence(value, *gaps.mean(1).tolist())


def standardised_sets(*sets: Tensor) -> tuple[Tensor, ...]:
    """Sets of points (N, D) in deviations of the last one, coordinate by coordinate, about its mean."""
    mean, deviation = sets[-1].mean(0), sets[-1].std(0)
    return tuple((x.double() - mean) / torch.where(deviation > 0, deviation, 1.0) for x in sets)


def gap(samples: Tensor, training: Tensor, held_out: Tensor) -> float:
    """100 (NLL of training points - NLL of held-out points) / D under a mixture on the samples."""
    variances = log_variances(samples, training)
    return 100 * (cost(training, samples, variances) - cost(held_out, samples, variances))


def log_variances(centres: Tensor, points: Tensor) -> Tensor:
    """The log-variances (m,) of isotropic Gaussians on centres (m, D) that make points (n, D) most likely, by 50 steps
    of Adam.

    While they are found one more, broad component about the points' mean keeps points that no centre is near from
    widening those that are near others.
    """
    dimension = points.shape[1]
    about_mean = _NEARER * (points - points.mean(0)).square().sum(1, keepdim=True)
    squared = torch.cat([torch.cdist(points, centres).square(), about_mean], 1)
    # A hair, so that a copy has a variance to begin with; the broad component begins with 1.
    found = ((squared.amin(0) + _LEAST) / dimension).log()
    found[-1] = 0
    shares = torch.full_like(found, -math.log(len(centres)))
    shares[-1] = 0
    optimiser = Adam([found], lr=_RATE, fused=False)
    for _ in range(_STEPS):
        # The gradient of the mean cost: points weigh by how likely they are to come from a component.
        weights = (_densities(squared, found, dimension) + shares).softmax(1)
        found.grad = (weights.sum(0) - weights.mul(squared).sum(0) / (dimension * found.exp())) / (2 * len(points))
        optimiser.step()
        found[:-1].clamp_(*_CLAMP)
    return found[:-1]


def cost(points: Tensor, centres: Tensor, variances: Tensor) -> float:
    """The mean negative log-likelihood per dimension of points (n, D) under the mixture, without a broad component."""
    every = _densities(torch.cdist(points, centres).square(), variances, points.shape[1])
    return float(-(every.logsumexp(1) - math.log(len(centres))).mean() / points.shape[1])


def _densities(squared: Tensor, variances: Tensor, dimension: int) -> Tensor:
    """Log-densities (n, m) of Gaussians of log-variances (m,) at squared distances (n, m) from their centres."""
    return torch.addcmul(-0.5 * dimension * (variances + math.log(2 * math.pi)), squared, -0.5 / variances.exp())
