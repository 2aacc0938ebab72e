"""Plateaus of k against log sigma, where the dimension does not depend on the noise level, and their ends.

A plateau is a stretch of neighbouring levels over which k stays within a twentieth of itself. Points may have several,
one for each scale of the data, and points of different parts of the data may have different ones.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, multimode

import torch
from torch import Tensor

LEAST_LEVELS = 3
"""Neighbouring levels that make a plateau: two agree by chance too often."""

_APART = 0.75
"""The share of the difference of two dimensions by which the traces of their points differ at least, for two parts."""

LEAST_DECADES = 0.5
"""Decades of sigma, each level standing for the half way to its neighbours, that make a plateau."""


@dataclass(frozen=True)
class DimensionPlateau:
    """Levels ``start`` to ``end`` (inclusive) at which a point's dimension is about ``dimension``."""

    dimension: int
    start: int
    end: int


def plateaus_of(dimensions: Sequence[int], usable: Sequence[bool]) -> list[DimensionPlateau]:
    """The plateaus of one point over increasing levels, longest first; levels that are not usable break them.

    Stretches at 0 count only where nothing else was read: at a noise above the data's extent everything is 0.
    """
    found: list[DimensionPlateau] = []
    _search(dimensions, usable, 0, len(dimensions), found)
    if max(dimensions) > 0:
        found = [plateau for plateau in found if plateau.dimension > 0]
    return sorted(found, key=lambda plateau: (plateau.start - plateau.end, plateau.start))


def _search(
    dimensions: Sequence[int], usable: Sequence[bool], low: int, high: int, found: list[DimensionPlateau]
) -> None:
    """The longest plateau within levels low to high (exclusive), then those on both sides of it."""
    best: tuple[int, int] | None = None
    for start in range(low, high):
        end = start
        while end < high and usable[end] and _level(dimensions[start : end + 1]):
            end += 1
        if end - start >= LEAST_LEVELS and (best is None or end - start > best[1] - best[0]):
            best = (start, end)
    if best is None:
        return
    found.append(DimensionPlateau(max(multimode(dimensions[slice(*best)])), best[0], best[1] - 1))
    _search(dimensions, usable, low, best[0], found)
    _search(dimensions, usable, best[1], high, found)


def _level(values: Sequence[int]) -> bool:
    return max(values) - min(values) <= slack(int(median(values)))


def slack(dimension: int) -> int:
    """The largest difference of two dimensions that count as equal."""
    return dimension // 20


def memorised_levels(levels: Sequence[float], dimensions: Tensor, nearest: float) -> tuple[list[bool], list[str]]:
    """At which levels the score has memorised its points, each an island, and a warning that says so.

    ``dimensions`` (L, M) at increasing ``levels``; ``nearest`` the median distance of neighbours. These are levels
    under half that distance where k, and k at all lower levels, is 0 and at some greater level is not; or is lower than
    at levels up to that distance by more than a tenth and by at least 1. A greater k above it is none: where sheets of
    the data lie close, they fill the space there.
    """
    typical = dimensions.double().median(1).values.tolist()
    near = sum(level <= nearest for level in levels)
    hits = []
    for number, level in enumerate(levels):
        own, most = max(typical[: number + 1]), max(typical[number:near], default=0.0)
        island = own < 0.5 and max(typical) >= 1
        hits.append(level < nearest / 2 and (island or own <= min(0.9 * most, most - 1)))
    if not any(hits):
        return hits, []
    last_hit = max(level for level, hit in zip(levels, hits, strict=True) if hit)
    return hits, [
        f"at sigma {last_hit:.2g} and below, less than half the distance of neighbours ({nearest:.2g}), the dimension "
        "falls: the score has memorised single points there"
    ]


def decades(plateau: DimensionPlateau, levels: Sequence[float]) -> float:
    """The length of a plateau in decades of sigma, each level standing for the half way to its neighbours."""
    logs = [math.log10(level) for level in levels]
    low, high = logs[plateau.start], logs[plateau.end]
    if plateau.start > 0:
        low = (low + logs[plateau.start - 1]) / 2
    if plateau.end + 1 < len(logs):
        high = (high + logs[plateau.end + 1]) / 2
    return high - low


def choose_level(
    points: Sequence[Sequence[DimensionPlateau]], dimensions: Tensor, straight: Sequence[bool] | None = None
) -> int | None:
    """The level at which most points are on their first plateau, in the middle of such levels; None where fewer than
    half the points have a plateau.

    ``dimensions`` (L, M) are k at levels and points; a level that is not ``straight`` is taken only where no plateau
    has one that is.
    """
    longest = [(number, found[0]) for number, found in enumerate(points) if found]
    if 2 * len(longest) < len(points):
        return None
    votes = [0] * len(dimensions)
    for number, plateau in longest:
        for level in range(plateau.start, plateau.end + 1):
            votes[level] += int(dimensions[level, number]) == plateau.dimension
    if straight is not None and any(count and fine for count, fine in zip(votes, straight, strict=True)):
        votes = [count * fine for count, fine in zip(votes, straight, strict=True)]
    most = [level for level, count in enumerate(votes) if count == max(votes)]
    stretches: list[list[int]] = []
    for level in most:
        if stretches and stretches[-1][-1] == level - 1:
            stretches[-1].append(level)
        else:
            stretches.append([level])
    stretch = max(stretches, key=len)
    return stretch[len(stretch) // 2]


def pooled(levels: Sequence[float], points: Sequence[Sequence[DimensionPlateau]]) -> list[dict[str, float]]:
    """All plateaus of all points by dimension, longest first: the share of points with one there, the medians of its
    ends, and its length in decades."""
    by_dimension: dict[int, dict[int, DimensionPlateau]] = {}
    for number, found in enumerate(points):
        for plateau in found:
            by_dimension.setdefault(plateau.dimension, {}).setdefault(number, plateau)
    rows = []
    for dimension, own in by_dimension.items():
        least = math.exp(median(math.log(levels[plateau.start]) for plateau in own.values()))
        greatest = math.exp(median(math.log(levels[plateau.end]) for plateau in own.values()))
        rows.append(
            {
                "dimension": float(dimension),
                "share": len(own) / len(points),
                "least_sigma": least,
                "greatest_sigma": greatest,
                "decades": math.log10(greatest / least),
            }
        )
    return sorted(rows, key=lambda row: (-row["share"] * row["decades"], row["dimension"]))


def mixture_of(
    points: Sequence[Sequence[DimensionPlateau]], dimensions: Tensor, traces: Tensor | None = None
) -> list[dict[str, float]]:
    """The dimensions of the parts of the data, each with its share of the points.

    A dimension is read from each point's first plateau. Shares are of the points whose ``dimensions`` (N,) were read,
    and a part has a share of a twentieth or more. One part is no mixture.

    Dimensions that may be the same are one part, named by the most frequent of them, so that no point counts twice. A
    dimension is no part either if its points have about the same projector traces, ``traces`` (N,), as the most
    frequent part. Near an edge, or where sheets of the data come close, an eigenvalue is just on the other side of 1/2.
    """
    parts: list[int] = []
    for own, _ in Counter(found[0].dimension for found in points if found).most_common():
        if all(abs(own - other) > slack(own) + slack(other) for other in parts):
            parts.append(own)
    masks = {own: (dimensions - own).abs() <= slack(own) for own in parts}

    def apart(own: int) -> bool:
        first = parts[0]
        if traces is None or own == first or not bool(masks[first].any()):
            return True
        difference = float(traces[masks[own]].mean() - traces[masks[first]].mean())
        return difference / (own - first) >= _APART

    shares = {own: float(masks[own].double().mean()) for own in sorted(parts)}
    return [{"dimension": float(own), "share": share} for own, share in shares.items() if share >= 0.05 and apart(own)]


def search_levels(low: float, high: float, count: int) -> list[float]:
    """``count`` levels from low to high, evenly spread in their logarithm; one where the ends are the same."""
    if high <= low * (1 + 1e-9):
        return [low]
    exponents = torch.linspace(math.log(low), math.log(high), count, dtype=torch.float64)
    return [low, *exponents.exp()[1:-1].tolist(), high]
