"""The feature likelihood divergence (FLD): how likely points are under a mixture of Gaussians on the samples."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefold.errors import DataError
from scorefold_toolkit.training.optimiser import Adam

FEWEST = 20
_STEPS, _RATE = 50, 0.5
_LEAST, _CLAMP = 1e-3, (-40.0, 20.0)
_NEARER = 0.81
"""The broad component is 0.9 times as far from every point as their mean is, as in the authors' code."""

_SPLITS = 3


@dataclass(frozen=True)
class Divergence:
    """``fld`` is 0 where samples are as good as training points, and grows for poor ones and for copies; above 1000
    all are copies. ``gap`` is far below ``gap_of_held_out``, that of held-out points in place of samples, where samples
    fit training points better than held-out points."""

    fld: float
    gap: float
    gap_of_held_out: float


def likelihood_divergence(
    samples: Tensor, training: Tensor, held_out: Tensor, generator: torch.Generator
) -> Divergence:
    """FLD and its gap, of samples (m, D), training (n, D) and held-out points (h, D) (Jiralerspong et al. 2023).

    All are standardised by held-out points. The gap of equal distributions is not 0, so it is compared with that of
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
    squared = torch.cdist(points, centres).square()
    # A hair, so that a copy has a variance to begin with.
    found = ((squared.amin(0) + _LEAST) / dimension).log().requires_grad_()
    broad = torch.zeros((), dtype=points.dtype, requires_grad=True)
    about_mean = _NEARER * (points - points.mean(0)).square().sum(1, keepdim=True)
    optimiser = Adam([found, broad], lr=_RATE, fused=False)
    with torch.enable_grad():
        for _ in range(_STEPS):
            optimiser.zero_grad()
            every = _densities(squared, found, dimension) - math.log(len(centres))
            outside = _densities(about_mean, broad[None], dimension)
            loss = -torch.cat([every, outside], 1).logsumexp(1).mean() / dimension
            loss.backward()
            optimiser.step()
            with torch.no_grad():
                found.clamp_(*_CLAMP)
    return found.detach()


def cost(points: Tensor, centres: Tensor, variances: Tensor) -> float:
    """The mean negative log-likelihood per dimension of points (n, D) under the mixture, without a broad component."""
    every = _densities(torch.cdist(points, centres).square(), variances, points.shape[1])
    return float(-(every.logsumexp(1) - math.log(len(centres))).mean() / points.shape[1])


def _densities(squared: Tensor, variances: Tensor, dimension: int) -> Tensor:
    """Log-densities (n, m) of Gaussians of log-variances (m,) at squared distances (n, m) from their centres."""
    return -0.5 * (squared / variances.exp() + dimension * (variances + math.log(2 * math.pi)))
