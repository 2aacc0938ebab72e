"""Points that are asked about: is each unlike the training data, by the model and by its neighbours?"""

from __future__ import annotations

import torch

from scorefold.errors import DataError
from scorefold.interfaces import DataSource, Flow, ScoreModel
from scorefold.stage import StageContext
from scorefold_audit.config import AuditOptions
from scorefold_audit.copying.nearest import NEIGHBOURS, Numbers, Search
from scorefold_audit.copying.spaces import Space
from scorefold_audit.membership.dimension import local_dimensions
from scorefold_audit.membership.losses import log_likelihoods, time_at
from scorefold_audit.report import Report
from scorefold_audit.sets import Sets, to_model
from scorefold_audit.unusual.judging import atypical, atypical_set, high, judged, low, unlikely_or_flat

ALONE, RARE, FLAT = "far from training points", "as likely as no data are", "unlikely, or of low local dimension"
_LIKELIHOODS = 100
_FEWEST = 20


def measure_points(
    report: Report,
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
    search = space.search if space.groups is None else Search(space.training)
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
    result = judged(tests, options.listed)
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
    report: Report,
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
