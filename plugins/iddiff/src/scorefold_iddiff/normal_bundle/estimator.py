"""Intrinsic dimension from the score of slightly noised data: the normal-bundle estimator.

Stanczuk, Batzolis, Deveney, Schoenlieb, "Diffusion Models Encode the Intrinsic Dimension of Data Manifolds", ICML
2024 (arXiv 2212.12611). Near the data manifold and at small noise, scores point along the normal space. So many
scores around one point span the normal space. The manifold's dimension is D minus the dimension of the normal space.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from scorefold.data import Dataset, as_dataset
from scorefold.interfaces import Estimator, ScoreModel
from scorefold.results import Estimate
from scorefold.seeds import derive_generator
from scorefold.stage import Executor, reported
from scorefold_iddiff.config import NormalBundleConfig
from scorefold_iddiff.normal_bundle.noise_level import (
    DataContext,
    DimensionCurve,
    dimension_rows,
    headline,
    levels_between,
    over_scales,
    scales_read,
    select_plateaus,
)
from scorefold_iddiff.pointwise import score_warnings as warn
from scorefold_iddiff.pointwise.answers import scale_note
from scorefold_iddiff.pointwise.plateaus import choose_level, mixture_of
from scorefold_iddiff.pointwise.probe import ProbedPoints, ScoreProbe, spread_of
from scorefold_iddiff.pointwise.readings import NoiseLevelReading, ReadingShard, SpectrumReader, padded
from scorefold_iddiff.pointwise.spectra import paper_rule, projector_rule, reference_rule
from scorefold_iddiff.pointwise.support import (
    DataSurvey,
    LevelCheck,
    LinearDenoiser,
    check_level,
    corrected,
    looked_at,
    survey_rows,
    without_noise,
)
from scorefold_toolkit.numerics import AGGREGATES, bootstrap_interval
from scorefold_toolkit.shards import in_shards

_ON = 2 / 3
"""The share of the points that have to be on the plateaus for a value."""

_CHOOSE = "read the curve of dimension against sigma, and name the scale that matters, such as sigma: 0.1"
_TABLES = "; for a table, scorefold recommend asks estimators from neighbours"

_COORDINATES_HELD = 2**22
"""Coordinates of the points whose spread sets the noise levels, a random part of more."""

_COORDINATES_IN_SHARD = 2**15
"""Coordinates of the points that are read together once the noise level is known, whoever reads them."""


class NormalBundle(Estimator):
    """Dimensions at points of a data set, from K noised copies of each.

    At a point x: 1) y_i = signal x + scale z_i for i = 1..K, at the time whose noise-to-signal ratio is sigma, with
    noises z_i of a ``designs`` design; 2) the expected noises eps-hat(y_i) = -scale score(y_i); 3) their spectrum; 4)
    the rule (``rules``). Or, by the ``range_finder``, an adaptive sketch of the tangent space in place of 1) to 3). The
    process must be isotropic (VE, VP, sub-VP), so that one ratio has one time; VP is read around signal x, which makes
    it agree with VE.

    Only the points that are read, and 2^22 coordinates of random rows for the survey, are taken from the data. Once the
    noise level is known points are read in shards of 2^15 coordinates, which are jobs where the ``executor`` runs these
    in parallel and the score is on the CPU. The noise of a point derives from the seed and its place in the data, so
    the answer is the same bit by bit for any number of workers.

    >>> from scorefold_registry import Host
    >>> host = Host.discover()
    >>> sphere = host.create("data:sphere", {"dimension": 3, "ambient": 10, "points": 200})
    >>> score = host.create("score:analytic", data=sphere)
    >>> host.create("estimator:iddiff", {"points": 8}, score=score).estimate(sphere.load("train")).value
    3.0
    """

    def __init__(self, config: NormalBundleConfig, *, score: ScoreModel, executor: Executor | None = None) -> None:
        self.config = config
        self.probe = ScoreProbe(score)
        self.executor = executor

    def estimate(self, data: Tensor | Dataset, *, generator: torch.Generator | None = None) -> Estimate:
        """The intrinsic dimension of data (N, *E), with N at least 2, over up to ``config.points`` of them.

        ``pointwise`` (n,) holds the dimension at each point taken, at the positions ``diagnostics["index"]``, and
        ``margin`` (n,) how clearly it was decided. The first M of them are shown: ``spectrum`` (M, D) holds the
        eigenvalues of the projector (rule ``projector``) or the singular values of expected noises over sqrt(K),
        uncentred for rule ``paper``; ``pointwise_interval`` (M, 2) the interval of each one's dimension over its
        noises; ``tangent_basis`` and ``normal_basis`` (M, D, k), where asked for, orthonormal columns, with 0 behind
        where a point has fewer. Without a generator the seed is 0.

        With ``sigma: auto`` the value is the dimension of the manifold's plateau, and None where no noise level is
        supported. A supported plateau covers three levels and half a decade. There the score is better than the best
        linear denoiser, its trace equals its denoising loss, and count, FLIPD and loss agree. ``plateaus`` lists all
        plateaus with their kind (manifold, noise, space, curvature, undertrained, memorised). A named sigma is a chosen
        scale: there only the score is checked.

        ``interval`` is a percentile bootstrap of the aggregate over the points taken: how much it would differ had
        other points been drawn. It has no width where all points agree, and says nothing of what another training of
        the score, or another sigma, would give; for the latter see ``curve`` and ``plateaus``. There is none where all
        directions count. ``warnings`` lists reasons not to rely on the value, and ``advice`` says what to do without a
        value.

        Raises ``DataError`` for fewer than 2 points, for values that aren't finite, for coordinates so large that
        noise of size sigma is lost in their rounding, for a score that isn't finite and for fewer coordinates than the
        rule needs; ``ShapeError`` for events of another shape; ``ConfigError`` for a sigma outside the process's range
        and a number of noises that the design can't have.
        """
        dataset = as_dataset(data)
        generator = generator or torch.Generator().manual_seed(0)
        order = self.probe.order(dataset, self.config.points, generator)
        ambient = math.prod(self.probe.score.event_shape)
        seed = int(torch.randint(2**63 - 1, (), generator=generator, device=generator.device))
        reader = SpectrumReader(self.config, self.probe, ambient, seed)
        first = self.probe.take(dataset, order[: max(self.config.shown, _COORDINATES_HELD // ambient)])
        shown = first.part(0, self.config.shown)
        looking = derive_generator(seed, "survey")
        rows, places = looked_at(dataset, looking)
        look = survey_rows(rows, places, shown.x, shown.index, looking, precision=dataset.x.dtype)
        scene = _scene(first.x, shown, rows, places, look)
        with self.probe.evaluating():
            sigma, moved, curve, seen = self._level(reader, first.x, shown, look, scene)
            head = reader.read(shown, sigma, detail=True, curve=True)
            curve = curve or self._curve(reader, shown, sigma, {**seen, sigma: head}, scene)
            executor = self.executor if first.x.is_cpu else None
            readings = [head, *self._others(reader, dataset, order[len(shown) :], sigma, executor)]
        # Of the level that a search settles on there are two readings: one in the search and one in detail.
        looked = {id(reading): reading.calls for reading in (*readings, *curve.readings, *seen.values())}
        calls = sum(looked.values())
        check = check_level(head, scene.linear, sigma)
        return self._answer(order, readings, curve, look, reader, scene, (sigma, moved, calls, check), generator)

    def _others(
        self, reader: SpectrumReader, dataset: Dataset, index: Tensor, sigma: float, executor: Executor | None
    ) -> Iterable[NoiseLevelReading]:
        """Readings at the points that are not shown, at places (n,)."""
        size = max(1, _COORDINATES_IN_SHARD // reader.ambient)
        places = index.split(size) if len(index) else ()
        shards = (ReadingShard(reader, self.probe.take(dataset, own), sigma) for own in places)
        found = in_shards("scorefold_iddiff.pointwise.readings:read_shard", shards, executor, "iddiff points")
        return reported(found, len(index), "points", size)

    def _level(
        self, reader: SpectrumReader, x: Tensor, shown: ProbedPoints, look: DataSurvey, scene: DataContext
    ) -> tuple[float, str | None, DimensionCurve | None, dict[float, NoiseLevelReading]]:
        """The noise level, why it is not the expected one, and the curve and the readings that a search for it took."""
        if self.config.sigma != "auto":
            return *self.probe.sigma(x, self.config.sigma), None, {}
        seen: dict[float, NoiseLevelReading] = {}

        def search(levels: list[float]) -> tuple[DimensionCurve, int | None]:
            for level in reported(levels, len(levels), "noise levels"):
                seen[level] = reader.read(shown, level, curve=True)
            curve = select_plateaus(sorted(seen), [seen[level] for level in sorted(seen)], scene)
            return curve, choose_level(curve.plateaus, curve.dimensions, curve.straight)

        curve, chosen = search(self.probe.search_levels(x, self.config.levels, least=look.spacing / 2))
        finer = levels_between(curve, scene.coordinates, self.config.levels // 2) if chosen is None else []
        if finer:
            curve, chosen = search(finer)
        if chosen is not None:
            return curve.levels[chosen], "the middle of the longest plateau", curve, seen
        sigma = max(self.probe.sigma(x, None)[0], curve.levels[0])
        supported = [level for level, fine in zip(curve.levels, curve.usable, strict=True) if fine]
        if supported and sigma < supported[0]:
            sigma = supported[0]
        return sigma, "no plateau was found, so this is the default level", curve, seen

    def _curve(
        self,
        reader: SpectrumReader,
        shown: ProbedPoints,
        sigma: float,
        seen: dict[float, NoiseLevelReading],
        scene: DataContext,
    ) -> DimensionCurve:
        """k against sigma at the shown points, at the multiples of sigma in the process's range."""
        low, high = self.probe.range()
        levels = [factor * sigma for factor in self.config.sweep if factor != 1 and low <= factor * sigma <= high]
        for level in reported(levels, len(levels), "noise levels of the curve"):
            seen[level] = reader.read(shown, level, curve=True)
        return select_plateaus(sorted(seen), [seen[level] for level in sorted(seen)], scene)

    def _answer(
        self,
        order: Tensor,
        readings: list[NoiseLevelReading],
        curve: DimensionCurve,
        look: DataSurvey,
        reader: SpectrumReader,
        scene: DataContext,
        level: tuple[float, str | None, int, LevelCheck],
        generator: torch.Generator,
    ) -> Estimate:
        sigma, moved, calls, check = level
        head = readings[0]
        dimensions = torch.cat([reading.dimensions for reading in readings])
        margins = torch.cat([reading.margins for reading in readings])
        reduce = AGGREGATES[self.config.aggregate]
        counts = Counter(int(dimension) for dimension in dimensions)
        rows = dimension_rows(curve, reduce)
        traces = without_noise(torch.cat([each.trace for each in readings]), sigma, curve.noise, scene.coordinates)
        mixture = mixture_of(curve.plateaus, dimensions, traces)
        clean = corrected(head, sigma, curve.noise, scene.coordinates)
        warnings = [
            *warn.of_score(head, clean, reader.ambient),
            *warn.of_mixture(mixture),
            *curve.reasons,
            *warn.of_level(head.dimensions, curve.plateaus, curve.found, len(curve.levels)),
            *warn.of_data(look, sigma, len(dimensions), reader.ambient),
        ]
        auto = self.config.sigma == "auto"
        # What the points read there has to be the plateaus' own: half 2 and half 3 is no 2.5.
        share, found = (
            sum(part["share"] for part in mixture),
            choose_level(curve.plateaus, curve.dimensions) is not None,
        )
        known = found and share >= _ON if auto else check.sound
        if auto and found and not known:
            warnings.insert(0, warn.too_few_agree(share))
        value = float(reduce(dimensions)) if known else None
        principal = None if scene.linear is None else scene.linear.directions(sigma)
        linear = warn.of_linear(value if auto else None, check, principal)
        said = "" if known else headline(rows, scene.coordinates)
        curved = "" if not linear or scene.linear is None else scene.linear.why_curved(sigma)
        if curved:
            said, value = warn.of_curved(value, curved), None
            warnings.insert(0, said)
        else:
            warnings += linear
        warnings += warn.of_network(value, self.probe.score)
        interval = None
        if value is not None and value < reader.ambient:
            interval = bootstrap_interval(dimensions, reduce, self.config.level, generator)
        arrays = {
            "pointwise_interval": head.intervals,
            "tangent_basis": padded(head.tangent) if head.tangent else None,
            "normal_basis": padded(head.normal) if head.normal else None,
        }
        return Estimate(
            quantity="intrinsic dimension",
            value=value,
            interval=interval,
            level=self.config.level,
            headline=said,
            covers="points",
            pointwise=dimensions,
            spectrum=head.spectra[reader.spectrum],
            diagnostics={
                "note": note(sigma, rows, moved, mixture, curve.noise if curve.filled else None),
                "scale": f"noise of sigma {sigma:.2g}" if known else scales_read(rows),
                "advice": "" if value is not None else _CHOOSE + _TABLES * (len(self.probe.score.event_shape) == 1),
                "warnings": warnings,
                "rule": self.config.rule,
                "design": reader.design_name,
                "aggregate": self.config.aggregate,
                "sigma": sigma,
                "noises": None if reader.design is None else reader.design.count,
                "network_calls": calls,
                "histogram": {str(dimension): counts[dimension] for dimension in sorted(counts)},
                "fraction_at_mode": max(counts.values()) / len(dimensions),
                "least_margin": float(margins.min()),
                "rules_compared": _compare(head, reduce),
                "excess_loss": warn.excess_loss(head, clean),
                "curvature": warn.curvature(clean),
                "asymmetry": None if head.asymmetry is None else float(head.asymmetry.median()),
                "survey": asdict(look),
                "curve": rows,
                "plateaus": curve.found,
                "noise": curve.noise,
                "over_scales": None if value is None else over_scales(curve, value),
                "mixture": mixture,
                "index": order,
                "margin": margins,
                "curve_pointwise": curve.dimensions,
                **{name: array for name, array in arrays.items() if array is not None},
            },
        )


def _scene(x: Tensor, shown: ProbedPoints, rows: Tensor, places: Tensor, look: DataSurvey) -> DataContext:
    """Facts for judging the curve; the linear denoiser is fitted to the rows that are not shown."""
    others = rows[~torch.isin(places, shown.index)]
    linear = LinearDenoiser(others, shown.x) if len(others) >= 2 else None
    extent = spread_of(x) if linear is None else linear.extent
    return DataContext(look.nearest, extent, rows.shape[1] - look.constant, linear)


def _compare(reading: NoiseLevelReading, reduce: Callable[[Tensor], Tensor]) -> dict[str, float]:
    """The dimensions by the rules of the paper, its code and the projector at the shown points, by name.

    A rule is left out where its spectra are not known. The rules disagree where the data are curved, as on a sphere,
    and where they are memorised.
    """
    answers = {"projector": projector_rule(reading.spectra["projector"])[0]}
    if "centred" in reading.spectra and reading.spectra["centred"].shape[-1] >= 3:
        answers["centred gap (published code)"] = reference_rule(reading.spectra["centred"])[0]
        answers["uncentred gap (paper)"] = paper_rule(reading.spectra["uncentred"])[0]
    return {name: float(reduce(dimension.double())) for name, dimension in answers.items()}


def note(
    sigma: float,
    curve: list[dict[str, Any]],
    moved: str | None,
    mixture: list[dict[str, float]],
    noise: float | None = None,
) -> str:
    """Scale of the value: a dimension is measured at a scale, and may differ at other scales."""
    text = scale_note(sigma, curve, moved)
    if noise is not None:
        text += f"; below sigma {noise:.2g} the readings show noise in all directions: about {noise:.2g} in "
        text += "the units of the data"
    if len(mixture) > 1:
        text += "; a mixture of dimensions: " + ", ".join(
            f"{row['dimension']:g} ({row['share']:.0%})" for row in mixture
        )
    return text
