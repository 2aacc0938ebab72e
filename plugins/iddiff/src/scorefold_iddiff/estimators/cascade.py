"""The dimension in three stages, each dearer and for fewer points: a cascade.

1) The denoising loss of a few noises is a coarse k with an interval, k +- 2 sqrt(2 k / n) (``denoising_loss``). 2) A
range finder with little more than k directions finds the tangent space (``range_finder``); where it would cost as much
as the whole spectrum, it is left out. 3) The whole spectrum of the tangent projector (``readings``), where an
eigenvalue is close to 1/2. What is found is what ``estimator:iddiff`` finds by rule ``projector``.

In calls that is about what the range finder alone takes where dimensions are small beside D and all margins wide. The
first stage keeps sketches from points whose whole spectrum costs no more, and makes do with one round; the last fixes
what the range finder alone could have off by one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from scorefold.data import Dataset, as_dataset, index_condition
from scorefold.interfaces import Estimator, ScoreModel
from scorefold.results import Estimate
from scorefold.stage import reported
from scorefold_iddiff.config import NormalBundleConfig
from scorefold_iddiff.estimators.config import CascadeConfig
from scorefold_iddiff.estimators.denoising_loss import point_denoising_losses
from scorefold_iddiff.pointwise import score_warnings as warn
from scorefold_iddiff.pointwise.answers import curve_rows, look_at, scale_note, sweep_levels
from scorefold_iddiff.pointwise.plateaus import DimensionPlateau, memorised_levels, mixture_of, plateaus_of
from scorefold_iddiff.pointwise.probe import ProbedPoints, ScoreProbe, squared_noise
from scorefold_iddiff.pointwise.range_finder import BLOCK
from scorefold_iddiff.pointwise.readings import NoiseLevelReading, SpectrumReader, join, padded
from scorefold_iddiff.pointwise.support import DataSurvey, corrected
from scorefold_toolkit.numerics import AGGREGATES, bootstrap_interval

STAGES = ("range finder", "whole spectrum")
"""Stages at which points are settled, after the denoising loss."""

_CALLS = 4
"""Calls for each direction of a range finder's block: two applications of the projector."""

_WIDTHS = 4
"""Blocks have multiples of this many directions, so that points with about the same go together."""


@dataclass(frozen=True)
class CascadeCurve:
    """The denoising loss (L, M) at increasing levels and shown points, and the warnings that it raises."""

    levels: list[float]
    losses: Tensor
    reasons: list[str]


class Cascade(Estimator):
    """Dimensions at points, each at no more calls of the score than it takes to be sure.

    A point is settled by the range finder unless an eigenvalue that it found is within ``thin`` of 1/2. The process
    must be isotropic (VE, VP, sub-VP).

    >>> from scorefold_registry import Host
    >>> host = Host.discover()
    >>> sphere = host.create("data:sphere", {"dimension": 3, "ambient": 10, "points": 200})
    >>> cascade = host.create("estimator:cascade", {"points": 8}, score=host.create("score:analytic", data=sphere))
    >>> cascade.estimate(sphere.load("train")).value
    3.0
    """

    def __init__(self, config: CascadeConfig, *, score: ScoreModel) -> None:
        self.config = config
        self.probe = ScoreProbe(score)

    def estimate(self, data: Tensor | Dataset, *, generator: torch.Generator | None = None) -> Estimate:
        """The intrinsic dimension of data (N, *E), with N at least 2, over up to ``config.points`` of them.

        ``pointwise`` (n,), ``margin`` (n,), ``spectrum`` (M, D), ``tangent_basis`` and ``normal_basis`` have the
        meaning that they have in ``estimator:iddiff``. Eigenvalues of directions that no stage looked at are 0.
        ``coarse`` (n,) is the denoising loss and ``coarse_half_width`` (n,) half the width of its interval. ``stage``
        (n,) is the position in ``STAGES`` of the stage that settled a point. ``settled`` counts the points that each
        stage settled. ``network_calls`` counts all calls, and ``calls_by_stage`` the calls of each stage. ``mixture``
        has the dimensions of points with clear margins and their shares, where the dimensions differ. ``warnings`` are
        about the value. The interval is a bootstrap over points. Without a generator the seed is 0.

        Raises ``DataError`` for fewer than 2 points, for values or a score that aren't finite, and for coordinates in
        whose rounding the noise is lost; ``ShapeError`` for events of another shape; ``ConfigError`` for a sigma
        outside the process's range.
        """
        dataset = as_dataset(data)
        generator = generator or torch.Generator().manual_seed(0)
        points = self.probe.points(dataset, self.config.points, generator)
        seed = int(torch.randint(2**63 - 1, (), generator=generator, device=generator.device))
        look = look_at(dataset, points, seed)
        with self.probe.evaluating():
            sigma, moved, curve = self._level(points, look, seed)
            coarse = self._coarse(points, sigma, curve, seed)
            half_width = 2 * (2 * coarse.clamp_min(1) / self.config.draws).sqrt()
            settling = _Settling(self.config, self.probe, points, sigma, seed)
            stage = settling.settle(self._widths(coarse, half_width, points.ambient))
            rows = self.probe.rows(self.config.batch, points.ambient)
            squares = squared_noise(self.probe, points, sigma, rows)
        looks = len(points) + (len(curve.levels) - 1) * curve.losses.shape[1]
        calls = {"denoising loss": self.config.draws * looks, **settling.calls, "the points themselves": len(points)}
        reading = settling.reading()
        reading.loss, reading.flipd = coarse, reading.trace + squares
        screened = {"coarse": coarse, "coarse_half_width": half_width, "stage": stage, "calls_by_stage": calls}
        return self._answer(points, reading, curve, look, (sigma, moved), screened, generator)

    def _losses(self, points: ProbedPoints, sigma: float, seed: int) -> Tensor:
        """The mean denoising loss at each point, (N,)."""
        return point_denoising_losses(self.probe, points, sigma, self.config.draws, seed, batch=self.config.batch).mean(
            1
        )

    def _coarse(self, points: ProbedPoints, sigma: float, curve: CascadeCurve, seed: int) -> Tensor:
        """The denoising loss of all points (N,). ``curve`` has the level sigma, and gives the loss of shown points."""
        shown = curve.losses[curve.levels.index(sigma)]
        rest = points.part(len(shown), len(points))
        return torch.cat([shown, self._losses(rest, sigma, seed)]) if len(rest) else shown

    def _level(self, points: ProbedPoints, look: DataSurvey, seed: int) -> tuple[float, str | None, CascadeCurve]:
        """The noise level, why it is not the expected one, and the curve of the denoising loss."""
        shown = points.part(0, self.config.shown)
        if self.config.sigma != "auto":
            sigma, moved = self.probe.sigma(points.x, self.config.sigma)
            return sigma, moved, self._curve(shown, sweep_levels(self.probe, sigma, self.config.sweep), look, seed)[0]
        levels = self.probe.search_levels(points.x, self.config.levels, least=look.spacing / 2)
        curve, usable = self._curve(shown, levels, look, seed)
        # In twentieths, so that a plateau is as level as one of whole dimensions.
        plateaus = plateaus_of([round(20 * float(value)) for value in curve.losses.mean(1)], usable)
        if plateaus:
            middle = levels[(plateaus[0].start + plateaus[0].end) // 2]
            return middle, "the middle of the longest plateau of the denoising loss", curve
        sigma = max(self.probe.sigma(points.x, None)[0], levels[0])
        known = dict(zip(levels, curve.losses, strict=True))
        curve, _ = self._curve(shown, sorted({*levels, sigma}), look, seed, known)
        return sigma, "no plateau was found, so this is the default level", curve

    def _curve(
        self, shown: ProbedPoints, levels: list[float], look: DataSurvey, seed: int, known: Mapping[float, Tensor] = {}
    ) -> tuple[CascadeCurve, list[bool]]:
        """The curve at these levels, some of which may be ``known``, and which of them a plateau may hold."""
        losses = torch.stack([known[at] if at in known else self._losses(shown, at, seed) for at in levels])
        memorised, reasons = memorised_levels(levels, losses, look.nearest)
        return CascadeCurve(levels, losses, reasons), [not hit for hit in memorised]

    def _widths(self, coarse: Tensor, half_width: Tensor, ambient: int) -> Tensor:
        """Directions (N,) for the range finder at each point; 0 where the whole spectrum costs no more."""
        spare = self.config.spare
        wanted = torch.maximum(coarse + spare, coarse + half_width + spare / 2)
        widths = (_WIDTHS * (wanted / _WIDTHS).ceil()).long()
        return widths.masked_fill(_CALLS * widths >= 2 * ambient, 0)

    def _answer(
        self,
        points: ProbedPoints,
        reading: NoiseLevelReading,
        curve: CascadeCurve,
        look: DataSurvey,
        level: tuple[float, str | None],
        screened: dict[str, Any],
        generator: torch.Generator,
    ) -> Estimate:
        sigma, moved = level
        dimensions, reduce = reading.dimensions, AGGREGATES[self.config.aggregate]
        counts = Counter(int(dimension) for dimension in dimensions)
        rows = curve_rows(curve.levels, list(curve.losses), self.config.aggregate)
        clear = dimensions[reading.margins >= self.config.thin]
        mixture = mixture_of([[DimensionPlateau(int(dimension), 0, 0)] for dimension in clear], dimensions)
        clean = corrected(reading, sigma, None, points.ambient)
        warnings = [
            *warn.of_mixture(mixture),
            *warn.of_score(reading, clean, points.ambient),
            *curve.reasons,
            *warn.of_data(look, sigma, len(points), points.ambient),
        ]
        whole = bool((dimensions == points.ambient).all())
        bases = {"tangent_basis": reading.tangent, "normal_basis": reading.normal}
        return Estimate(
            quantity="intrinsic dimension",
            value=float(reduce(dimensions)),
            interval=None if whole else bootstrap_interval(dimensions, reduce, self.config.level, generator),
            covers="points",
            level=self.config.level,
            pointwise=dimensions,
            spectrum=reading.spectra["projector"],
            diagnostics={
                "note": scale_note(sigma, rows, moved),
                "warnings": warnings,
                "aggregate": self.config.aggregate,
                "sigma": sigma,
                "network_calls": sum(screened["calls_by_stage"].values()),
                "settled": {name: int((screened["stage"] == i).sum()) for i, name in enumerate(STAGES)},
                "histogram": {str(dimension): counts[dimension] for dimension in sorted(counts)},
                "fraction_at_mode": max(counts.values()) / len(dimensions),
                "mixture": mixture,
                "least_margin": float(reading.margins.min()),
                "excess_loss": warn.excess_loss(reading, clean),
                "curvature": warn.curvature(clean),
                "survey": asdict(look),
                "curve": rows,
                "curve_pointwise": curve.losses,
                "index": points.index,
                "margin": reading.margins,
                **screened,
                **{name: padded(found) for name, found in bases.items() if found},
            },
        )


class _Settling:
    """The points at one noise level, each with the reading of the stage that settled it."""

    def __init__(self, config: CascadeConfig, probe: ScoreProbe, points: ProbedPoints, sigma: float, seed: int) -> None:
        common: dict[str, Any] = {"bases": config.bases, "batch": config.batch, "resamples": 0}
        sketch = NormalBundleConfig(design="range-finder", floor=config.floor, **common)
        whole = NormalBundleConfig(design="pairs", **common)
        self.finder, self.whole = (SpectrumReader(made, probe, points.ambient, seed) for made in (sketch, whole))
        self.config, self.points, self.sigma = config, points, sigma
        self.calls = dict.fromkeys(STAGES, 0)
        self._readings: dict[int, NoiseLevelReading] = {}

    def settle(self, widths: Tensor) -> Tensor:
        """Reads every point, first by blocks of ``widths`` (N,), and gives its stage (N,)."""
        for width in sorted(set(widths.tolist()) - {0}):
            self._read(self.finder, (widths == width).nonzero()[:, 0], STAGES[0], block=width)
        thin = [
            number not in self._readings or float(self._readings[number].margins) < self.config.thin
            for number in range(len(self.points))
        ]
        stage = torch.tensor(thin).long()
        self._read(self.whole, stage.nonzero()[:, 0], STAGES[1])
        return stage

    def reading(self) -> NoiseLevelReading:
        """All points in their order, the shown ones in detail."""
        parts = [self._readings[number] for number in range(len(self.points))]
        shown = join(parts[: self.config.shown])
        for part in parts:
            part.spectra, part.tangent, part.normal = {}, [], []
        whole = join(parts)
        whole.spectra, whole.tangent, whole.normal = shown.spectra, shown.tangent, shown.normal
        return whole

    def _read(self, reader: SpectrumReader, rows: Tensor, stage: str, block: int = BLOCK) -> None:
        parts = ((rows[rows < self.config.shown], True), (rows[rows >= self.config.shown], False))
        for part, detail in reported(parts, len(parts), f"parts of the {len(rows)} points of stage {stage}"):
            if len(part):
                found = reader.read(_rows_of(self.points, part), self.sigma, detail=detail, block=block)
                self.calls[stage] += found.calls
                self._readings.update(zip(part.tolist(), _single(found), strict=True))


def _rows_of(points: ProbedPoints, rows: Tensor) -> ProbedPoints:
    own = rows.to(points.x.device)
    return ProbedPoints(points.x[own], index_condition(points.condition, own), points.index[rows])


def _single(reading: NoiseLevelReading) -> Iterator[NoiseLevelReading]:
    """The readings of single points, of what both stages give."""
    for row in range(len(reading.dimensions)):
        one = slice(row, row + 1)
        yield NoiseLevelReading(
            dimensions=reading.dimensions[one],
            margins=reading.margins[one],
            trace=reading.trace[one],
            calls=0,
            spectra={"projector": reading.spectra["projector"][one]} if reading.spectra else {},
            tangent=reading.tangent[one],
            normal=reading.normal[one],
        )
