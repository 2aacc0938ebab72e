"""FLIPD: intrinsic dimension from how the density changes with the noise, by one score model at clean points.

Kamkari et al., "A Geometric View of Data Complexity: Efficient Local Intrinsic Dimension Estimation with Diffusion
Models", NeurIPS 2024 (arXiv 2406.03537). With log rho the log-density of data with noise sigma, LIDL's limit is k = D +
d log rho / d log sigma, and the Fokker-Planck equation turns the derivative into FLIPD = D + sigma^2 (tr grad s +
|s|^2), read at the point itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scorefold.data import Dataset, as_dataset
from scorefold.errors import ConfigError
from scorefold.interfaces import Estimator, ScoreModel
from scorefold.results import Estimate
from scorefold.stage import reported
from scorefold_iddiff.estimators.config import FLIPDConfig
from scorefold_iddiff.pointwise import score_warnings as warn
from scorefold_iddiff.pointwise.answers import (
    curve_rows,
    draws_at,
    integrate_over_log_noise,
    look_at,
    memorisation_warnings,
    pointwise_estimate,
    scale_note,
    slope_in_log_noise,
    spaced_levels,
    sweep_levels,
)
from scorefold_iddiff.pointwise.probe import ProbedPoints, ScoreProbe, check_resolution, noise_and_trace
from scorefold_iddiff.pointwise.support import relative_gap
from scorefold_toolkit.numerics import AGGREGATES

EXACT_UP_TO = 3500
"""Coordinates up to which an exact trace is the default, as in the published code."""

_SPREAD_OF_LEVELS = {"knee": (0.1, 100.0, 16), "regression": (1.0, 10.0, 8)}


@dataclass(frozen=True)
class FLIPDReadings:
    """FLIPD and the projector's trace at some points (N,) and levels: (L, N) each, in float64."""

    flipd: Tensor
    projector_trace: Tensor


class FLIPD(Estimator):
    """Dimensions at points from the trace of the score's derivative and its size there.

    With e = -scale score the expected noise at signal x, FLIPD = tr P + |e|^2 where P = I - scale grad e. P is the
    projector's estimate of ``jacobians``; its trace alone has about twice FLIPD's bias on curved data.

    Modes: ``level`` reads at one sigma. ``knee`` reads a grid of levels and takes, at each point, the level at which
    the curve bends (``knees``). ``regression`` integrates FLIPD - D over the levels to the log-density and takes its
    slope, which is LIDL with one model (``regression``). The paper uses the levels of LIDL, 0.01 to 0.1 for data of
    unit deviation a coordinate.

    >>> from scorefold_registry import Host
    >>> host = Host.discover()
    >>> sphere = host.create("data:sphere", {"dimension": 3, "ambient": 10, "points": 200})
    >>> score = host.create("score:analytic", data=sphere)
    >>> flipd = host.create("estimator:flipd", {"points": 8, "sweep": []}, score=score)
    >>> round(flipd.estimate(sphere.load("train")).value, 2)
    3.0
    """

    def __init__(self, config: FLIPDConfig, *, score: ScoreModel) -> None:
        self.config = config
        self.probe = ScoreProbe(score)

    def estimate(self, data: Tensor | Dataset, *, generator: torch.Generator | None = None) -> Estimate:
        """The intrinsic dimension of data (N, *E), with N at least 2, over up to ``config.points`` of them.

        ``pointwise`` (n,) holds the dimension at each point taken, a real number, at the positions
        ``diagnostics["index"]``; ``network_calls`` counts a point's evaluation as one and each derivative as one more;
        ``curve`` is the dimension against sigma. The interval is a bootstrap over points. Without a generator the seed
        is 0.

        Raises ``DataError`` for fewer than 2 points, for values or a score that aren't finite, and for coordinates in
        whose rounding the noise is lost; ``ShapeError`` for events of another shape; ``ConfigError`` for levels outside
        the process's range and a network that can't be differentiated as asked.
        """
        generator = generator or torch.Generator().manual_seed(0)
        dataset = as_dataset(data)
        points = self.probe.points(dataset, self.config.points, generator)
        seed = int(torch.randint(2**63 - 1, (), generator=generator, device=generator.device))
        look = look_at(dataset, points, seed)
        sigma, moved = self.probe.sigma(points.x, self.config.sigma)
        with self.probe.evaluating():
            found = (self._at_level if self.config.mode == "level" else self._over_levels)(points, sigma, seed, moved)
        values = found.pop("values")
        each = 1 + self._width(points.ambient)
        curve = [row["sigma"] for row in found["curve"]]
        warnings = [
            *found.pop("warnings"),
            *memorisation_warnings(curve, list(found["curve_pointwise"]), look),
            *warn.of_data(look, found.get("sigma", curve[0]), len(points), points.ambient),
        ]
        return pointwise_estimate(
            values,
            points,
            self.config,
            generator,
            warnings=warnings,
            mode=self.config.mode,
            trace="exact" if self._exact(points.ambient) else "hutchinson",
            network_calls=each * found.pop("readings"),
            **found,
        )

    def _at_level(self, points: ProbedPoints, sigma: float, seed: int, moved: str | None) -> dict[str, Any]:
        shown = points.part(0, self.config.shown)
        levels = sweep_levels(self.probe, sigma, self.config.sweep)
        here = self._read(points, [sigma], seed)
        others = [level for level in levels if level != sigma]
        swept = dict(zip(others, self._read(shown, others, seed).flipd, strict=True)) if others else {}
        swept[sigma] = here.flipd[0, : len(shown)]
        curve = [swept[level] for level in levels]
        rows = curve_rows(levels, curve, self.config.aggregate)
        trace = float(AGGREGATES[self.config.aggregate](here.projector_trace[0]))
        return {
            "values": here.flipd[0],
            "readings": len(points) + len(others) * len(shown),
            "note": scale_note(sigma, rows, moved),
            "warnings": warn.bent_by(relative_gap(here.flipd[0], here.projector_trace[0])),
            "sigma": sigma,
            "projector_trace": trace,
            "curve": rows,
            "curve_pointwise": torch.stack(curve),
        }

    def _over_levels(self, points: ProbedPoints, sigma: float, seed: int, moved: str | None) -> dict[str, Any]:
        levels = self._levels(points.x, sigma)
        found = self._read(points, levels, seed)
        rows = curve_rows(levels, list(found.flipd), self.config.aggregate)
        common = {
            "readings": len(levels) * len(points),
            "curve": rows,
            "curve_pointwise": found.flipd[:, : self.config.shown],
            "warnings": [],
        }
        reach = f"sigma {levels[0]:.3g} to {levels[-1]:.3g}"
        if self.config.mode == "regression":
            rates = found.flipd - points.ambient
            slope, residual = slope_in_log_noise(integrate_over_log_noise(rates, levels), levels)
            return {
                "values": points.ambient + slope,
                "note": f"the slope of the log-density over {reach}; {_range_of(rows)} at single levels",
                "residual": float(residual.mean()),
                **common,
            }
        at, none = knees(found.flipd, levels, self.config.knee)
        values = found.flipd.gather(0, at[None])[0]
        chosen = torch.tensor(levels, dtype=torch.float64)[at]
        middle = float(chosen.quantile(0.5, interpolation="nearest"))
        note = (
            f"at the knee of the curve over {reach}, sigma {middle:.3g} for the middle point; {_range_of(rows)} there"
        )
        if none:
            note += f"; {none} of {len(points)} curves are level and have no knee: read at the least sigma"
        return {"values": values, "note": note, "sigma": middle, "knee_sigma": chosen, **common}

    def _levels(self, x: Tensor, sigma: float) -> list[float]:
        """The levels asked for, increasing, or the default ones in the range of the process."""
        low, high = self.probe.range()
        if self.config.levels is None:
            below, above, count = _SPREAD_OF_LEVELS[self.config.mode]
            least, most = max(low, below * sigma), min(high, above * sigma)
            if most < 1.5 * least:
                raise ConfigError(
                    f"mode {self.config.mode} reads several noise levels around sigma {sigma:.3g}; the score's process "
                    f"goes from {low:.3g} to {high:.3g}",
                    hint="name levels in that range, take mode: level, or use a score with a wider process",
                )
            levels = spaced_levels(least, most, count)
        else:
            levels = sorted(set(self.config.levels))
            levels = [self.probe.sigma(x, level)[0] for level in levels]
        check_resolution(x, levels[0])
        return levels

    def _exact(self, ambient: int) -> bool:
        if self.config.trace == "auto":
            return ambient <= EXACT_UP_TO
        return self.config.trace == "exact"

    def _width(self, ambient: int) -> int:
        """Derivatives a point and level."""
        return ambient if self._exact(ambient) else self.config.probes

    def _read(self, points: ProbedPoints, levels: list[float], seed: int) -> FLIPDReadings:
        """Each level with the same random vectors, so that a curve is smooth."""
        exact = self._exact(points.ambient)
        vectors = None if exact else draws_at(seed, points, self.config.probes, self.config.probe_distribution)
        flipd, traces = [], []
        for level in reported(levels, len(points) * len(levels), "points, over all noise levels", len(points)):
            square, trace = noise_and_trace(
                self.probe,
                points,
                level,
                vectors=vectors,
                rows=self.probe.rows(self.config.batch, points.ambient),
                mode=self.config.derivatives,
            )
            flipd.append((trace + square).double().cpu())
            traces.append(trace.double().cpu())
        return FLIPDReadings(torch.stack(flipd), torch.stack(traces))


def knees(curves: Tensor, levels: list[float], shape: str) -> tuple[Tensor, int]:
    """The position (N,) of the knee of each curve (L, N) over log levels, and how many curves have none.

    Kneedle (Satopaa et al. 2011): both axes are brought to [0, 1]; the knee is where the curve is furthest from its
    chord, above it for a ``shoulder`` and below it for an ``elbow`` of a falling curve; ``auto`` takes the further. A
    curve that varies by less than a hundredth of its size and of one dimension has none, and gives position 0.
    """
    across = torch.tensor(levels, dtype=torch.float64).log()
    across = ((across - across[0]) / (across[-1] - across[0]))[:, None]
    height = curves.amax(0) - curves.amin(0)
    up = (curves - curves.amin(0)) / height.clamp_min(torch.finfo(curves.dtype).tiny)
    shoulder, elbow = up + across - 1, 1 - up - across
    above = {"shoulder": True, "elbow": False}.get(shape, shoulder.amax(0) >= elbow.amax(0))
    at = torch.where(torch.as_tensor(above), shoulder.argmax(0), elbow.argmax(0))
    level = height < 0.01 * curves.abs().amax(0).clamp_min(1.0)
    return at.masked_fill(level, 0), int(level.sum())


def _range_of(rows: list[dict[str, float]]) -> str:
    values = [row["value"] for row in rows]
    return f"{min(values):.3g} to {max(values):.3g}"
