"""Intrinsic dimension of counts, bits and categories: how the number of points grows with the radius on a lattice."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from scorefold.errors import DataError
from scorefold_neighbours.config import I3DConfig
from scorefold_neighbours.estimators.formulas import root_of

HALF = 0.5
"""The share of the points within the larger radius that are within the smaller one, at most, where that can be."""

APART = 1.25
"""The factor by which readings at two radii differ where one number does not describe the data."""

_CLOSE = 1e-6
"""The share of a step by which a multiple of it may be off, beside float32's rounding."""

COARSE = 10
"""The steps of the larger radius below which rounding changes the reading."""

_MOST = 10_000_000
"""The most steps between two points."""

_LONG = 2000
"""The radius from which on a ball of a lattice is as large as one of space, to 1e-6 up to dimension 5."""


def i3d(config: I3DConfig, x: Tensor, say: Callable[[str], None]) -> float:
    """The dimension of a lattice on which points (n, D), in steps, lie (Macocco et al. 2023, equation 5).

    Of the others within the radius ``far`` of a point, those within ``near`` are a binomial draw with the ratio of both
    volumes as its probability, for a density that is alike within ``far``. So the most likely dimension d has
    V(near, d) / V(far, d) equal to the mean number within ``near`` over the mean number within ``far``. NaN where no d
    has. Copies of a point count as others. ``say`` hears where another radius reads another dimension, and where values
    were rounded to steps that are not small.
    """
    slack = _CLOSE + torch.finfo(torch.float32).eps * x.abs()
    rounded, x = bool(((x - x.round()).abs() > slack).any()), x.round()
    within = counts_within(config, x)
    if len(within) == 1:
        raise DataError(f"all {len(x)} points are equal in steps of {config.step:g}", hint="take a smaller step")
    near, far = radii(config, within)
    if rounded and far < COARSE:
        say(
            f"values are rounded to steps of {config.step:g}, and points are read within {far} steps: take smaller ones"
        )
    values = [len(column.unique()) for column in x.T]
    values = [count for count in values if count > 1]
    states = max(values, key=lambda count: (values.count(count), -count))
    if config.distance == "city-block" and max(values) == 2:
        say("all columns have two values: distance: hamming counts bits and categories")
    if config.distance == "hamming" and max(values) > min(values):
        say(
            f"columns have {min(values)} to {max(values)} values, and {states} are assumed for all: give columns with "
            "equal numbers of values"
        )
    found = dimension_of_ratio(config, within, near, far, states)
    wider = 2 * far
    if math.isfinite(found) and wider < len(within) and within[wider] < HALF * (len(x) - 1):
        other = dimension_of_ratio(config, within, far, wider, states)
        if math.isfinite(other) and not 1 / APART <= (other + HALF) / (found + HALF) <= APART:
            say(
                f"it reads {found:.3g} between the radii {near} and {far}, and {other:.3g} between {far} and {wider}: "
                "no single dimension"
            )
    return found


def scale(config: I3DConfig, x: Tensor) -> str:
    """The radii at which points (n, D), in steps, are read."""
    near, far = radii(config, counts_within(config, x.round()))
    return f"{config.distance} distances of {near} to {far} steps"


def counts_within(config: I3DConfig, x: Tensor) -> list[float]:
    """The mean number of other points within each radius 0, 1, 2, ... of a point."""
    power = 1.0 if config.distance == "city-block" else 0.0
    farthest = float((x.amax(0) - x.amin(0)).sum())
    if power and farthest > _MOST:
        raise DataError(
            f"the points are up to {farthest:.3g} steps apart, which is more than {_MOST:,}",
            hint="count in larger steps: step: 100 for example",
        )
    counts = torch.zeros(1, dtype=torch.int64)
    for rows in x.split(max(1, 2**20 // len(x))):
        found = torch.bincount(torch.cdist(rows, x, p=power).round().long().flatten(), minlength=len(counts))
        found[: len(counts)] += counts
        counts = found
    counts[0] -= len(x)  # each point itself
    return (counts.cumsum(0).double() / len(x)).tolist()


def radii(config: I3DConfig, within: list[float]) -> tuple[int, int]:
    """The two radii, from the config where it names them.

    Otherwise the outer radius is the first with ``n_neighbors`` others within it, and the inner radius the last with at
    most half as many others.
    """
    last = len(within) - 1
    far = config.far or next((r for r in range(1, last + 1) if within[r] >= config.n_neighbors), last)
    far = min(far, last)
    if config.near is not None:
        return min(config.near, far - 1), far
    return max((r for r in range(far) if within[r] <= HALF * within[far]), default=far - 1), far


def dimension_of_ratio(config: I3DConfig, within: list[float], near: int, far: int, states: int) -> float:
    """The dimension d with V(near, d) / V(far, d) = the ratio of the mean numbers within both radii."""
    if not 0 <= near < far or within[near] == 0:
        return math.nan
    target = math.log(within[near] / within[far])
    if target == 0:
        return 0.0

    def falls(d: float) -> float:
        return log_share(d, near, far, states if config.distance == "hamming" else None) - target

    least = float(far) if config.distance == "hamming" else 0.0
    if falls(least) <= 0:
        return math.nan if falls(least) < 0 else least
    return root_of(falls, max(1.0, 2 * least), least)


def log_share(d: float, near: int, far: int, states: int | None = None) -> float:
    """The logarithm of V(near, d) / V(far, d), for balls of a lattice of d dimensions, d >= 0.

    Without ``states`` a ball holds the points of Z^d whose coordinates differ by at most its radius in all. With t the
    radius, V(t, d) is a polynomial in d, and t V(t) = (2 d + 1) V(t - 1) + (t - 1) V(t - 2). With ``states`` per
    coordinate a ball holds what differs in at most t coordinates, V(t, d) = sum_j<=t binom(d, j) (states - 1)^j, for
    d >= far.

    >>> round(math.exp(log_share(2.0, 1, 2)), 6)  # 5 of 13 points of the plane
    0.384615
    """
    if states is not None:
        terms = [_log_binomial(d, j) + j * math.log(states - 1) for j in range(far + 1)]
        logs = torch.tensor(terms, dtype=torch.float64)
        return float(logs[: near + 1].logsumexp(0) - logs.logsumexp(0))
    if near > _LONG:
        return d * math.log((near + HALF) / (far + HALF))
    total, growth = 0.0, 1.0
    for t in range(1, far + 1):
        growth = ((2 * d + 1) + (t - 1) / growth) / t  # V(t) / V(t - 1)
        total -= math.log(growth) if t > near else 0.0
    return total


def _log_binomial(d: float, j: int) -> float:
    return math.lgamma(d + 1) - math.lgamma(j + 1) - math.lgamma(d - j + 1)
