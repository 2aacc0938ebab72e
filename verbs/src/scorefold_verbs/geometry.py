"""The verbs of geometries: ``build`` and ``interpolate``."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from scorefold.data import EventScale
from scorefold.errors import DataError
from scorefold.interfaces import DataSource, Geometry, TensorSource
from scorefold.stage import Outcome, StageContext
from scorefold_toolkit.checks import check_trained
from scorefold_toolkit.figures import EventGroups
from scorefold_toolkit.geodesics import ChecksPaths, Denoises, pictured
from scorefold_verbs.config import InterpolateOptions
from scorefold_verbs.inputs import Inputs, ends_of, pair_rows, points_of
from scorefold_verbs.verdicts import is_straight, of_lengths, of_path

_DIAGNOSED = 512
"""Number of points for the diagnosis of a geometry."""

_ROWS = 8
"""Number of rows of images in a figure."""


def _check_trained(component: Geometry) -> None:
    """Raises ``ConfigError`` for a part of a geometry that is as it was built, where training would have changed it."""
    parts = component.named_modules() if isinstance(component, nn.Module) else ()
    for name, part in parts:
        if part is not component:
            check_trained(part, name, "this geometry")


def _trust(component: Geometry, points: Tensor, ends: tuple[Tensor, Tensor] | None = None) -> dict[str, Any]:
    """Diagnostics of a geometry on held-out points, as entries of a result; none without diagnostics. Of a geometry
    that checks its paths they are of the paths between ``ends``, where these are given."""
    if ends and isinstance(component, ChecksPaths):
        numbers, texts = component.diagnose_paths(points, *ends)
    else:
        numbers, texts = component.diagnose(points)
    entries = {"diagnostics": dict(numbers), "warnings": list(texts)}
    return {name: entry for name, entry in entries.items() if entry}


def build(component: Geometry, inputs: Inputs, options: None, context: StageContext) -> Outcome:
    """Hand a geometry on; with data, the distances between some of its points are drawn and reported, and what the
    points say of how far it can be trusted.

    Raises ``ConfigError`` for a part that should have been trained, and ``DataError`` for an empty split.
    """
    _check_trained(component)
    source: DataSource | None = inputs.get("data")
    if source is None:
        return Outcome(component, shown={})
    points = points_of(source, 64, context).tensor()
    with torch.no_grad():
        # A geometry that is solved by numbers looks at fewer points, and holds NaN where a distance is withheld.
        known = component.lengths(points) if isinstance(component, ChecksPaths) else component.distance_matrix(points)
    distances = known.cpu()
    pairs = distances[~torch.eye(len(distances), dtype=torch.bool)]
    metrics: dict[str, Any] = {"points": len(distances)}
    if len(pairs):
        metrics["mean distance"] = float(pairs.nanmean())
    if bool(pairs.isnan().any()):
        metrics["distances withheld"] = int(pairs.isnan().sum()) // 2
    trust = _trust(component, points_of(source, _DIAGNOSED, context).tensor())
    return Outcome(component, {"metrics": metrics, **trust}, {"distances": distances}, shown=distances)


def _left_out(component: Geometry, start: Tensor, end: Tensor) -> list[str]:
    """Reasons why the paths of pairs (B, *E) are left out, "" for the other paths. Raises ``DataError`` where none is
    given.
    """
    reasons = component.reasons(start, end) if isinstance(component, ChecksPaths) else [""] * len(start)
    if reasons and all(reasons):
        raise DataError(
            f"all {len(reasons)} geodesics are withheld: {reasons[0]}",
            hint="take a higher noise or a smaller weight, or a model that has learned these data",
        )
    return reasons


@torch.no_grad()
def interpolate(component: Geometry, inputs: Inputs, options: InterpolateOptions, context: StageContext) -> Outcome:
    """Geodesics between pairs of data points, handed on as (pairs x times) events, pair by pair.

    Their middles are compared with the training points: see ``nearness``. Beside them are straight lines, and where the
    geometry is of a density with noise, straight lines of which each point is denoised. Without training points the
    lengths of both are compared. Pairs whose path a geometry
    withholds are counted and left out; their arrays hold NaN. Raises ``DataError`` for fewer points than the pairs need
    and where all are withheld, and ``ConfigError`` for a part that should have been trained.
    """
    _check_trained(component)
    source: DataSource = inputs["data"]
    known = points_of(source, 10_000, context)
    ends, points = ends_of(known, source, options, context), known.tensor()
    start, end = ends.x.chunk(2)
    reasons = _left_out(component, start, end)
    given = torch.tensor([not reason for reason in reasons], device=start.device)
    pairs, start, end = (start, end), start[given], end[given]
    times = torch.linspace(0, 1, options.times, dtype=points.dtype, device=points.device)
    paths = component.geodesic(start, end, times).cpu()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the same geodesics have warned above
        lengths = component.distance(start, end).cpu()
    metrics = {"pairs": len(start), "mean length": float(lengths.mean())}
    result: dict[str, Any] = {"metrics": metrics, **_trust(component, points[:_DIAGNOSED], pairs)}
    middles = paths[:, options.times // 2]
    line = None
    if isinstance(component, Denoises) and component.sigma > 0:
        line = component.straight_denoised(start, end, times[options.times // 2][None])[:, 0].cpu()
    found, answer, lost = of_path(middles, start.cpu(), end.cpu(), source, what="geodesic", denoised=line)
    metrics |= found
    if not answer and not lost:
        answer = {"answer": of_lengths(lengths, _line_lengths(component, start, end).cpu())}
    result |= answer
    if len(start) < len(reasons):
        metrics["pairs withheld"] = len(reasons) - len(start)
        counts = {reason: reasons.count(reason) for reason in reasons if reason}
        lost_pairs = [f"{count} of {len(reasons)} paths are withheld: {reason}" for reason, count in counts.items()]
        others = [text for text in result.get("warnings", []) if not any(reason in text for reason in counts)]
        result["warnings"] = [*lost_pairs, *others]
    if lost:
        result["warnings"] = [*lost, *result.get("warnings", [])]
    flat = paths.reshape(-1, *paths.shape[2:])
    arrays = {"geodesics": _whole(paths, given), "lengths": _whole(lengths, given), **pair_rows(ends)}
    shown: Any = {} if lost else _shown(component, paths, points, source.event_scale)
    return Outcome(TensorSource(flat, source.event_scale), result, arrays, shown=shown)


def _line_lengths(component: Geometry, start: Tensor, end: Tensor) -> Tensor:
    """The lengths (B,) of straight lines between ``start`` and ``end`` (B, *E) by the metric, from 32 pieces."""
    places = (torch.arange(32, dtype=start.dtype, device=start.device) + 0.5) / 32
    return torch.stack([component.norm(torch.lerp(start, end, place), end - start) for place in places]).mean(0)


def _shown(component: Geometry, paths: Tensor, points: Tensor, scale: EventScale) -> EventGroups:
    """Paths (B, T, *E) over points. Paths of images have their straight lines below them, within the limits of data."""
    if paths.dim() != 5:
        return EventGroups(paths, "one geodesic", path=True, among=points.cpu())
    if is_straight(paths[:, len(paths[0]) // 2], paths[:, 0], paths[:, -1]):
        shown = EventGroups(paths[:_ROWS], "a straight line", path=True)
    else:
        each = 4 if isinstance(component, Denoises) and component.sigma > 0 else 2
        shown = pictured(component, paths[: _ROWS // each].to(points))
    return replace(shown, x=(shown.x.clamp(scale.low, scale.high) if scale.bounded else shown.x).cpu())


def _whole(values: Tensor, given: Tensor) -> Tensor:
    """Values of the pairs that are given, as rows of all pairs; NaN for the others."""
    whole = values.new_full((len(given), *values.shape[1:]), float("nan"))
    whole[given.cpu()] = values
    return whole
