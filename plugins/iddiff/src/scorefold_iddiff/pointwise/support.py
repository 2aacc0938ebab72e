"""Noise levels that a score supports, and readings corrected for the data's own noise.

Data that lie on a manifold up to noise of size eta are, seen at sigma, data on it seen at tau, tau^2 = eta^2 + sigma^2.
With m = eta^2 / tau^2 the projector is m I + (1 - m) P_clean: normal directions have the eigenvalue m, the trace is D m
+ (1 - m) tr P_clean and FLIPD is D (1 - (1 - m)^2) + (1 - m)^2 k. Below eta all directions count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold_iddiff.pointwise.probe import refuse_not_finite
from scorefold_iddiff.pointwise.readings import NoiseLevelReading
from scorefold_toolkit.data.splits import NEIGHBOURS, maximum_likelihood

_HOLLOW = 0.1
"""The share of the variance of squared lengths that normal rows have, below which rows lie near an ellipsoid. Uniform
ones in a cube have 0.4."""

_FLAT = 0.78
"""Least dimension that neighbours show of flat rows, as a share of the dimension of normal rows with this covariance.
Of 384 flat rows it was 0.87 to 1.05 for cubes of 2 to 26 dimensions, and 0.82 for a log-normal distribution of 5."""

_MANY, _FLAT_MANY = 20, 0.93
"""From so many directions on the edges of flat rows count less. Of 12 sets each of 250 or 1,000 flat rows, of 20 or 32
dimensions, the share was 0.95 to 1.07 for normal, uniform and Laplace distributions. It was 0.91 to 1.06 for an arcsine
distribution, 0.87 to 0.96 for a log-normal one (deviation 0.5), and 0.82 to 0.90 for an exponential one. Of 250 rows of
M8 it was 0.85 to 0.92. So very skewed flat rows are taken for curved, too: their dimension is withheld."""

_ROWS_READ, _NORMAL = 1000, 4
"""The most rows that are compared, and the number of sets of normal rows."""


class LinearDenoiser:
    """x-hat(y) = mu + C (C + sigma^2)^-1 (y - mu), with mean mu and covariance C of the rows (R, D) of a data set.

    With the exact moments its expected error in units of the noise, E |z - eps-hat|^2, is B = sum lambda_i / (lambda_i
    + sigma^2) over eigenvalues lambda_i of C. The moments are taken of other rows than the points at which errors are
    read. So a denoiser with these errors exists, and B is a valid bound of the least error for any number of rows.
    Directions that the rows do not span get one variance, the variance of the points there.

    Raises ``ValueError`` for fewer than 2 rows.
    """

    def __init__(self, rows: Tensor, points: Tensor) -> None:
        if len(rows) < 2:
            raise ValueError(f"given {len(rows)} rows; expected at least 2")
        rows, points = rows.double(), points.flatten(1).double().cpu()
        mean = rows.mean(0)
        centred = (rows - mean) / len(rows) ** 0.5
        self._rows = centred
        if len(rows) > rows.shape[1]:
            variances, basis = torch.linalg.eigh(centred.mT @ centred)
        else:
            _, singular, transposed = torch.linalg.svd(centred, full_matrices=False)
            variances, basis = singular.square(), transposed.mT
        kept = variances > 1e-14 * variances.max()
        self.variances, basis = variances[kept], basis[:, kept]
        self._basis = basis
        along = (points - mean) @ basis
        self.squares = along.square()
        self.outside = rows.shape[1] - len(self.variances)
        self.outside_squares = ((points - mean).square().sum(1) - self.squares.sum(1)).clamp_min(0)
        self.outside_variance = float(self.outside_squares.mean()) / max(1, self.outside)

    @property
    def extent(self) -> float:
        """The standard deviation along the direction in which the rows vary most."""
        return float(self.variances.max().sqrt()) if len(self.variances) else 0.0

    def directions(self, sigma: float) -> int:
        """The number of principal directions in which the data vary by more than sigma."""
        return int((self.variances > sigma**2).sum()) + self.outside * (self.outside_variance > sigma**2)

    def why_curved(self, sigma: float) -> str:
        """The reason why the rows have fewer dimensions than these directions; empty where nothing says so.

        Neighbours show a dimension that is too low, for flat rows as for others. So it is compared with the dimension
        of as many normal rows of the same variances. Flat rows with heavy or skewed tails, or with near-copies as
        neighbours, may be taken for curved.
        """
        along = self._along(sigma)
        if along is None:
            return ""
        if _near_ellipsoid(along):
            return "the data lie near an ellipsoid, whose dimension is lower"
        generator = torch.Generator().manual_seed(0)
        some = torch.randperm(len(along), generator=generator)[:_ROWS_READ]
        rows = (along * self.variances[self.variances > sigma**2].sqrt())[some].unique(dim=0)
        if len(rows) <= NEIGHBOURS:
            return ""
        normal = [torch.randn(rows.shape, generator=generator, dtype=rows.dtype) * rows.std(0) for _ in range(_NORMAL)]
        expected = sum(map(maximum_likelihood, normal)) / _NORMAL
        flat = _FLAT_MANY if rows.shape[1] >= _MANY else _FLAT
        if maximum_likelihood(rows) >= flat * expected:
            return ""
        return "neighbours show fewer dimensions than in flat data of the same covariance"

    def _along(self, sigma: float) -> Tensor | None:
        """The rows (R, k) along the k directions in which they vary by more than sigma, each of variance 1; None for
        fewer than 2 directions, or fewer rows than 5 a direction."""
        wide = self.variances > sigma**2
        count = int(wide.sum())
        if count < 2 or len(self._rows) < 5 * count:
            return None
        along: Tensor = (self._rows @ self._basis[:, wide]) * (len(self._rows) / self.variances[wide]).sqrt()
        return along

    def errors(self, sigma: float) -> Tensor:
        """E |z - eps-hat(x + sigma z)|^2 over noises z at each point, (M,); nowhere more on average than D, the error
        of guessing no noise."""
        inside = (self.variances / (self.variances + sigma**2)).square().sum()
        inside = inside + (self.squares * (sigma / (self.variances + sigma**2)) ** 2).sum(1)
        gain, shrink = self.outside_variance, self.outside_variance + sigma**2
        errors = inside + self.outside * (gain / shrink) ** 2 + self.outside_squares * (sigma / shrink) ** 2
        ambient = float(len(self.variances) + self.outside)
        return errors if float(errors.mean()) < ambient else torch.full_like(errors, ambient)


CURVATURE = 0.05
"""The relative difference of FLIPD and tr P from which curvature is taken to show."""

_SHARE = 0.05
"""By how much of itself a loss may exceed what it is compared with, beyond two standard errors."""

_FREE = 0.5
"""Directions by which a loss or trace may be off whatever its size: half of one counts as none."""

_QUARTER = 0.25
"""Directions by which readings may differ whatever their size."""

_AGREE, _BENT = 0.1, 0.25
"""The share of a dimension within which its readings agree, and within which curvature explains that they don't."""

FIRM = 0.1
"""The share of a dimension within which its loss is at levels that are beyond question."""

_SLOPE = 0.2
"""The share of a dimension by which the loss may change between neighbouring levels of a plateau."""

_CONSTANT, _NOISE_LEVELS, _SEEN, _REACH = 1.2, 4, 2.0, 5.0
"""Noise has one size up to this ratio at this many neighbouring levels or more, the last between so many times it."""

_NOISE_DECADES = 0.7
"""Decades of sigma that these levels span at least, since close ones say much the same."""


@dataclass(frozen=True)
class Corrected:
    """The trace, FLIPD and the denoising loss (M,) of a level without the share that the data's noise adds."""

    trace: Tensor
    flipd: Tensor
    loss: Tensor | None


@dataclass(frozen=True)
class LevelCheck:
    """A noise level: the mean ``loss`` there, the least one of a ``linear`` denoiser (None where it is not known), and
    why the score can't be read (empty where it can)."""

    loss: float | None
    linear: float | None
    reason: str

    @property
    def sound(self) -> bool:
        return not self.reason


def check_level(reading: NoiseLevelReading, linear: LinearDenoiser | None, sigma: float) -> LevelCheck:
    """Compare a score with the best linear denoiser at a level, and its trace with its loss.

    E tr P is the least mean denoising loss of any denoiser. A network does not know the data at a level if its loss is
    above the linear denoiser's. Nor does it if its trace differs from its loss.
    """
    if reading.loss is None:
        return LevelCheck(None, None, "")
    loss, trace = reading.loss.double(), reading.trace.double()
    bound = None if linear is None else linear.errors(sigma)
    mean, least = float(loss.mean()), None if bound is None else float(bound.mean())
    reason = ""
    if bound is not None and not _within(loss - bound, float(bound.mean()), above_only=True):
        reason = "its denoising loss is above the loss of the best linear denoiser"
    elif not _within(loss - trace, mean, above_only=False):
        reason = "its trace differs from its denoising loss"
    return LevelCheck(mean, least, reason)


def _within(difference: Tensor, size: float, *, above_only: bool) -> bool:
    mean = float(difference.mean())
    error = float(difference.std(correction=1)) / math.sqrt(len(difference)) if len(difference) > 1 else 0.0
    return (mean if above_only else abs(mean)) <= 2 * error + _SHARE * abs(size) + _FREE


def noise_size(
    levels: Sequence[float], readings: Sequence[NoiseLevelReading], dimension: int, coordinates: int
) -> float | None:
    """The size of the noise around a manifold of this dimension, in units of the data; None where there is none.

    The median m of the eigenvalues of directions normal to it gives eta = sigma sqrt(m / (1 - m)) at each level. It is
    noise where that is the same over several levels, among them one at which little of it is left: a network's errors
    leave about one m at all levels instead, or fall off faster where it smooths small noise away, and curvature leaves
    one that grows with sigma.
    """
    sizes: list[float] = []
    for sigma, reading in zip(levels, readings, strict=True):
        size = math.nan
        if reading.eigenvalues is not None and coordinates > dimension:
            share = float(reading.eigenvalues[:, dimension:coordinates].median(1).values.median())
            size = sigma * math.sqrt(share / (1 - share)) if 1e-4 < share < 1 - 1e-4 else math.nan
        sizes.append(size if sigma <= _REACH * size else math.nan)
    best: list[float] = []
    for start in range(len(sizes)):
        run: list[float] = []
        for size in sizes[start:]:
            if math.isnan(size) or max([*run, size]) > _CONSTANT * min([*run, size]):
                break
            run.append(size)
        last = start + len(run) - 1
        long = bool(run) and levels[last] >= max(_SEEN * median(run), 10**_NOISE_DECADES * levels[start])
        if long and len(run) > len(best):
            best = run
    return median(best) if len(best) >= _NOISE_LEVELS else None


def corrected(reading: NoiseLevelReading, sigma: float, noise: float | None, coordinates: int) -> Corrected:
    """Reading corrected for noise of this size in all ``coordinates``; as it is below the noise, where the noise is
    most of what is read.
    """
    assert reading.flipd is not None
    rest = 1 - _share(sigma, noise)
    return Corrected(
        trace=without_noise(reading.trace, sigma, noise, coordinates),
        flipd=(reading.flipd - coordinates * (1 - rest**2)) / rest**2,
        loss=None if reading.loss is None else without_noise(reading.loss, sigma, noise, coordinates),
    )


def without_noise(trace: Tensor, sigma: float, noise: float | None, coordinates: int) -> Tensor:
    """Traces or denoising losses (N,) less what noise of this size in all ``coordinates`` adds; as they are below the
    noise."""
    share = _share(sigma, noise)
    return (trace - coordinates * share) / (1 - share)


def _share(sigma: float, noise: float | None) -> float:
    """m = eta^2 / (eta^2 + sigma^2), 0 where it is half or more and for no noise."""
    share = 0.0 if noise is None else noise**2 / (noise**2 + sigma**2)
    return share if share < 0.5 else 0.0


def relative_gap(flipd: Tensor, trace: Tensor) -> float:
    """|FLIPD - tr P| over tr P, or over 5 below that, where a quarter of a direction is nothing: of the median over
    points, whose own noise averages out. Both are k where the manifold is flat at this noise level, and differ by
    ||eps-hat(x)||^2."""
    return abs(float(((flipd - trace) / trace.clamp_min(5)).median()))


def loss_agreement(dimension: float, found: Corrected, points: Tensor) -> str:
    """Agreement of the count and the corrected FLIPD and loss at some points, a mask (M,), up to two standard errors:
    ``agree``, ``bent`` where curvature explains the difference, or ``apart``.

    The trace is left out: an exact score's has twice FLIPD's bias on curved data, and the loss stands for it.
    """
    other = found.trace if found.loss is None else found.loss
    said, error = [dimension], 0.0
    for values in (found.flipd[points], other[points]):
        said.append(float(values.mean()))
        if len(values) > 1:
            error = max(error, 2 * float(values.std(correction=1)) / math.sqrt(len(values)))
    spread = max(said) - min(said) - error
    if spread <= max(_QUARTER, _AGREE * dimension):
        return "agree"
    return "bent" if spread <= max(_QUARTER, _BENT * dimension) else "apart"


def losses_of(found: Sequence[Corrected], points: Tensor) -> list[float]:
    """The mean corrected loss of each level at some points, a mask (M,); the trace where no loss was read."""
    return [float((each.trace if each.loss is None else each.loss)[points].mean()) for each in found]


def steady(dimension: float, losses: Sequence[float]) -> bool:
    """True if the loss changes little between two neighbouring levels.

    Where a spectrum slopes, a count may stay the same while the loss, its smooth version, falls through it.
    """
    return any(abs(after - before) <= _SLOPE * max(1.0, dimension) for before, after in pairwise(losses))


_COORDINATES = 2**22
"""Coordinates of the data looked at, a random part of larger data."""

_GRID_ROWS, _GRID_COLUMNS, _GRID_VALUES = 2000, 64, 1024
_ENOUGH_VALUES = 20
"""Distinct values that don't lie whole multiples of a step apart by chance."""


@dataclass(frozen=True)
class DataSurvey:
    """``rows`` of the data were looked at.

    ``nearest`` is the median distance from the points under study to their nearest other one among these rows, which
    overstates it where the rows are a part of the data; ``copies`` the share of rows that repeat an earlier one;
    ``constant`` the number of coordinates that never change, and ``step`` the greatest step of the data's precision at
    their values, where that is float32 or coarser: smaller changes were rounded away; ``spacing`` the step of the grid
    on which most coordinates lie, 0 where they don't.
    """

    rows: int
    nearest: float
    copies: float
    constant: int
    spacing: float
    step: float = 0.0


def survey_data(dataset: Dataset, x: Tensor, index: Tensor, generator: torch.Generator) -> DataSurvey:
    """A survey of the data set, and of points x (M, *E) which have the places ``index`` (M,) in it.

    Raises ``DataError`` for rows that aren't finite.
    """
    rows, places = looked_at(dataset, generator)
    return survey_rows(rows, places, x, index, generator, precision=dataset.x.dtype)


def survey_rows(
    rows: Tensor, places: Tensor, x: Tensor, index: Tensor, generator: torch.Generator, *, precision: torch.dtype
) -> DataSurvey:
    """A survey of ``rows`` (R, D) at ``places`` (R,) of a data set, as ``looked_at`` gives them, and of points x (M,
    *E) which have the places ``index`` (M,) in it."""
    constant = rows.amax(0) == rows.amin(0)
    return DataSurvey(
        rows=len(rows),
        nearest=_nearest(x.flatten(1).double().cpu(), index, rows, places),
        copies=_copies(rows, generator),
        constant=int(constant.sum()),
        spacing=_spacing(rows[:, ~constant]),
        step=_step_of(rows[0, constant], precision),
    )


def _step_of(values: Tensor, precision: torch.dtype) -> float:
    """The greatest distance of neighbouring numbers of a precision at these values; 0 in float64, where it does not
    matter, and for no values."""
    if not precision.is_floating_point or torch.finfo(precision).bits > 32 or not len(values):
        return 0.0
    return torch.finfo(precision).eps * float(values.abs().max())


def looked_at(dataset: Dataset, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The rows (R, D) of a data set that a survey looks at, in float64 on the CPU, and their places (R,): all, or a
    random part of many. Raises ``DataError`` for rows that aren't finite."""
    limit = max(2, _COORDINATES // math.prod(dataset.event_shape))
    chosen = torch.arange(len(dataset))
    if len(dataset) > limit:
        chosen = torch.randperm(len(dataset), generator=generator, device=generator.device).cpu()[:limit]
    taken = dataset.take(chosen)
    rows = taken.x.flatten(1).double().cpu()
    refuse_not_finite(rows, chosen if taken.index is None else taken.index)
    return rows, chosen


def _nearest(x: Tensor, index: Tensor, rows: Tensor, places: Tensor) -> float:
    distances = torch.cdist(x, rows, compute_mode="donot_use_mm_for_euclid_dist")
    other = (places[None] != index[:, None]) & (distances > 0)
    least = distances.masked_fill(~other, torch.inf).amin(1)
    known = least[least.isfinite()]
    return float(known.median()) if len(known) else 0.0


def _copies(rows: Tensor, generator: torch.Generator) -> float:
    """The share of rows that are copies, by a random projection: equal rows have equal ones, others almost surely
    not."""
    weights = torch.randn(rows.shape[1], generator=generator, device=generator.device, dtype=rows.dtype).cpu()
    return 1 - len((rows * weights).sum(1).unique()) / len(rows)


def _spacing(rows: Tensor) -> float:
    """The median step of the coordinates' grids, where at least half of some coordinates lie on one; else 0."""
    every = max(1, rows.shape[1] // _GRID_COLUMNS)
    columns = rows[:_GRID_ROWS, ::every].T
    steps = [step for step in map(_step, columns) if step > 0]
    if not steps or 2 * len(steps) < len(columns):
        return 0.0
    return float(torch.tensor(steps).median())


def _step(values: Tensor) -> float:
    """The step of the grid on which values lie: whole multiples apart, and if there are few of them often repeated;
    else 0."""
    distinct = values.unique()
    if not 2 <= len(distinct) <= _GRID_VALUES or len(values) // 4 < len(distinct) < _ENOUGH_VALUES:
        return 0.0
    gaps = distinct.diff()
    step = float(gaps.min())
    multiples = gaps / step
    return step if float((multiples - multiples.round()).abs().max()) < 0.01 else 0.0


def _near_ellipsoid(along: Tensor) -> bool:
    """True for rows (R, k) of variance 1 whose squared lengths hardly vary."""
    return float(along.square().sum(1).var()) < _HOLLOW * 2 * along.shape[1]
