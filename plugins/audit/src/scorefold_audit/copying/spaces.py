"""Features for distances, and the measures of copying in one of these spaces."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binom, chi2, norm, rankdata
from sklearn.decomposition import PCA
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

IMAGE_SPACES: tuple[SpaceName, ...] = ("pixels", "spectrum", "random-conv")
"""The spaces in which images are compared. Quality is measured in the last one."""

FEWEST = 20
DUPLICATES = 5000
"""Number of random training points that are searched for near-duplicates."""

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
    names: tuple[SpaceName, ...] = options.spaces or (IMAGE_SPACES if image else ("columns",))
    fit = (*IMAGE_SPACES, "inception") if image else ("columns",)
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
    elif name == "spectrum":
        found = [np.concatenate([image_spectrum(part) for part in x.split(options.batch_size)]) for x in every]
    else:
        found = [np.asarray(x.flatten(1).numpy(), dtype=np.float32) for x in every]
        if name == "columns" and options.scale == "columns":
            unit = column_units(found[0])
            found = [(x / unit).astype(np.float32) for x in found]
    space = Space(name, found[0], found[1], found[2], found[3], sets.groups, CopySearch(found[0]))
    return space if sets.groups is None else replace(space, search=CopySearch(space.within("training")))


def image_spectrum(x: Tensor) -> Rows:
    """Features (N, K) of images (N, C, H, W) that are equal for mirrored and for circularly shifted ones, and for ones
    of another brightness or contrast.

    They are the magnitudes of each channel's Fourier transform, up to ``_WAVES`` waves an image. A wave and its mirror
    image enter by the sum of their magnitudes, and by the size of the difference. The mean is left out, the norm is 1,
    or 0 for an image of one grey.
    """
    if len(x) == 0:  # some libraries have no transform of no image
        return np.empty((0, 0), dtype=np.float32)
    height, width = (min(size // 2, _WAVES) + 1 for size in x.shape[-2:])
    every = torch.fft.rfft2(x.float() if x.dtype != torch.float64 else x)[..., :width].abs()
    every[:, :, 0, 0] = 0
    waves, mirrored = every[..., :height, :], every.flip(-2).roll(1, -2)[..., :height, :]
    found = torch.cat([waves + mirrored, (waves - mirrored).abs()], -1).flatten(1)
    size = x.flatten(1).abs().amax(1, keepdim=True) * math.prod(x.shape[-2:])
    found = torch.where(found.norm(dim=1, keepdim=True) > _GREY * size, found, 0.0)
    rows: Rows = torch.nn.functional.normalize(found, dim=1).numpy()
    return rows


_WAVES, _GREY = 16, 1e-5
"""The highest waves, and the size of all waves over an image's sum below which it is rounding."""


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
    chosen = np.sort(np.random.default_rng(seed).permutation(len(space.training))[:DUPLICATES])
    around = space.search.around(chosen, NEIGHBOURS + 1)
    own = around.apart(chosen) if len(space.training) > 1 else np.array([np.inf])
    rates = Rates(int(rows.sum()), len(rows), int((own <= near_duplicate).sum()), len(chosen))
    return Overlap(rows, near_duplicate, chosen, own, rates.p_more() < 0.05, around)


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

    It is measured where held-out points are of another kind, or of another time: they lie far from training points, so
    that a right model's samples look near.
    """

    rates: Rates
    closeness: Closeness


def shifted(space: Space) -> bool:
    """True if held-out points differ from training points in the means or the spreads of their columns, by one in a
    thousand.

    Values are replaced by normal scores of their ranks, so that tails count little. The statistic is Hotelling's, of
    the scores and of their squares, in at most ``_DIRECTIONS`` principal directions. It is halved, as training points
    may come in pairs.
    """
    every = np.concatenate([space.training, space.held_out])
    n, h = len(space.training), len(space.held_out)
    if every.shape[1] > _DIRECTIONS:
        every -= every.mean(0, dtype=np.float64).astype(np.float32)  # float32 is enough about the mean
        every = PCA(_DIRECTIONS, random_state=0).fit_transform(every)
    scores = norm.ppf((rankdata(every, axis=0) - 0.5) / len(every))
    parts = np.concatenate([scores, scores**2], 1)
    parts = parts[:, parts.std(0) > 0]
    if parts.shape[1] == 0:
        return False
    apart = parts[:n].mean(0) - parts[n:].mean(0)
    within = ((n - 1) * np.cov(parts[:n].T) + (h - 1) * np.cov(parts[n:].T)) / (n + h - 2)
    squares = float(apart @ np.linalg.pinv(np.atleast_2d(within)) @ apart) / (1 / n + 1 / h)
    return bool(chi2.sf(squares / 2, parts.shape[1]) < _OTHER)


_DIRECTIONS, _OTHER = 16, 1e-3


@dataclass(frozen=True)
class Copying(SpaceMatches):
    """Further measures of copying in one space: see the functions of ``copies``."""

    closeness: Closeness
    cells: float | None
    authentic: Rates
    nearer: Nearer
    own: AmongTraining | None = None

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
    # Simple images of a kind, such as one spot anywhere or one grey, have one spectrum.
    alone = space.name == "spectrum"
    other = Near.of(space.search, neighbours, duplicate, alone)
    near = Near.of(space.search, CopyNeighbours.of(space.search, samples), duplicate, alone)
    to_held_out = CopySearch(held_out).nearest(samples)
    p = copies.p_values(near.ratio, other.ratio)
    h, m = len(space.held_out), len(space.samples)
    count = [int((each.ratio < copies.RATIO).sum()) for each in (near, other)]
    beside = None
    if len(space.training) >= FEWEST and shifted(space):
        if own is None:
            chosen = np.sort(np.random.default_rng(seed).permutation(len(space.training))[:_COMPARED])
            own = space.search.around(chosen, NEIGHBOURS + 1).without(chosen)
        among = Near.of(space.search, own, duplicate, alone)
        p = np.maximum(p, copies.p_values(near.ratio, among.ratio))
        beside = AmongTraining(
            Rates(count[0], m, int((among.ratio < copies.RATIO).sum()), len(among.ratio)),
            copies.closeness(near.distance, among.distance),
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
    )
