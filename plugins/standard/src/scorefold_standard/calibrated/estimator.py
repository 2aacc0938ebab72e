"""The estimator that checks all others on surrogates of the data, and answers with what they say together."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scorefold.data import Dataset, as_dataset
from scorefold.errors import ConfigError, DataError
from scorefold.interfaces import Estimator
from scorefold.results import Estimate
from scorefold_standard.calibrated.calibration import (
    Array,
    Calibration,
    calibrate,
    flatness,
    squared_distances,
    weights_of,
)
from scorefold_standard.calibrated.facts import LEAST, Facts, measure
from scorefold_standard.calibrated.looks import look
from scorefold_standard.calibrated.readings import Panel
from scorefold_standard.calibrated.recipes import Draws, chosen, coarse, refined
from scorefold_standard.calibrated.surrogates import Recipe, surrogate
from scorefold_standard.estimator_config import CalibratedConfig
from scorefold_standard.estimators.points import QUANTITY, points_of, seeded

ROUNDS = 4
"""The rounds in which candidates are made: of every dimension first, then like those that look like the data."""

FLAT = 0.3
"""The share of the variance of log dimensions that an estimator must explain over all surrogates."""

MISSING = 0.2
"""The largest share of surrogates on which an estimator may fail."""

STRANGE = 2.5
"""The largest distance of the nearest surrogate from the data, in root mean squares of the scatter of readings."""

APART = 3.0
"""The largest distance of corrected values from the answer, in root mean squares of their errors."""

UNEQUAL = 10.0
"""The ratio of the largest to the smallest deviation of a column from which units are thought of."""


@dataclass(frozen=True)
class _Checked:
    """The surrogates that were made, and the readings on them: (N, m), NaN where an estimator failed."""

    recipes: list[Recipe]
    readings: Array

    @property
    def dimensions(self) -> Array:
        return np.array([recipe.dimension for recipe in self.recipes], dtype=np.float64)


class Calibrated(Estimator):
    """Which estimate of dimension to believe for these data.

    Surrogate data of known dimensions, alike in number, spectrum, noise, tails and grid step, are given to every
    estimator that is plugged in. Its readings there correct its reading of the data, and their errors say how far it
    can be trusted; one that fails, is flat or scatters too much is left out. The value is what those that are kept say
    together, and None where none can be trusted: where no surrogate resembles the data, where the corrected values
    disagree by more than their errors, or where their error is too large. ``interval`` covers the error on surrogates.

    ``diagnostics["table"]`` holds for each estimator its ``reading``, the ``corrected`` value, its relative ``error``
    on the surrogates, whether it was ``used``, and ``why`` it wasn't. The arrays are those of the surrogates:
    ``surrogate_dimensions`` (N,), ``surrogate_readings`` (N, m) and ``surrogate_weights`` (N,).
    """

    def __init__(
        self,
        config: CalibratedConfig,
        estimators: Sequence[Estimator] = (),
        *,
        port_names: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        if not estimators:
            raise ConfigError("there is no estimator to check", hint="plug some in: inputs: {estimators: [...]}")
        self.config = config
        names = (port_names or {}).get("estimators") or [f"{type(e).__name__}-{i}" for i, e in enumerate(estimators)]
        self.panel = Panel(dict(zip(names, estimators, strict=True)), config.subsample)
        self._progress: Callable[[int, int, str], None] = lambda done, total, text: None

    def show_progress(self, progress: Callable[[int, int, str], None]) -> None:
        self._progress = progress

    def estimate(self, data: Tensor | Dataset, *, generator: torch.Generator | None = None) -> Estimate:
        """Raises ``DataError`` for too few distinct points and for points that aren't finite."""
        draws = seeded(generator)
        x, remarks, warnings = self._prepared(data, draws)
        facts = measure(x)
        shown = x if bool((facts.steps > 0).any()) else x @ facts.axes
        seed = int(torch.randint(0, 2**31 - 1, (), generator=draws))
        given, failed = self.panel.read(shown, seed)
        checked = self._checked(facts, shown, sorted(given), draws, seed)
        return _answer(self.config, facts, checked, given, failed, remarks, warnings, list(self.panel.estimators))

    def _prepared(self, data: Tensor | Dataset, draws: torch.Generator) -> tuple[Tensor, dict[str, Any], list[str]]:
        """Distinct, centred points (n, D) in random order, facts about what was done, and warnings."""
        dataset = as_dataset(data)
        x, _ = points_of(dataset, self.config.points, draws, least=LEAST, who="the check on surrogates")
        distinct = torch.unique(x, dim=0)
        if len(distinct) < LEAST:
            raise DataError(
                f"the check on surrogates needs at least {LEAST} distinct points; of {len(x)}, {len(distinct)} are"
            )
        warnings = []
        centred = distinct - distinct.mean(0)
        spread = centred.std(0)
        varying = spread > 0
        ratio = float(spread[varying].max() / spread[varying].min()) if bool(varying.any()) else 1.0
        if self.config.scale == "columns":
            centred = centred / spread.where(varying, 1.0)
        elif ratio > UNEQUAL and dataset.tensor(limit=1).dim() == 2:
            warnings.append(
                f"the spreads of the columns differ {ratio:.3g} times: if their units differ, the dimension is that of "
                "the widest columns; set 'scale: columns' to give all columns one spread"
            )
        copies = len(x) - len(distinct)
        if copies:
            warnings.append(f"{copies} of {len(x)} points are copies of others, and were left out")
        remarks = {
            "points": len(distinct),
            "points given": len(dataset),
            "duplicates": copies,
            "constant columns": int((~varying).sum()),
        }
        return centred[torch.randperm(len(centred), generator=draws)], remarks, warnings

    def _checked(
        self,
        facts: Facts,
        shown: Tensor,
        names: Sequence[str],
        draws: torch.Generator,
        seed: int,
    ) -> _Checked:
        """Readings of surrogates of every dimension that look as much like the data as can be."""
        config, panel = self.config, self.panel.only(names)
        recipes, seeds, distances = self._candidates(facts, shown, draws)
        dimensions = np.array([recipe.dimension for recipe in recipes], dtype=np.float64)
        places = chosen(dimensions, distances, config.surrogates)
        rows: list[list[float]] = []
        for count, place in enumerate(places):
            self._progress(count, len(places), f"reading surrogates, dimension {recipes[place].dimension}")
            points = surrogate(facts, recipes[place], torch.Generator().manual_seed(seeds[place]))
            found, _ = panel.read(points, seed + 1 + count)
            rows.append([found.get(name, math.nan) for name in names])
        return _Checked([recipes[place] for place in places], np.array(rows, dtype=np.float64))

    def _candidates(self, facts: Facts, shown: Tensor, draws: torch.Generator) -> tuple[list[Recipe], list[int], Array]:
        """Many recipes with the seeds of their points, and how far these look from the data, in rounds."""
        numbers, target = Draws(draws), looks(facts, shown)
        recipes: list[Recipe] = []
        seeds: list[int] = []
        found: list[Array] = []
        each = self.config.candidates // ROUNDS
        distances = np.zeros(0)
        for number in range(ROUNDS):
            if number == 0:
                more = coarse(facts, each, numbers)
            else:
                more = refined(facts, recipes, weights_of(distances, len(recipes) // 8), each, numbers)
            for recipe in more:
                self._progress(len(found), ROUNDS * each, "looking for surrogates like the data")
                seeds.append(int(torch.randint(0, 2**62, (), generator=draws)))
                recipes.append(recipe)
                found.append(looks(facts, surrogate(facts, recipe, torch.Generator().manual_seed(seeds[-1]))))
            logs = np.array([recipe.dimension for recipe in recipes], dtype=np.float64)
            distances = squared_distances(np.log(np.array(found)), np.log(logs), np.log(target))
        return recipes, seeds, distances


def looks(facts: Facts, points: Tensor) -> Array:
    """How points look on the principal axes of the data; see ``look``."""
    on_axes = points @ facts.axes if bool((facts.steps > 0).any()) else points
    found: Array = look(on_axes, facts.seen).numpy()
    return found


def _answer(
    config: CalibratedConfig,
    facts: Facts,
    checked: _Checked,
    given: Mapping[str, float],
    failed: Mapping[str, str],
    remarks: Mapping[str, Any],
    warnings: list[str],
    names: Sequence[str],
) -> Estimate:
    """The estimate from the readings of the data and of the surrogates."""
    read = sorted(given)
    why = dict(failed)
    for place, name in enumerate(read):
        reason = _unfit(checked.readings[:, place], checked.dimensions)
        if reason:
            why[name] = reason
    rest = [name for name in read if name not in why]
    calibration = _calibrated(checked, read, rest, given)
    if calibration is not None:
        kept = [name for name, curve in zip(rest, calibration.curves, strict=True) if curve.error <= config.tolerance]
        why |= {name: "its readings scatter too much" for name in rest if name not in kept}
        first, calibration = calibration, _calibrated(checked, read, kept, given)
        curves = dict(zip(rest, first.curves, strict=True))
        if calibration is not None:
            curves |= dict(zip(kept, calibration.curves, strict=True))
    else:
        kept, curves = [], {}
    table = [
        {
            "estimator": name,
            "reading": given.get(name),
            "corrected": curves[name].corrected if name in curves else None,
            "error": math.expm1(curves[name].error) if name in curves else None,
            "used": name in kept,
            "why": why.get(name, ""),
        }
        for name in names
    ]
    value, interval, reason = _settled(config, facts, calibration)
    headline = "" if value is not None else f"no estimator can be trusted on these data: {reason}"
    diagnostics: dict[str, Any] = {
        **remarks,
        "note": _note(calibration, kept, names, checked, remarks, value),
        "warnings": warnings,
        "table": table,
        "surrogates": len(checked.recipes),
        "axes seen": facts.seen,
        "most noise": facts.noise,
        "grid columns": int((facts.steps > 0).sum()),
        "estimators": read,
        "surrogate_dimensions": torch.from_numpy(checked.dimensions),
        "surrogate_readings": torch.from_numpy(checked.readings),
    }
    if calibration is not None:
        diagnostics["together"] = {
            "corrected": calibration.together.corrected,
            "error": math.expm1(calibration.together.error),
            "distance": calibration.distance,
        }
        diagnostics["surrogate_weights"] = torch.from_numpy(calibration.weights)
    return Estimate(QUANTITY, value, interval, config.level, diagnostics=diagnostics, headline=headline)


def _unfit(readings: Array, dimensions: Array) -> str:
    """Why an estimator can't be corrected by its readings on surrogates; empty where it can."""
    share = float(np.isfinite(readings).mean())
    if share < 1 - MISSING:
        return f"it gives no dimension on {1 - share:.0%} of the surrogates"
    if flatness(readings, dimensions) > 1 - FLAT:
        return "its readings hardly change with the dimension of the surrogates"
    return ""


def _calibrated(
    checked: _Checked, read: Sequence[str], kept: Sequence[str], given: Mapping[str, float]
) -> Calibration | None:
    if not kept:
        return None
    places = [read.index(name) for name in kept]
    return calibrate(checked.readings[:, places], checked.dimensions, np.array([given[name] for name in kept]))


def _settled(
    config: CalibratedConfig, facts: Facts, calibration: Calibration | None
) -> tuple[float | None, tuple[float, float] | None, str]:
    """The value and its interval, or why there is none."""
    from scipy.stats import t

    if calibration is None:
        return None, None, "each fails, or says nothing about the dimension of surrogates that look like these data"
    together = calibration.together
    value = min(max(together.corrected, 1.0), float(len(facts.variances)))
    gaps = [math.log(curve.corrected / value) / curve.error for curve in calibration.curves]
    apart = math.sqrt(sum(gap**2 for gap in gaps) / len(gaps))
    if calibration.distance > STRANGE:
        return None, None, "no surrogate of any dimension looks like these data to them"
    if apart > APART:
        low, high = (limit(curve.corrected for curve in calibration.curves) for limit in (min, max))
        return None, None, f"corrected, they still disagree by more than their errors, from {low:.3g} to {high:.3g}"
    weights = calibration.weights
    counted = float(weights.sum() ** 2 / (weights**2).sum())
    disagreement = float(np.median([abs(math.log(curve.corrected / value)) for curve in calibration.curves]))
    margin = float(t.ppf((1 + config.level) / 2, max(2.0, counted - 1))) * math.hypot(together.error, disagreement)
    if math.expm1(together.error) > config.tolerance:
        return None, None, f"together they are off by {math.expm1(together.error):.0%} on surrogates like these data"
    return value, (value * math.exp(-margin), value * math.exp(margin)), ""


def _note(
    calibration: Calibration | None,
    kept: Sequence[str],
    names: Sequence[str],
    checked: _Checked,
    remarks: Mapping[str, Any],
    value: float | None,
) -> str:
    points = f"{remarks['points']} distinct points"
    if remarks["points given"] > remarks["points"] + remarks["duplicates"]:
        points += f" of {remarks['points given']}"
    said = f"{len(kept)} of {len(names)} estimators kept, checked on {len(checked.recipes)} surrogates of {points}"
    if calibration is None or value is None:
        return f"{said}; no dimension is given"
    return f"{said}; together they are off by {math.expm1(calibration.together.error):.0%} where the dimension is known"
