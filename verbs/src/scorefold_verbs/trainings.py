"""One estimate from those of several trainings of the same model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean, stdev
from typing import Any

from scorefold.errors import ConfigError
from scorefold.results import Estimate

FEWEST = 3
"""The fewest trainings whose scatter says anything: of two, Student's quantile is 12.7."""


def over_trainings(found: Sequence[Estimate]) -> Estimate:
    """The estimate that E trainings of a model support, from the estimate of each: the same points, other seeds.

    The value v is the mean. Chance adds the scatter s of the values over trainings and the standard error e over
    points, in quadrature: h^2 = (t s / sqrt(E))^2 + (z e)^2, with Student's quantile t at E - 1 degrees of freedom and
    the normal one z. The scale does not average out, so that the interval is [min(a, v) - h, max(b, v) + h], where a
    and b are the means of the ends of ``diagnostics["over_scales"]``, where estimates have one. It covers
    trainings, points and scale, and there is none where no estimate has one. Where a training gives no value there is
    none either, and the headline says what each gave.

    The rest is that of the first estimate; ``diagnostics["trainings"]`` lists the values. Raises ``ConfigError`` for
    fewer than 3 estimates, for estimates of different quantities and for intervals at different levels.

    >>> one, two, three = (Estimate("intrinsic dimension", v, (v - 0.49, v + 0.49)) for v in (10.2, 9.6, 10.5))
    >>> over_trainings([one, two, three]).text()
    'intrinsic dimension 10.1 (95% interval 8.861 to 11.34)'
    """
    quantities, levels = {each.quantity for each in found}, {each.level for each in found}
    if len(found) < FEWEST:
        raise ConfigError(f"{len(found)} trainings were given; expected {FEWEST} or more")
    if len(quantities) > 1 or len(levels) > 1:
        given = ", ".join(f"{each.quantity} at {each.level:.0%}" for each in found)
        raise ConfigError(f"trainings give different answers, {given}; expected one quantity at one level")
    first, values = found[0], [each.value for each in found if each.value is not None]
    facts: dict[str, Any] = {"trainings": [each.value for each in found]}
    others = [text for each in found[1:] for text in each.diagnostics.get("warnings", ())]
    warnings = list(dict.fromkeys([*first.diagnostics.get("warnings", ()), *others]))
    if warnings:
        facts["warnings"] = warnings
    if len(values) < len(found):
        said = "; ".join(f"{number}: {_said(each)}" for number, each in enumerate(found, start=1))
        headline = f"{len(values)} of {len(found)} trainings give a value ({said})"
        return replace(first, value=None, interval=None, headline=headline, diagnostics={**first.diagnostics, **facts})
    value = fmean(values)
    facts["note"] = f"{len(found)} trainings give {', '.join(f'{one:.4g}' for one in values)}"
    if first.diagnostics.get("note"):
        facts["note"] += f"; the first {first.diagnostics['note']}"
    return replace(
        first,
        value=value,
        interval=_interval(found, values),
        covers="",
        diagnostics={**first.diagnostics, **facts},
    )


def _said(estimate: Estimate) -> str:
    return estimate.headline if estimate.value is None else f"{estimate.value:.4g}"


def _student(level: float, count: int) -> float:
    """Student's two-sided quantile for the mean of so many values."""
    from scipy.special import stdtrit  # a tenth of a second to import

    return float(stdtrit(count - 1, (1 + level) / 2))


def _interval(found: Sequence[Estimate], values: Sequence[float]) -> tuple[float, float] | None:
    widths = [(each.interval[1] - each.interval[0]) / 2 for each in found if each.interval is not None]
    if not widths:
        return None
    scatter = _student(found[0].level, len(values)) * stdev(values) / math.sqrt(len(values))
    half, mean = math.hypot(scatter, fmean(widths)), fmean(values)
    ranges = [each.diagnostics.get("over_scales") or (each.value, each.value) for each in found]
    low, high = (fmean(ends) for ends in zip(*ranges, strict=True))
    return min(low, mean) - half, max(high, mean) + half
