"""Intrinsic dimension from the score of slightly noised data: the normal-bundle estimator.

Stanczuk, Batzolis, Deveney, Schoenlieb, "Diffusion Models Encode the Intrinsic Dimension of Data Manifolds", ICML
2024 (arXiv 2212.12611). Near the data manifold and at small noise, scores point along the normal space; so many
scores taken around one point span it, and its dimension taken from D leaves that of the manifold.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scorefold.data import Dataset, as_dataset
from scorefold.errors import ConfigError
from scorefold.interfaces import Estimator, ScoreModel
from scorefold.numerics import bootstrap_interval
from scorefold.results import Estimate
from scorefold_iddiff.config import NormalBundleConfig
from scorefold_iddiff.probe import Points, Probe, rows_at_once
from scorefold_iddiff.rules import AGGREGATES, paper_rule, projector_rule, reference_rule
from scorefold_iddiff.spectra import gather, projector_eigenvalues, singular_values


@dataclass(frozen=True)
class Reading:
    """Spectra at some points and one noise level, each (N, D) descending and in float64, or None where not asked
    for.
    """

    projector: Tensor | None
    centred: Tensor | None
    uncentred: Tensor | None


class NormalBundle(Estimator):
    """Dimensions at points of a data set, from K noised copies of each.

    At a point x: 1) y_i = signal x + scale z_i for i = 1..K, at the time whose noise-to-signal ratio is sigma; 2)
    the expected noises eps-hat(y_i) = -scale score(y_i); 3) their spectrum; 4) the rule (``rules``). The process
    must be isotropic (VE, VP, sub-VP), so that one ratio has one time; VP is read around signal x, which makes it
    agree with VE.
    """

    def __init__(self, config: NormalBundleConfig, *, score: ScoreModel) -> None:
        self.config = config
        self.probe = Probe(score)

    def estimate(self, data: Tensor | Dataset, *, generator: torch.Generator | None = None) -> Estimate:
        """The intrinsic dimension of data (N, *E), with N at least 2, over up to ``config.points`` of them.

        ``pointwise`` (n,) holds the dimension at each point taken, at the positions ``diagnostics["index"]``;
        ``spectrum`` (M, D) the eigenvalues of the projector (rule ``projector``) or the singular values of centred
        expected noises over sqrt(K) (rule ``reference``). Without a generator the draws are those of seed 0.

        ``interval`` is a percentile bootstrap of the aggregate over the points taken: how much it would differ had
        other points been drawn. It has no width where all points agree, and says nothing of what another training of
        the score, or another sigma, would give; for the latter see ``diagnostics["curve"]``.

        Raises ``DataError`` for fewer than 2 points, for values that aren't finite, for coordinates so large that
        noise of size sigma is lost in their rounding, for a score that isn't finite and for D below 3 under the
        reference rule; ``ShapeError`` for events of another shape; ``ConfigError`` for a sigma outside the process's
        range and too few noises.
        """
        dataset = as_dataset(data)
        generator = generator or torch.Generator().manual_seed(0)
        points = self.probe.points(dataset, self.config.points, generator)
        if self.config.rule == "reference" and points.ambient < 3:
            reference_rule(points.x.flatten(1))  # the rule itself says what it needs
        noises = self._noises(points.ambient)
        seed = int(torch.randint(2**63 - 1, (), generator=generator, device=generator.device))
        sigma, moved = self.probe.sigma(points.x, self.config.sigma)
        levels = self._levels(sigma)
        shown, rest = points.part(0, self.config.shown), points.part(self.config.shown, len(points))
        with self.probe.evaluating():
            head = self._read(shown, sigma, noises, seed, everything=True)
            readings = [head, self._read(rest, sigma, noises, seed)] if len(rest) else [head]
            dimensions, margins = (torch.cat(found) for found in zip(*map(self._decide, readings), strict=True))
            curve = [
                dimensions[: len(shown)] if level == sigma else self._decide(self._read(shown, level, noises, seed))[0]
                for level in levels
            ]
        reduce = AGGREGATES[self.config.aggregate]
        counts = Counter(int(dimension) for dimension in dimensions)
        rows = _curve(levels, curve, reduce)
        return Estimate(
            quantity="intrinsic dimension",
            value=float(reduce(dimensions)),
            interval=bootstrap_interval(dimensions, reduce, self.config.level, generator),
            level=self.config.level,
            pointwise=dimensions,
            spectrum=head.projector if self.config.rule == "projector" else head.centred,
            diagnostics={
                "note": _note(sigma, rows, moved),
                "rule": self.config.rule,
                "aggregate": self.config.aggregate,
                "sigma": sigma,
                "noises": noises,
                "network_calls": noises * (len(points) + len(shown) * (len(levels) - 1)),
                "histogram": {str(dimension): counts[dimension] for dimension in sorted(counts)},
                "fraction_at_mode": max(counts.values()) / len(points),
                "least_margin": float(margins.min()),
                "rules_compared": self._compare(head),
                "curve": rows,
                "index": points.index,
                "margin": margins,
                "curve_pointwise": torch.stack(curve),
            },
        )

    def _noises(self, ambient: int) -> int:
        noises = self.config.noises or max(4 * ambient, 16)
        if noises < ambient + 2:
            raise ConfigError(
                f"noises is {noises}; with {ambient} coordinates a spectrum needs at least {ambient + 2} noises",
                hint=f"leave it out for {4 * ambient}",
            )
        return noises

    def _levels(self, sigma: float) -> list[float]:
        """The noise levels of the curve in the process's range, sigma among them."""
        low, high = self.probe.range()
        levels = {factor * sigma for factor in self.config.sweep if factor != 1}
        return sorted({level for level in levels if low <= level <= high} | {sigma})

    def _read(self, points: Points, sigma: float, noises: int, seed: int, *, everything: bool = False) -> Reading:
        """The spectra of points at one noise level: those that the rule needs, or all."""
        rows = rows_at_once(self.config.batch, points.ambient)
        projector, singular = (
            everything or self.config.rule == "projector",
            everything or self.config.rule == "reference",
        )
        found: dict[str, list[Tensor]] = {"projector": [], "centred": [], "uncentred": []}
        for moments in gather(
            self.probe.expected_noise(points, sigma, rows),
            points.index,
            noises,
            ambient=points.ambient,
            rows=rows,
            seed=seed,
            like=points.x,
            projector=projector,
            singular=singular,
        ):
            if projector:
                found["projector"].append(projector_eigenvalues(moments).cpu())
            if singular:
                found["centred"].append(singular_values(moments, centred=True).cpu())
            if everything:
                found["uncentred"].append(singular_values(moments, centred=False).cpu())
        return Reading(**{name: torch.cat(parts) if parts else None for name, parts in found.items()})

    def _decide(self, reading: Reading) -> tuple[Tensor, Tensor]:
        """(dimensions, margins) by the configured rule, each (N,) in float64."""
        if self.config.rule == "projector":
            assert reading.projector is not None
            dimension, margin = projector_rule(reading.projector)
        else:
            assert reading.centred is not None
            dimension, margin = reference_rule(reading.centred)
        return dimension.double(), margin

    def _compare(self, reading: Reading) -> dict[str, float]:
        """What each rule says of the shown points: those of the sphere's curvature and of memorised data
        disagree."""
        assert reading.projector is not None
        assert reading.centred is not None
        assert reading.uncentred is not None
        answers = {"projector": projector_rule(reading.projector)[0]}
        if reading.centred.shape[-1] >= 3:
            answers["centred gap (published code)"] = reference_rule(reading.centred)[0]
            answers["uncentred gap (paper)"] = paper_rule(reading.uncentred)[0]
        reduce = AGGREGATES[self.config.aggregate]
        return {name: float(reduce(dimension.double())) for name, dimension in answers.items()}


def _note(sigma: float, curve: list[dict[str, float]], moved: str | None) -> str:
    """What the value is relative to: a dimension is read at a scale, and other scales may say otherwise."""
    reason = f" ({moved})" if moved else ""
    text = f"at sigma {sigma:.3g}{reason}: directions along which the data vary by less count as none"
    values = [row["value"] for row in curve]
    if len(curve) < 2:
        return text
    ends = f"sigma {curve[0]['sigma']:.2g} to {curve[-1]['sigma']:.2g}"
    if max(values) == min(values):
        return f"{text}; the same from {ends}"
    return f"{text}; {min(values):.3g} to {max(values):.3g} over {ends}"


def _curve(levels: list[float], dimensions: list[Tensor], reduce: Any) -> list[dict[str, float]]:
    """k against sigma at the shown points: the aggregate with the least and the greatest."""
    return [
        {"sigma": level, "value": float(reduce(found)), "least": float(found.min()), "greatest": float(found.max())}
        for level, found in zip(levels, dimensions, strict=True)
    ]
