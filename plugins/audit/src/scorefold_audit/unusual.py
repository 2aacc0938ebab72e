"""Unusual points, by the model and by their neighbours: those asked about, and training points that lie alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import false_discovery_control

from scorefold.errors import DataError
from scorefold.interfaces import DataSource, Flow, ScoreModel
from scorefold.stage import StageContext
from scorefold_audit.config import AuditOptions
from scorefold_audit.copying.nearest import NEIGHBOURS, CopySearch, Numbers, Places
from scorefold_audit.copying.spaces import Overlap, Space
from scorefold_audit.membership.losses import local_dimensions, log_likelihoods, time_at
from scorefold_audit.report import AuditReport
from scorefold_audit.sets import Sets, to_model

REPEATS = 2000


def high(values: Numbers, held_out: Numbers) -> Numbers:
    """The share (m,) of held-out values (h,) that are as large or larger, the value itself counted: conformal p-values
    of values that are too large (Bates et al. 2023).

    >>> high(np.array([5.0, 0.0]), np.array([1.0, 2.0, 3.0])).tolist()
    [0.25, 1.0]
    """
    above = len(held_out) - np.searchsorted(np.sort(held_out), values, side="left")
    found: Numbers = (1 + above) / (len(held_out) + 1)
    return found


def low(values: Numbers, held_out: Numbers) -> Numbers:
    """The p-values (m,) of values that are too small."""
    return high(-values, -held_out)


def atypical(log_likelihood: Numbers, held_out: Numbers) -> Numbers:
    """The p-values (m,) of -ln p too far from the entropy, which is the mean over held-out points (Nalisnick et al.
    2019): too likely is unlike the data too, as the middle of a Gaussian of many dimensions is."""
    entropy = -held_out.mean()
    return high(np.abs(-log_likelihood - entropy), np.abs(-held_out - entropy))


def unlikely_or_flat(likelihood: Numbers, dimension: Numbers) -> Numbers:
    """The p-values (m,) of the test of Kamkari et al. 2024.

    ``likelihood`` (m,) are p-values of a likelihood that is too small, ``dimension`` (m,) of a local dimension that is
    too small. A point is like the data where both are high.
    """
    found: Numbers = np.minimum(1.0, 2 * np.minimum(likelihood, dimension))
    return found


def atypical_set(log_likelihood: Numbers, held_out: Numbers, seed: int) -> float:
    """The p-value of the points as one set: how often as many held-out points, chosen with replacement, have a mean of
    -ln p that is as far from the entropy (Nalisnick et al. 2019)."""
    apart = abs(log_likelihood.mean() - held_out.mean())
    chosen = np.random.default_rng(seed).integers(len(held_out), size=(REPEATS, len(log_likelihood)))
    spread = np.abs(held_out[chosen].mean(1) - held_out.mean())
    return float((1 + (spread >= apart).sum()) / (REPEATS + 1))


@dataclass(frozen=True)
class Judged:
    """``p`` (m,) of points over all ways of being unlike the data, ``why`` the way with the smallest p-value of each,
    and ``unlike`` the places of those that are named, the surest first."""

    p: Numbers
    why: list[str]
    unlike: Places


def combined_p_values(tests: Mapping[str, Numbers], share: float) -> Judged:
    """Smallest of p-values (m,) by name, times their number (Bonferroni), and the list of Benjamini and Hochberg, of
    which this share is false."""
    names, every = list(tests), np.stack(list(tests.values()))
    p = np.minimum(1.0, len(names) * every.min(0))
    order = np.argsort(p, kind="stable")
    return Judged(p, [names[place] for place in every.argmin(0)], order[false_discovery_control(p)[order] <= share])


def training_lists(search: CopySearch, overlap: Overlap, held_out: Numbers, share: float, most: int) -> dict[str, Any]:
    """Pairs of near-duplicates, the nearest first, and points that lie alone, the farthest first, ``most`` of each, as
    JSON.

    ``held_out`` (h,) are the distances of held-out points from their 10th nearest training point. A training point is
    named if its own distance is larger than nearly all of these. This is decided by conformal p-values and Benjamini
    and Hochberg's list, of which ``share`` is false.
    """
    places = overlap.chosen
    around = overlap.around or search.around(places, NEIGHBOURS + 1)
    distances, found = around.distances, around.index
    p = high(distances[:, -1], held_out)
    order = np.lexsort((-distances[:, -1], p))
    named = false_discovery_control(p) <= share
    # A duplicate may come before the point itself.
    other = np.where(found[:, 0] == places, found[:, min(1, found.shape[1] - 1)], found[:, 0])
    pairs = {
        (int(min(one, two)), int(max(one, two))): float(apart)
        for one, two, apart in zip(places, other, overlap.own, strict=True)
        if apart <= overlap.near
    }
    return {
        "searched": len(places),
        "near_duplicates": [
            {"points": list(pair), "distance": apart} for pair, apart in sorted(pairs.items(), key=lambda item: item[1])
        ][:most],
        "outliers": [
            {
                "point": int(places[row]),
                "distance": float(distances[row, -1]),
                "p": float(p[row]),
                "named": bool(named[row]),
            }
            for row in order[:most]
        ],
        "outliers_named": int(named.sum()),
    }


ALONE, RARE, FLAT = "far from training points", "as likely as no data are", "unlikely, or of low local dimension"
_LIKELIHOODS = 100
_FEWEST = 20


def measure_points(
    report: AuditReport,
    component: ScoreModel | Flow | DataSource,
    sets: Sets,
    space: Space,
    options: AuditOptions,
    context: StageContext,
) -> None:
    """A p-value for each point, and why; what a model can't say is withheld, with the reason."""
    if len(sets.held_out) < _FEWEST:
        report.withhold("points", f"they are compared with held-out points, of which there are {len(sets.held_out)}")
        return
    search = space.search if space.groups is None else CopySearch(space.training)
    distances = [search.nearest(x, NEIGHBOURS)[0][:, -1] for x in (space.points, space.held_out)]
    tests = {ALONE: high(*distances)}
    values: dict[str, Numbers] = {"distance": distances[0]}
    found = report.attempt("likelihoods of points", lambda: _by_model(report, component, sets, options, context))
    for name, (own, of_held_out) in (found or {}).items():
        values[name] = own
        if name == "log_likelihood":
            tests[RARE] = atypical(own, of_held_out)
            report.metrics["points as one set, p-value of their likelihoods"] = atypical_set(
                own, of_held_out, context.seed("points") % 2**32
            )
    if found and "dimension" in found:
        tests[FLAT] = unlikely_or_flat(low(*found["log_likelihood"]), low(*found["dimension"]))
    result = combined_p_values(tests, options.listed)
    unlike = set(result.unlike.tolist())
    report.metrics["points"] = len(sets.points)
    report.metrics["points unlike the training data"] = len(unlike)
    report.lists["points"] = [
        {
            "point": sets.row("points", place),
            "name": sets.called("points", place),
            "unlike": place in unlike,
            "p": float(result.p[place]),
            "why": result.why[place],
            **{name: float(numbers[place]) for name, numbers in values.items()},
        }
        for place in range(len(sets.points))
    ]
    if unlike:
        surest = int(result.unlike[0])
        report.warnings.append(
            f"{len(unlike)} of {len(sets.points)} points are unlike the training data; the surest is "
            f"{sets.called('points', surest)}: {result.why[surest]} (p = {result.p[surest]:.2g})"
        )


def _by_model(
    report: AuditReport,
    component: ScoreModel | Flow | DataSource,
    sets: Sets,
    options: AuditOptions,
    context: StageContext,
) -> dict[str, tuple[Numbers, Numbers]]:
    """Numbers of the points and of held-out points by name: log-likelihoods, and local dimensions of score models.

    Raises ``DataError`` where a model takes conditions that the points don't have, and for samples alone.
    """
    if isinstance(component, DataSource):
        raise DataError("samples alone have no likelihood; points are compared by their neighbours")
    if component.condition_spec is not None and sets.points.condition is None:
        raise DataError("the model takes conditions, and the points have none; they are compared by their neighbours")
    chosen = torch.arange(len(sets.held_out))
    if isinstance(component, ScoreModel):
        chosen = chosen[: options.likelihood or _LIKELIHOODS]
    both = [to_model(points, component, sets.scale, context) for points in (sets.points, sets.held_out.take(chosen))]
    seed, size = context.seed("points"), options.batch_size
    own, others = (log_likelihoods(component, points, size, seed) for points in both)
    found = {"log_likelihood": (own, others)}
    noise = report.metrics.get("noise of the local dimension")
    if isinstance(component, ScoreModel) and noise is not None:
        t = time_at(component, noise, both[0].x)
        own, others = (local_dimensions(component, points, t, size, seed) for points in both)
        found["dimension"] = own, others
    return found
