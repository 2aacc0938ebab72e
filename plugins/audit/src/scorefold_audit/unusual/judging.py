"""Whether single points are unlike the data: p-values from held-out points, one for each way of being unlike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import false_discovery_control

from scorefold_audit.copying.nearest import Numbers, Places

REPEATS = 2000


def high(values: Numbers, held_out: Numbers) -> Numbers:
    """The share (m,) of held-out values (h,) that are as large or larger, the value itself counted: conformal p-values
    of values that are too large (Bates et al. 2023).

    >>> high(np.array([5.0, 0.0]), np.array([1.0, 2.0, 3.0])).tolist()
    [0.25, 1.0]
    """
    above = len(held_out) - np.searchsorted(np.sort(held_out), values, side="left")
    found: Numbers = (1 + above) / (len(held_out) + 1)
    return found


def low(values: Numbers, held_out: Numbers) -> Numbers:
    """The p-values (m,) of values that are too small."""
    return high(-values, -held_out)


def atypical(log_likelihood: Numbers, held_out: Numbers) -> Numbers:
    """The p-values (m,) of -ln p too far from the entropy, which is the mean over held-out points (Nalisnick et al.
    2019): too likely is unlike the data too, as the middle of a Gaussian of many dimensions is."""
    entropy = -held_out.mean()
    return high(np.abs(-log_likelihood - entropy), np.abs(-held_out - entropy))


def unlikely_or_flat(likelihood: Numbers, dimension: Numbers) -> Numbers:
    """The p-values (m,) of the test of Kamkari et al. 2024, of those of a likelihood and of a local dimension that are
    too small: a point is like the data where both are high."""
    found: Numbers = np.minimum(1.0, 2 * np.minimum(likelihood, dimension))
    return found


def atypical_set(log_likelihood: Numbers, held_out: Numbers, seed: int) -> float:
    """The p-value of the points as one set: how often as many held-out points, chosen with replacement, have a mean of
    -ln p that is as far from the entropy (Nalisnick et al. 2019)."""
    apart = abs(log_likelihood.mean() - held_out.mean())
    return float((1 + (_spread(len(log_likelihood), held_out, seed) >= apart).sum()) / (REPEATS + 1))


def typical_range(count: int, held_out: Numbers, seed: int, level: float = 0.05) -> float:
    """How far the mean of -ln p of ``count`` points may be from the entropy at a level."""
    return float(np.quantile(_spread(count, held_out, seed), 1 - level))


def _spread(count: int, held_out: Numbers, seed: int) -> Numbers:
    chosen = np.random.default_rng(seed).integers(len(held_out), size=(REPEATS, count))
    found: Numbers = np.abs(held_out[chosen].mean(1) - held_out.mean())
    return found


@dataclass(frozen=True)
class Judged:
    """``p`` (m,) of points over all ways of being unlike the data, ``why`` the way with the smallest p-value of each,
    and ``unlike`` the places of those that are named, the surest first."""

    p: Numbers
    why: list[str]
    unlike: Places


def judged(tests: Mapping[str, Numbers], share: float) -> Judged:
    """Of p-values (m,) by name: their smallest times their number (Bonferroni), and Benjamini and Hochberg's list, of
    which this share is false."""
    names, every = list(tests), np.stack(list(tests.values()))
    p = np.minimum(1.0, len(names) * every.min(0))
    order = np.argsort(p, kind="stable")
    return Judged(p, [names[place] for place in every.argmin(0)], order[false_discovery_control(p)[order] <= share])
