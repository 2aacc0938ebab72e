"""Features for distances, and the measures of copying in one of these spaces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binom
from torch import Tensor, nn

from scorefold.errors import ConfigError, DataError
from scorefold.stage import StageContext
from scorefold_audit.config import AuditOptions, SpaceName
from scorefold_audit.copying import nearest as copies
from scorefold_audit.copying.nearest import (
    BY_CHANCE,
    NEIGHBOURS,
    Closeness,
    CopyNeighbours,
    CopySearch,
    Near,
    Nearer,
    Numbers,
    Places,
    Rates,
    Rows,
    duplicate_distance,
)
from scorefold_audit.sets import Groups, Sets
from scorefold_toolkit.metrics import feature_network
from scorefold_toolkit.metrics.measure import Units

FEWEST = 20
_DUPLICATES = 5000
"""Number of random training points that are searched for near-duplicates."""

_OF_EVENTS = ("columns", "pixels")
"""The spaces whose features are the numbers of events themselves."""

_COMPARED = 2000
"""Number of random training points that samples are compared with, besides held-out points."""

_EQUAL = 1e-6
"""Largest difference of equal values of a column, as a share of its range."""

_RARE = 0.1
"""Largest share of values of a column that differ from its usual value, where these alone give its unit."""


@dataclass(frozen=True)
class Space:
    """Features (n, D), (h, D) and (m, D) of the three sets, and of the points that are asked about.

    ``search`` finds the nearest training points. Where ``groups`` numbers the conditions, they have the same condition.
    """

    name: SpaceName
    training: Rows
    held_out: Rows
    samples: Rows
    points: Rows
    groups: Groups | None
    search: CopySearch

    def within(self, name: Literal["training", "held_out", "samples"]) -> Rows:
        """The features of a set, with further columns that separate the conditions, where there are any.

        A search for neighbours in these features only finds points of the same condition.
        """
        x: Rows = getattr(self, name)
        if self.groups is None:
            return x
        of = self.groups[("training", "held_out", "samples").index(name)]
        return features_with_conditions(x, of, 1 + max(int(each.max(initial=0)) for each in self.groups), self.training)

    def without(self, rows: NDArray[np.bool_]) -> Space:
        """The space without these held-out points, a mask (h,)."""
        groups = self.groups and (self.groups[0], self.groups[1][~rows], self.groups[2])
        return replace(self, held_out=self.held_out[~rows], groups=groups)

    @property
    def spread(self) -> float:
        """The root mean square deviation of a coordinate over training points."""
        return float(self.training.var(0, dtype=np.float64).mean() ** 0.5)


def features_with_conditions(x: Rows, groups: NDArray[np.int64], count: int, training: Rows) -> Rows:
    """Features (N, D) with a column for each of ``count`` conditions, at a distance from others that is ten times the
    reach of the training points."""
    reach = float(np.linalg.norm(training - training.mean(0), axis=1).max()) or 1.0
    columns = np.zeros((len(x), count), dtype=np.float32)
    columns[np.arange(len(x)), groups] = 10 * reach
    return np.concatenate([x, columns], 1)


def spaces_of(sets: Sets, options: AuditOptions, context: StageContext) -> list[Space]:
    """The spaces that the options name, or those that fit. Raises ``ConfigError`` for features of other events."""
    shape = sets.training.event_shape
    image = len(shape) == 3
    names: tuple[SpaceName, ...] = options.spaces or (("pixels", "random-conv") if image else ("columns",))
    fit = ("pixels", "random-conv", "inception") if image else ("columns",)
    if wrong := [name for name in names if name not in fit]:
        raise ConfigError(
            f"the space {wrong[0]!r} does not fit events of shape {tuple(shape)}; those that do are {', '.join(fit)}",
            hint="leave spaces out",
        )
    return [_space(name, sets, options, context) for name in dict.fromkeys(names)]


def _space(name: SpaceName, sets: Sets, options: AuditOptions, context: StageContext) -> Space:
    every = (sets.training.x, sets.held_out.x, sets.samples.x, sets.points.x)
    if name in ("random-conv", "inception"):
        network = feature_network(name, every[0].shape[1], weights=options.inception).to(context.device)
        units = Units.of(sets.scale, sets.training.x, "none")
        found = [_features(network, x, units, options.batch_size, context) for x in every]
    else:
        found = [np.asarray(x.flatten(1).numpy(), dtype=np.float32) for x in every]
        if name == "columns" and options.scale == "columns":
            unit = column_units(found[0])
            found = [(x / unit).astype(np.float32) for x in found]
    space = Space(name, found[0], found[1], found[2], found[3], sets.groups, CopySearch(found[0]))
    return space if sets.groups is None else replace(space, search=CopySearch(space.within("training")))


def column_units(x: Rows) -> Rows:
    """The unit of each column (D,) of points (N, D): its standard deviation, and 1 for a constant column.

    Of a column in which nine of ten values or more are equal (to a millionth of its range), it is the root mean square
    of the differences of the others from these. The deviation of such a column is as small as the others are rare. A
    small error of a sample would be the largest of all distances, in pixels at the edge of images or in the columns of
    a rare class.

    Where ``_MANY`` columns or more, and most, vary and have units that are alike, as pixels do, no unit is below a
    quarter of their median. Otherwise noise of a copy in pixels that hardly change would count more than all others.
    """
    units = x.std(0, dtype=np.float64)
    usual = np.median(x, axis=0)
    differs = np.abs(x - usual) > _EQUAL * np.ptp(x, axis=0)
    others = differs.sum(0)
    rare = (others > 0) & (others <= _RARE * len(x))
    squares = np.square(x[:, rare] - usual[rare], dtype=np.float64).sum(0)
    units[rare] = np.sqrt(squares / others[rare])
    varied = units[(units > 0) & ~rare]
    low, middle, high = np.quantile(varied, [0.1, 0.5, 0.9]) if len(varied) else (0.0, 1.0, np.inf)
    if len(varied) >= max(_MANY, (units > 0).sum() / 2) and high <= _ALIKE * low:
        units = np.maximum(units, _LEAST * middle)
    known: Rows = np.where(units > 0, units, 1).astype(np.float32)
    return known


_MANY = 32
_ALIKE = 30.0
"""The ratio of the ninth to the first decile of units up to which they are taken to be one unit."""
_LEAST = 0.25
"""The least unit, in the median unit."""


@torch.no_grad()
def _features(network: nn.Module, x: Tensor, units: Units, batch_size: int, context: StageContext) -> Rows:
    if len(x) == 0:
        return np.empty((0, 0), dtype=np.float32)
    parts = [network(units.unit(batch.to(context.device))).flatten(1).float().cpu() for batch in x.split(batch_size)]
    found: Rows = torch.cat(parts).numpy()
    return found


@dataclass(frozen=True)
class Overlap:
    """Held-out points that are training points or near-duplicates of some, a mask (h,), and the distances ``own`` (k,)
    of the training points ``chosen`` (k,) from their nearest others; up to ``near`` they are near-duplicates.

    ``leaked`` says that there are more of the first than chance or the data's own duplicates explain (Fisher's test at
    5 %): such points say nothing of a model that copies and are left out. Otherwise they are as usual in these data as
    among training points, and stay. ``around`` are the neighbours of the training points chosen, themselves included.
    """

    rows: NDArray[np.bool_]
    near: float
    chosen: Places
    own: Numbers
    leaked: bool
    around: CopyNeighbours | None = None

    @property
    def searched(self) -> int:
        return len(self.chosen)

    @property
    def duplicates(self) -> int:
        """The number of searched training points with a near-duplicate."""
        return int((self.own <= self.near).sum())

    @property
    def duplicated(self) -> bool:
        """True if training points have more near-duplicates than chance gives in one of a thousand audits."""
        # They come in pairs.
        pairs = (self.duplicates + 1) // 2
        return float(binom.sf(pairs - 1, self.searched, BY_CHANCE)) < 1e-3


def overlap_of(space: Space, neighbours: CopyNeighbours, seed: int) -> Overlap:
    """The overlap of held-out points with these neighbours. Raises ``DataError`` for fewer than two without copies."""
    near = Near.of(space.search, neighbours)
    apart = near.distance > 1e-9 * space.spread
    if apart.sum() >= 2:
        near_duplicate = duplicate_distance(near.distance[apart], near.ratio[apart])
        rows = near.distance < near_duplicate if near_duplicate > 0 else ~apart
    else:
        near_duplicate, rows = 0.0, ~apart
    if (~rows).sum() < 2:
        raise DataError(
            f"{int(rows.sum())} of {len(rows)} held-out points are training points; held-out points must be others",
            hint="give points that the model was not trained on, such as the test split",
        )
    chosen = np.sort(np.random.default_rng(seed).permutation(len(space.training))[:_DUPLICATES])
    around = space.search.around(chosen, NEIGHBOURS + 1)
    own = around.apart(chosen) if len(space.training) > 1 else np.array([np.inf])
    rates = Rates(int(rows.sum()), len(rows), int((own <= near_duplicate).sum()), len(chosen))
    return Overlap(rows, near_duplicate, chosen, own, rates.p_more() < 0.05, around)


_ROUNDING, _FINE = 4 * float(np.finfo(np.float32).eps), 1e-3


def equal_rows(points: Rows, others: Rows) -> NDArray[np.bool_]:
    """True for points (m, D) that equal the other point (m, D) up to rounding in each column, by far less than the
    column varies over the other points."""
    fine = _FINE * others.std(0, dtype=np.float64)
    allowed = np.minimum(_ROUNDING * np.abs(others.astype(np.float64)), fine)
    found: NDArray[np.bool_] = (np.abs(points.astype(np.float64) - others) <= allowed).all(1)
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
    equal = np.flatnonzero(equal_rows(samples, training[places]))
    chosen = np.sort(np.random.default_rng(seed).permutation(len(training))[:_DUPLICATES])
    around = search.around(chosen, 2)
    other = around.without(chosen).index[:, 0] if len(training) > 1 else None
    repeated = 0 if other is None else int(equal_rows(training[chosen], training[other]).sum())
    return EqualPoints(equal, places[equal], repeated, len(chosen), len(training))


GAPS, TRAINING_GAPS = "columns that they have", "training points with missing values"
"""The space of samples with missing values, and the space of training points with some."""

GAPS_OF_BOTH = "columns that both have"
"""The space of samples with missing values and training points with some."""


@dataclass(frozen=True)
class SpaceMatches:
    """The nearest training points of m samples and of held-out points in one space, and how many are near-copies.
    ``p`` (m,) are the p-values of single samples, and ``named`` the places of those that are named as copies.
    """

    space: str
    near: Near
    near_held_out: Near
    rates: Rates
    p: Numbers
    named: Places

    def p_copies(self) -> float:
        """The p-value of Fisher's test of the near-copies."""
        return self.rates.p_more()

    def held_out_above(self) -> float:
        """The share of held-out points whose ratio is above the ratio of every sample that is named."""
        return float((self.near_held_out.ratio > self.near.ratio[self.named].max()).mean())


@dataclass(frozen=True)
class AmongTraining:
    """Samples beside training points, each of these against all others: ``rates`` of near-copies, and the
    ``closeness`` of samples to training points.

    Held-out points of another kind, or of another time, lie far from training points, so that a right model's samples
    look near. ``apart`` is the closeness of training points to each other, against held-out points.
    """

    rates: Rates
    closeness: Closeness
    apart: Closeness

    @property
    def shifted(self) -> bool:
        """True if held-out points lie farther from training points than these from each other, by one in a thousand."""
        return self.apart.p < 1e-3


@dataclass(frozen=True)
class Copying(SpaceMatches):
    """Further measures of copying in one space: see the functions of ``copies``."""

    closeness: Closeness
    cells: float | None
    authentic: Rates
    nearer: Nearer
    own: AmongTraining | None = None
    of_held_out: Rates | None = None

    def p_copies(self) -> float:
        """The p-value of the copies: the larger one against held-out points and against training points."""
        return super().p_copies() if self.own is None else max(super().p_copies(), self.own.rates.p_more())

    def p_memorised(self) -> float:
        """The p-value of samples near to training points: the largest one against held-out points, of the share nearer
        to training than to held-out points, and against training points."""
        found = max(self.closeness.p, self.nearer.p)
        return found if self.own is None else max(found, self.own.closeness.p)


def need_points(sets: Mapping[str, Rows]) -> None:
    """Raises ``DataError`` for fewer than 20 points of one of these sets, each (N, D), by what it is called."""
    for name, points in sets.items():
        if len(points) < FEWEST:
            raise DataError(f"the tests of copying need at least {FEWEST} {name}; {len(points)} were given")


def copying(
    space: Space, neighbours: CopyNeighbours | None, listed: float, seed: int, own: CopyNeighbours | None = None
) -> Copying:
    """The copying in a space, where ``neighbours`` are the neighbours of held-out points, and ``own`` of some training
    points among the others, if they are known.

    Raises ``DataError`` for fewer than 20 samples, held-out or training points.
    """
    need_points({"samples": space.samples, "held-out points": space.held_out, "training points": space.training})
    samples, held_out = space.within("samples"), space.within("held_out")
    neighbours = neighbours or CopyNeighbours.of(space.search, held_out)
    first = Near.of(space.search, neighbours)
    duplicate = duplicate_distance(first.distance, first.ratio)
    other = Near.of(space.search, neighbours, duplicate)
    near = Near.of(space.search, CopyNeighbours.of(space.search, samples), duplicate)
    to_held_out = CopySearch(held_out).nearest(samples)
    if own is None:
        chosen = np.sort(np.random.default_rng(seed).permutation(len(space.training))[:_COMPARED])
        own = space.search.around(chosen, NEIGHBOURS + 1).without(chosen)
    among = Near.of(space.search, own, duplicate)
    among = among.take(among.distance > duplicate)
    p = copies.p_values(near.ratio, other.ratio)
    h, m = len(space.held_out), len(space.samples)
    count = [int((each.ratio < copies.RATIO).sum()) for each in (near, other, among)]
    beside = None
    if len(among.ratio) >= FEWEST:
        p = np.maximum(p, copies.p_values(near.ratio, among.ratio))
        beside = AmongTraining(
            Rates(count[0], m, count[2], len(among.ratio)),
            copies.closeness(near.distance, among.distance),
            copies.closeness(among.distance, other.distance),
        )
    return Copying(
        space.name,
        near,
        other,
        Rates(count[0], m, count[1], h),
        p,
        copies.named_copies(p, listed),
        copies.closeness(near.distance, other.distance),
        copies.by_cells(space.training, space.samples, space.held_out, near, other, seed),
        copies.authentic(space.search, near, other),
        copies.nearer_to_training(near, to_held_out[0][:, 0], to_held_out[1][:, 0], len(space.training), h),
        beside,
        _equal_to_held_out(space, near, to_held_out[1][:, 0], other) if space.name in _OF_EVENTS else None,
    )


def _equal_to_held_out(space: Space, near: Near, place: Places, other: Near) -> Rates:
    """Number of samples that equal a held-out point and no training point, and of held-out points that equal another
    one and no training point; ``place`` (m,) is the nearest held-out point of a sample."""
    everywhere = np.arange(len(space.held_out))
    around = CopySearch(space.within("held_out")).around(everywhere, 2).without(everywhere).index[:, 0]
    count = []
    for points, nearest, beside in ((space.samples, place, near), (space.held_out, around, other)):
        equal = equal_rows(points, space.held_out[nearest])
        count.append(int((equal & ~equal_rows(points, space.training[beside.index])).sum()))
    return Rates(count[0], len(space.samples), count[1], len(space.held_out))


ALL_BUT_ONE = "all columns but one"
"""The space of samples that equal a training point in all columns but one."""


def all_but_one(space: Space, listed: float) -> SpaceMatches:
    """Samples and held-out points that equal a training point in all columns but one, as near-copies of ratio 0.

    Raises ``DataError`` for fewer than 20 samples, held-out or training points.
    """
    need_points({"samples": space.samples, "held-out points": space.held_out, "training points": space.training})
    near, other = (_equal_but_one(each, space.training) for each in (space.samples, space.held_out))
    rates = Rates(*(count for each in (near, other) for count in (int((each.ratio == 0).sum()), len(each.ratio))))
    p = copies.p_values(near.ratio, other.ratio)
    return SpaceMatches(ALL_BUT_ONE, near, other, rates, p, copies.named_copies(p, listed))


def _equal_but_one(points: Rows, training: Rows) -> Near:
    """Training points (n, D) that points (m, D) equal in all columns but one. Others, and equal points, have a ratio of
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
    found &= ~np.isin(sums[0], sums[1])
    distance = np.linalg.norm(points.astype(np.float64) - training[index], axis=1)
    return Near(np.where(found, distance, np.inf), index, np.where(found, 0.0, np.inf))
