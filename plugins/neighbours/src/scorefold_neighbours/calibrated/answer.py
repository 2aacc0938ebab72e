"""The answer from readings of the data and of surrogates: its value, its interval, its table and its figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.ticker import LogLocator, MaxNLocator

from scorefold.plotting import ACCENT, INK, SOFT, WARM, empty_figure, tidy
from scorefold.results import Estimate
from scorefold_neighbours.calibrated.calibration import Array, Curve, SurrogateCalibration, calibrate, flatness, rise
from scorefold_neighbours.config import CalibratedConfig
from scorefold_neighbours.estimators.points import QUANTITY

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FLAT = 0.3
"""The share of the variance of log dimensions that an estimator must explain over the surrogates."""

RISE = 0.2
"""The least slope of log readings against log dimensions: 0.2 is a reading of 15 % more at twice the dimension."""

MISSING = 0.2
"""The largest share of surrogates on which an estimator may fail."""

LOOSE = 2.0
"""Largest ratio of the error of one estimator among several to the largest error of the answer."""

STRANGE = 2.5
"""The largest distance of the nearest surrogate from the data, in root mean squares of the scatter of readings."""

MOST = 0.75
"""The largest share of the possible dimensions that an interval may cover, of four or more columns: one that covers
more is no answer."""

WIDE = 4.0
"""Largest ratio of the ends of an interval."""

APART = 3.0
"""Largest distance of the corrected values of half of the estimators from the answer, in errors of each. Of dimensions
1, 2 and 3, which lie far apart in logarithms, a few estimators may always be corrected to the wrong one.
"""


FAR = 2.0
"""The ratio to the median of all corrected values from which on, up or down, the table says that one lies far from the
others. It counts in the answer: an estimator that disagrees makes the interval wider, or withholds the answer."""


@dataclass(frozen=True)
class Checked:
    """The dimensions (N,) of surrogates, and the readings on them: (N, m), NaN where an estimator failed.

    ``names`` are the m estimators that read the data, ``given`` their readings, and ``failed`` says why others have
    none.
    """

    dimensions: Array
    readings: Array
    names: Sequence[str]
    given: Mapping[str, float]
    failed: Mapping[str, str]

    def calibrated(self, names: Sequence[str]) -> SurrogateCalibration | None:
        """Common answer of these estimators; None without estimators."""
        if not names:
            return None
        places = [self.names.index(name) for name in names]
        return calibrate(self.readings[:, places], self.dimensions, np.array([self.given[name] for name in names]))


@dataclass(frozen=True)
class Kept:
    """The estimators that are used, what they say together, the curves of these and others, and why others are not used
    or what is unusual about one that is."""

    names: Sequence[str]
    calibration: SurrogateCalibration | None
    curves: Mapping[str, Curve]
    why: Mapping[str, str]


def calibrated_answer(
    config: CalibratedConfig, checked: Checked, every: Sequence[str], largest: float, sure: float = math.inf
) -> Estimate:
    """The estimate, at most ``largest``; its table has a row for each of the names in ``every``.

    Directions beyond the first ``sure`` ones may hold noise alone, so a value above their number is withheld.
    """
    kept = keep(config, checked)
    value, interval, reason = _settled(config, kept.calibration, largest)
    unclear = interval is not None and value is not None and value > sure
    if unclear and interval is not None:
        reason = (
            f"{largest - sure:.0f} of {largest:.0f} directions may hold noise of one size; {interval[0]:.3g} to "
            f"{interval[1]:.3g} would fit with them, and at most {sure:.0f} without them"
        )
        value = interval = None
    facts: dict[str, Any] = {
        "table": [_row(name, checked, kept) for name in every],
        "estimators": list(checked.names),
        "surrogates": len(checked.dimensions),
        "counts possible noise": unclear,
        "surrogate_dimensions": torch.from_numpy(checked.dimensions),
        "surrogate_readings": torch.from_numpy(checked.readings),
    }
    if kept.calibration is not None:
        together = kept.calibration.together
        facts["together"] = {
            "corrected": together.corrected,
            "error": math.expm1(together.error),
            "distance": kept.calibration.distance,
        }
        facts["surrogate_weights"] = torch.from_numpy(kept.calibration.weights)
    headline = "" if value is not None else f"no estimator can be trusted on these data. {reason}"
    return Estimate(QUANTITY, value, interval, config.level, diagnostics=facts, headline=headline)


def keep(config: CalibratedConfig, checked: Checked) -> Kept:
    """Leave out what fails, is flat or scatters too much on the surrogates, and calibrate with the rest."""
    why = dict(checked.failed)
    for place, name in enumerate(checked.names):
        reason = _unfit(checked.readings[:, place], checked.dimensions)
        if reason:
            why[name] = reason
    rest = [name for name in checked.names if name not in why]
    first = checked.calibrated(rest)
    curves = {} if first is None else dict(zip(rest, first.curves, strict=True))
    names = [name for name in rest if math.expm1(curves[name].error) <= LOOSE * config.tolerance]
    why |= {name: "its readings scatter too much" for name in rest if name not in names}
    calibration = checked.calibrated(names)
    if calibration is not None:
        curves |= dict(zip(names, calibration.curves, strict=True))
    middle = float(np.median([curves[name].corrected for name in names])) if names else 1.0
    far = (name for name in names if abs(math.log(curves[name].corrected / middle)) >= math.log(FAR))
    return Kept(names, calibration, curves, why | dict.fromkeys(far, "corrected, it lies far from the others"))


def _unfit(readings: Array, dimensions: Array) -> str:
    """Reason why an estimator can't be corrected by its readings on surrogates; empty if it can."""
    share = float(np.isfinite(readings).mean())
    if share < 1 - MISSING:
        return f"it gives no dimension on {1 - share:.0%} of the surrogates"
    if flatness(readings, dimensions) > 1 - FLAT:
        return "its readings hardly change with the dimension of the surrogates"
    if (slope := rise(readings, dimensions)) < RISE:
        return f"its readings hardly rise: by {max(0.0, 2**slope - 1):.0%} at twice the dimension of the surrogates"
    return ""


def _row(name: str, checked: Checked, kept: Kept) -> dict[str, Any]:
    curve = kept.curves.get(name)
    return {
        "estimator": name,
        "reading": checked.given.get(name),
        "corrected": None if curve is None else curve.corrected,
        "error": None if curve is None else math.expm1(curve.error),
        "used": name in kept.names,
        "why": kept.why.get(name, ""),
    }


def _settled(
    config: CalibratedConfig, calibration: SurrogateCalibration | None, largest: float
) -> tuple[float | None, tuple[float, float] | None, str]:
    """The value and its interval, or why there is none."""
    if calibration is None:
        return None, None, "Each fails, or says nothing about the dimension of surrogates that look like these data"
    if calibration.distance > STRANGE:
        return None, None, "No surrogate of any dimension looks like these data to them"
    together = calibration.together
    # All together say nothing that no single one says: beyond these the regression extrapolates.
    ends = [limit(curve.corrected for curve in calibration.curves) for limit in (min, max)]
    value = min(max(together.corrected, ends[0], 1.0), ends[1], largest)
    gaps = np.array([math.log(curve.corrected / value) for curve in calibration.curves])
    errors = np.array([curve.error for curve in calibration.curves])
    margin = _margin(config, calibration, float(np.median(np.abs(gaps))))
    between = (max(1.0, value * math.exp(-margin)), min(value * math.exp(margin), largest))
    if math.expm1(together.error) > config.tolerance:
        error = f"Together they are off by {math.expm1(together.error):.0%} on surrogates like these data"
        return None, None, f"{error}. {_fits(between)}"
    if float(np.median(np.abs(gaps) / errors)) > APART:
        low, high = ends
        return None, None, f"Corrected, they still disagree by more than their errors, from {low:.3g} to {high:.3g}"
    if between[1] > WIDE * between[0] or _covers_most(between, largest):
        most = (
            f"most of what {largest:.0f} columns allow" if between[1] <= WIDE * between[0] else "too wide for an answer"
        )
        return None, None, f"{_fits(between)}, which is {most}. More rows, or fewer columns of noise, would help"
    return value, between, ""


def _fits(between: tuple[float, float]) -> str:
    return f"All values from {between[0]:.2g} to {between[1]:.2g} would fit"


_NEARLY_ALL = 0.95
"""The share of the possible dimensions that an interval of two or three columns may cover. A narrower one says more
than their number."""


def _covers_most(between: tuple[float, float], largest: float) -> bool:
    share = MOST if largest >= 4 else _NEARLY_ALL
    return between[1] - between[0] > share * (largest - 1)


def _margin(config: CalibratedConfig, calibration: SurrogateCalibration, disagreement: float) -> float:
    """Half the interval of the log dimension: the error on surrogates and the disagreement of estimators, by t."""
    from scipy.stats import t

    weights = calibration.weights
    counted = float(weights.sum() ** 2 / (weights**2).sum())
    return float(t.ppf((1 + config.level) / 2, max(2.0, counted - 1))) * math.hypot(
        calibration.together.error, disagreement
    )


COLUMNS = 4


def plot(answer: Estimate) -> Mapping[str, Figure]:
    """The curves, where any estimator read the data. The answer has one number or none, so there is no histogram."""
    return {"curves": calibration_curves(answer)} if answer.diagnostics["estimators"] else {}


def calibration_curves(answer: Estimate) -> Figure:
    """A panel an estimator: readings of surrogates against their dimension, the darker the more like the data."""
    facts = answer.diagnostics
    names = facts["estimators"]
    rows = -(-len(names) // COLUMNS)
    across = min(COLUMNS, len(names))
    figure = empty_figure(2.3 * across + 0.4, 2.0 * rows + 0.5)
    panels = figure.subplots(rows, across, squeeze=False, sharex=True).ravel()
    table = {row["estimator"]: row for row in facts["table"]}
    for place, axes in enumerate(panels):
        if place >= len(names):
            axes.set_axis_off()
            continue
        _panel(axes, table[names[place]], facts, facts["surrogate_readings"][:, place])
        if answer.interval is not None:
            axes.axvspan(*answer.interval, color=ACCENT, alpha=0.12, linewidth=0)
    figure.supxlabel("true dimension of surrogates", fontsize=9, color=INK)
    figure.supylabel("reading", fontsize=9, color=INK)
    figure.set_label(
        "Readings of surrogates whose dimension is known; the more a surrogate looks like the data, the larger its "
        "dot. The line is the reading of the data, dashed where the estimator was left out; the band is the answer."
    )
    return figure


def _panel(axes: Axes, row: Mapping[str, Any], facts: Mapping[str, Any], readings: torch.Tensor) -> None:
    tidy(axes)
    dimensions = facts["surrogate_dimensions"]
    weights = facts.get("surrogate_weights", torch.zeros_like(dimensions))
    color = ACCENT if row["used"] else SOFT
    axes.scatter(dimensions, readings, s=(6 + 40 * weights).tolist(), color=color, alpha=0.6, linewidths=0)
    axes.axhline(row["reading"], color=WARM, linewidth=1.2, linestyle="-" if row["used"] else "--")
    # An estimator may read one number everywhere, and matplotlib finds no ends around a power of ten.
    known = [float(row["reading"]), *readings[readings.isfinite()].tolist()]
    axes.set_ylim(min(known) / 1.1, 1.1 * max(known))
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        low, high = axis.get_view_interval()
        # Within a decade there may be no power of ten to mark.
        axis.set_major_locator(LogLocator() if high >= 100 * low else MaxNLocator(4))
        axis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.set_title(str(row["estimator"]), fontsize=9, color=INK)
