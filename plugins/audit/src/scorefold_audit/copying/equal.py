"""Equal points: samples and training points, in all columns or in all but one, and samples and held-out points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scorefold.errors import DataError
from scorefold_audit.copying import nearest as copies
from scorefold_audit.copying.nearest import CopyNeighbours, CopySearch, Near, Places, Rates, Rows
from scorefold_audit.copying.spaces import DUPLICATES, Space, SpaceMatches, column_units, need_points
from scorefold_audit.sets import Sets

_ROUNDING, _FINE = 4 * float(np.finfo(np.float32).eps), 1e-3


def equal_rows(points: Rows, others: Rows, every: Rows) -> NDArray[np.bool_]:
    """True for points (m, D) that equal the other point (m, D) up to rounding in each column, by far less than the
    column varies over ``every`` point (n, D)."""
    with np.errstate(over="ignore"):
        found: NDArray[np.bool_] = (np.abs(points - others) <= 2 * _ROUNDING * np.abs(others)).all(1)
    if found.any():  # the spread of all points takes longer than all else
        fine, beside = _FINE * every.std(0, dtype=np.float64), others[found].astype(np.float64)
        allowed = np.minimum(_ROUNDING * np.abs(beside), fine)
        found[found] = (np.abs(points[found].astype(np.float64) - beside) <= allowed).all(1)
    return found


@dataclass(frozen=True)
class EqualPoints:
    """The places of samples (k,) that equal a training point up to rounding, and of that ``training`` point (k,).

    ``repeated`` of the ``searched`` training points equal another one, of ``every`` that there are.
    """

    samples: Places
    training: Places
    repeated: int
    searched: int
    every: int


def equal_points(sets: Sets, seed: int) -> EqualPoints:
    """The samples that equal a training point, where there is one sample and one training point or more."""
    samples, training = (
        np.asarray(each.x.flatten(1).numpy(), dtype=np.float32) for each in (sets.samples, sets.training)
    )
    unit = column_units(training)
    search = CopySearch(training / unit)
    places = search.nearest(samples / unit)[1][:, 0]
    equal = np.flatnonzero(equal_rows(samples, training[places], training))
    chosen = np.sort(np.random.default_rng(seed).permutation(len(training))[:DUPLICATES])
    around = search.around(chosen, 2)
    other = around.without(chosen).index[:, 0] if len(training) > 1 else None
    repeated = 0 if other is None else int(equal_rows(training[chosen], training[other], training).sum())
    return EqualPoints(equal, places[equal], repeated, len(chosen), len(training))


def equal_to_training(space: Space, near: Near, other: Near, around: CopyNeighbours, chosen: Places) -> EqualPoints:
    """The samples that equal a training point; none where a held-out point does, or one of the training points
    ``chosen`` (k,) equals another one: then points may be equal by chance.

    ``near`` and ``other`` are the training points nearest to samples and held-out points, ``around`` those nearest to
    the chosen ones, these themselves left out.
    """
    training = space.training
    repeated = int(equal_rows(training[chosen], training[around.index[:, 0]], training).sum())
    by_chance = repeated or equal_rows(space.held_out, training[other.index], training).any()
    found = equal_rows(space.samples, training[near.index], training) & (not by_chance)
    places = np.flatnonzero(found)
    return EqualPoints(places, near.index[places], repeated, len(chosen), len(training))


def equal_to_held_out(space: Space, near: Near, other: Near) -> Rates:
    """Number of samples that equal a held-out point and no training point, and of held-out points that equal another
    one and no training point. ``near`` and ``other`` are their nearest training points."""
    search, everywhere = CopySearch(space.within("held_out")), np.arange(len(space.held_out))
    place = search.nearest(space.within("samples"))[1][:, 0]
    around, count = search.around(everywhere, 2).without(everywhere).index[:, 0], []
    for points, nearest, beside in ((space.samples, place, near), (space.held_out, around, other)):
        equal = equal_rows(points, space.held_out[nearest], space.held_out)
        count.append(int((equal & ~equal_rows(points, space.training[beside.index], space.training)).sum()))
    return Rates(count[0], len(space.samples), count[1], len(space.held_out))


ALL_BUT_ONE = "all columns but one"
"""The space of samples that equal a training point in all columns, or in all but one."""

_BY_CHANCE = 0.02
"""The largest share of held-out points that may equal a training point in all columns but one."""


def all_but_one(space: Space, listed: float) -> SpaceMatches:
    """Samples and held-out points that equal a training point in all columns but one, as near-copies of ratio 0.

    Raises ``DataError`` for fewer than 20 samples, held-out or training points.
    """
    need_points({"samples": space.samples, "held-out points": space.held_out, "training points": space.training})
    near, other = (_equal_but_one(each, space.training) for each in (space.samples, space.held_out))
    rates = Rates(*(count for each in (near, other) for count in (int((each.ratio == 0).sum()), len(each.ratio))))
    if rates.held_out_rate > _BY_CHANCE:
        raise DataError(
            f"{rates.held_out} of {rates.of_held_out} held-out points equal a training point in all columns but one: "
            "rows of these data are often so alike"
        )
    p = copies.p_values(near.ratio, other.ratio)
    return SpaceMatches(ALL_BUT_ONE, near, other, rates, p, copies.named_copies(p, listed))


def _equal_but_one(points: Rows, training: Rows) -> Near:
    """Training points (n, D) that points (m, D) equal in all columns or in all but one. Others have a ratio of
    infinity."""
    random = np.random.default_rng(0)
    weights = random.integers(1, 2**63, points.shape[1], dtype=np.uint64) | np.uint64(1)
    # Sums of random multiples of the numbers' bits: equal rows have equal sums, and other rows hardly ever.
    parts = [(each + np.float32(0)).view(np.uint32).astype(np.uint64) * weights for each in (points, training)]
    sums = [each.sum(1, dtype=np.uint64) for each in parts]
    index, found = np.zeros(len(points), dtype=np.int64), np.zeros(len(points), dtype=bool)
    for column in range(points.shape[1]):
        rest, of = (total - part[:, column] for total, part in zip(sums, parts, strict=True))
        order = np.argsort(of, kind="stable")
        place = order[np.searchsorted(of[order], rest).clip(max=len(of) - 1)]
        equal = of[place] == rest
        index[equal], found = place[equal], found | equal
    distance = np.linalg.norm(points.astype(np.float64) - training[index], axis=1)
    return Near(np.where(found, distance, np.inf), index, np.where(found, 0.0, np.inf))
