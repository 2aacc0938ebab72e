"""The estimator that checks all others on surrogates of the data, and answers with what they say together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scorefold.data import Dataset, as_dataset
from scorefold.errors import ConfigError, DataError
from scorefold.interfaces import Estimator
from scorefold.results import Estimate
from scorefold.stage import report, reported
from scorefold_neighbours.calibrated.answer import Checked, calibrated_answer
from scorefold_neighbours.calibrated.calibration import Array, Panel, reading_distances, weights_of
from scorefold_neighbours.calibrated.facts import (
    LEAST,
    Facts,
    axes_above_noise,
    grid_steps,
    local_range,
    measure,
    rounding_reach,
)
from scorefold_neighbours.calibrated.surrogates import (
    Draws,
    SurrogateRecipe,
    chosen_recipes,
    coarse,
    look,
    refined,
    surrogate,
)
from scorefold_neighbours.config import CalibratedConfig
from scorefold_neighbours.estimators.points import estimate_generator, points_and_positions

ROUNDS = 4
"""The rounds in which candidates are made: of every dimension first, then like those that look like the data."""

AGAIN = 3
"""Factor of the number of candidates where the first lead to no answer. Few candidates look like a coil."""

MANY = 200
"""The fewest points whose local dimensions are compared."""

MIXED = 3.0
"""The ratio of high to low local dimensions above which data may be mixed. It is 1.2 to 1.8 for one dimension of even
density, and up to 3 for skewed columns."""

ROUNDED = 0.3
"""The largest share of their distance by which rounding may move neighbours.

Of 24 tables of dimension 3, 12 of 14 intervals hold it above, and 6 of 6 far below."""


class Calibrated(Estimator):
    """Calibrated estimate of the dimension of data.

    Surrogate data of known dimensions, alike in number, spectrum, noise, tails and grid step, are given to every
    estimator that is plugged in. Its readings there correct its reading of the data, and their errors say how far it
    can be trusted; one that fails, is flat or scatters too much is left out. The value is what those that are kept say
    together, and None where none can be trusted: where no surrogate resembles the data, where the corrected values
    disagree by more than their errors, where their error is too large, or where the value counts directions that may
    hold noise alone. Where there is none, three times as many candidates are made once. ``interval`` covers the error
    on surrogates.

    ``diagnostics["table"]`` holds for each estimator its ``reading``, the ``corrected`` value, its relative ``error``
    on the surrogates, whether it was ``used``, and ``why`` it wasn't. The arrays hold the surrogates:
    ``surrogate_dimensions`` (N,), ``surrogate_readings`` (N, m) and ``surrogate_weights`` (N,).

    >>> from scorefold_registry import Host
    >>> host = Host.discover()
    >>> two = host.create("estimator:calibrated", {"surrogates": 12}, estimators=["estimator:mle", "estimator:twonn"])
    >>> two.config.surrogates, list(two.panel.estimators)
    (12, ['mle', 'twonn'])
    """

    reads_neighbours = True

    def __init__(
        self,
        config: CalibratedConfig,
        estimators: Sequence[Estimator] = (),
        *,
        port_names: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        if not estimators:
            raise ConfigError("there is no estimator to check", hint="plug some in: inputs: {estimators: [...]}")
        for estimator in estimators:
            metric = getattr(getattr(estimator, "config", None), "metric", "euclidean")
            if metric != "euclidean":
                raise ConfigError(
                    f"an estimator with metric: {metric} is plugged in; surrogates are rotated, so they need euclidean",
                    hint="use that estimator alone, or metric: euclidean",
                )
        self.config = config
        names = (port_names or {}).get("estimators") or [f"{type(e).__name__}-{i}" for i, e in enumerate(estimators)]
        self.panel = Panel(dict(zip(names, estimators, strict=True)), config.subsample)

    def estimate(self, data: Tensor | Dataset, *, generator: torch.Generator | None = None) -> Estimate:
        """Raises ``DataError`` for too few distinct points and for points that aren't finite."""
        draws = estimate_generator(generator)
        x, remarks, warnings = self._prepared(data, draws)
        facts = measure(x)
        if (reach := rounding_reach(x, facts)) > ROUNDED:
            warnings.append(
                f"values are rounded to steps that move neighbours by {reach:.0%} of their distance, so the dimension "
                "may be read too high or too low: more digits would help"
            )
        shown = x if facts.on_grid else x @ facts.axes
        seed = int(torch.randint(0, 2**31 - 1, (), generator=draws))
        given, failed = self.panel.read(shown, seed)
        largest, sure = float(len(facts.variances)), remarks.get("axes before a gap", math.inf)
        for candidates in (self.config.candidates, AGAIN * self.config.candidates):
            dimensions, readings = self._read(facts, shown, sorted(given), draws, seed, candidates)
            checked = Checked(dimensions, readings, sorted(given), given, failed)
            found = calibrated_answer(self.config, checked, list(self.panel.estimators), largest, sure)
            if found.value is not None or found.diagnostics["counts possible noise"]:
                break
        about = {
            **remarks,
            "candidates": candidates,
            "axes seen": facts.seen,
            "most noise": facts.noise,
            "grid columns": int((facts.steps > 0).sum()),
            "warnings": warnings,
        }
        return replace(found, diagnostics={"note": _note(found, remarks), **about, **found.diagnostics})

    def _prepared(self, data: Tensor | Dataset, draws: torch.Generator) -> tuple[Tensor, dict[str, Any], list[str]]:
        """Distinct, centred points (n, D) in random order, facts about what was done, and warnings."""
        dataset = as_dataset(data)
        x, _ = points_and_positions(dataset, self.config.points, draws, least=LEAST, who="the check on surrogates")
        distinct = torch.unique(x, dim=0)
        if len(distinct) < LEAST:
            raise DataError(
                f"the check on surrogates needs at least {LEAST} distinct points; of {len(x)}, {len(distinct)} are"
            )
        warnings = []
        centred = distinct - distinct.mean(0)
        copies = len(x) - len(distinct)
        if copies:
            warnings.append(f"{copies} of {len(x)} points are copies of others, and were left out")
        remarks: dict[str, Any] = {
            "points": len(distinct),
            "points given": len(dataset),
            "duplicates": copies,
            "constant columns": int((centred.std(0) == 0).sum()),
        }
        above = None if bool((grid_steps(centred) > 0).any()) else axes_above_noise(centred)
        if above is not None and above.clear:
            remarks["axes of noise"] = above.count
            warnings.append(
                f"{above.count} of {centred.shape[1]} principal directions hold noise of one size and nothing else, "
                "and were left out"
            )
            centred = centred @ above.axes
        elif above is not None:
            remarks["axes before a gap"] = above.axes.shape[1]
        if len(centred) >= MANY:
            low, high = local_range(centred)
            remarks["local dimensions"] = [low, high]
            if high > MIXED * low:
                warnings.append(
                    f"around points the dimension is from {low:.2g} to {high:.2g} (5% to 95% of the points): parts of "
                    "the data may have dimensions of their own, or their density varies much"
                )
        return centred[torch.randperm(len(centred), generator=draws)], remarks, warnings

    def _read(
        self, facts: Facts, shown: Tensor, names: Sequence[str], draws: torch.Generator, seed: int, candidates: int
    ) -> tuple[Array, Array]:
        """Dimensions (N,) and readings (N, m) of surrogates of every dimension that look as much like the data as can
        be."""
        panel = self.panel.only(names)
        recipes, seeds, distances = self._candidates(facts, shown, draws, candidates)
        dimensions = np.array([recipe.dimension for recipe in recipes], dtype=np.float64)
        places = chosen_recipes(dimensions, distances, self.config.surrogates)
        rows: list[list[float]] = []
        for count, place in reported(enumerate(places), len(places), "surrogates read"):
            points = surrogate(facts, recipes[place], torch.Generator().manual_seed(seeds[place]))
            found, _ = panel.read(points, seed + 1 + count)
            rows.append([found.get(name, math.nan) for name in names])
        return dimensions[places], np.array(rows, dtype=np.float64)

    def _candidates(
        self, facts: Facts, shown: Tensor, draws: torch.Generator, candidates: int
    ) -> tuple[list[SurrogateRecipe], list[int], Array]:
        """Many recipes with the seeds of their points, and how far these look from the data, in rounds."""
        numbers, target = Draws(draws), looks(facts, shown)
        recipes: list[SurrogateRecipe] = []
        seeds: list[int] = []
        found: list[Array] = []
        each = candidates // ROUNDS
        distances = np.zeros(0)
        for number in range(ROUNDS):
            if number == 0:
                more = coarse(facts, each, numbers)
            else:
                more = refined(facts, recipes, weights_of(distances, len(recipes) // 8), each, numbers)
            for recipe in more:
                report(len(found), ROUNDS * each, "looking for surrogates like the data")
                seeds.append(int(torch.randint(0, 2**62, (), generator=draws)))
                recipes.append(recipe)
                found.append(looks(facts, surrogate(facts, recipe, torch.Generator().manual_seed(seeds[-1]))))
            dimensions = np.array([recipe.dimension for recipe in recipes], dtype=np.float64)
            distances = reading_distances(np.log(np.array(found)), np.log(dimensions), np.log(target))
        return recipes, seeds, distances


def looks(facts: Facts, points: Tensor) -> Array:
    """Looks of points on the principal axes of the data; see ``look``."""
    on_axes = points @ facts.axes if facts.on_grid else points
    found: Array = look(on_axes, facts.seen).numpy()
    return found


def _note(found: Estimate, remarks: Mapping[str, Any]) -> str:
    facts = found.diagnostics
    points = f"{remarks['points']} distinct points"
    if remarks["points given"] > remarks["points"] + remarks["duplicates"]:
        points += f" of {remarks['points given']}"
    used = sum(row["used"] for row in facts["table"])
    said = f"{used} of {len(facts['table'])} estimators kept, checked on {facts['surrogates']} surrogates of {points}"
    if found.value is None:
        return f"{said}; no dimension is given"
    return f"{said}, which have a known dimension; together they are off by {facts['together']['error']:.0%} on these"
