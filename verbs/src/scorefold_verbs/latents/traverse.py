"""The verbs ``encode``, ``interpolate``, ``traverse`` and ``edit``: codes, and events along paths through them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold.errors import ConfigError, SplitError
from scorefold.interfaces import DataSource, Encodes, TensorSource
from scorefold.stage import Outcome, StageContext
from scorefold_toolkit.data.splits import row_text
from scorefold_verbs.config import EditOptions, EncodeOptions, InterpolateCodesOptions, TraverseOptions
from scorefold_verbs.inputs import Inputs, codes_arrays, codes_of, drawn_pairs, named_points, pair_rows, points_of
from scorefold_verbs.latents.codes import (
    CodeDistributions,
    Probe,
    beside,
    code_distributions,
    decoded_rows,
    encoder_of,
    first_training_points,
    fit_probe,
    held_noise,
    lerp,
    own_noise,
    slerp,
)
from scorefold_verbs.verdicts import of_path

_LIMIT = 10_000
_LONG = 32


@dataclass(frozen=True)
class EventRows:
    """Events in rows (R, T, *E) for a figure, with the names of ``rows`` and ``columns``.

    ``before`` and ``after`` (R, *E) are the data points that a row starts from and ends at; ``bounds`` are the least
    and greatest value of events, None where there is none.
    """

    x: Tensor
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    title: str
    bounds: tuple[float | None, float | None] = (None, None)
    before: Tensor | None = None
    after: Tensor | None = None


def _bounds(source: DataSource) -> tuple[float | None, float | None]:
    return source.event_scale.low, source.event_scale.high


@torch.no_grad()
def encode(component: Any, inputs: Inputs, options: EncodeOptions, context: StageContext) -> Outcome:
    """The latent codes of data points, (N, *latent_shape).

    Raises ``ConfigError`` for a component without a latent space, ``DataError`` for an empty split.
    """
    encoder = encoder_of(component, "encode")
    dataset = points_of(inputs["data"], options.limit, context)
    codes = torch.cat([encoder.encode(batch.x).cpu() for batch in dataset.batches(options.batch_size)])
    metrics = {"points": len(codes), "latent dimension": codes[0].numel()}
    return Outcome(
        codes_of(codes, dataset, inputs["data"]), {"metrics": metrics}, codes_arrays(codes, dataset), shown=codes
    )


@torch.no_grad()
def interpolate(component: Any, inputs: Inputs, options: InterpolateCodesOptions, context: StageContext) -> Outcome:
    """Events along paths between the codes of pairs of data points, handed on as (pairs x times), pair by pair.

    Codes go along the great circle, as noises of the points' own do, or along the straight line; the ends are
    reconstructions. The middles are held to the training points: see ``nearness``. Raises ``ConfigError`` for a
    component without a latent space and for noise of a point's own where none is encoded, ``DataError`` for fewer
    points than the pairs need and for events that are not finite.
    """
    encoder = encoder_of(component, "interpolate")
    held = held_noise(encoder, options.noise)
    source: DataSource = inputs["data"]
    points = points_of(source, _LIMIT, context)
    pairs = points.take(drawn_pairs(len(points), options.pairs, context))
    ends = pairs.x
    codes = torch.cat([encoder.encode(part) for part in ends.split(options.batch_size)])
    times = torch.linspace(0, 1, options.times, dtype=torch.float64)
    between = slerp if options.path == "spherical" else lerp
    first, last = codes.chunk(2)
    path = between(first, last, times.to(codes.device))
    noise = None
    if held == "own":
        starts, stops = own_noise(encoder, ends, codes, options).chunk(2)
        noise = slerp(starts, stops, times.to(starts.device))
    x = decoded_rows(encoder, path, held, noise, options, context)
    start, end = ends.cpu().chunk(2)
    apart = (first - last).flatten(1).norm(dim=1)
    outer = torch.cat([x[:, 0] - start, x[:, -1] - end]).double().flatten(1).norm(dim=1)
    metrics = {
        "pairs": options.pairs,
        "mean distance of codes": float(apart.mean()),
        "L2 of the ends from their points": float(outer.mean()),
    }
    result: dict[str, Any] = {"metrics": metrics}
    found, answer, lost = of_path(x[:, options.times // 2], start, end, source, what="decoded")
    metrics |= found
    result |= answer
    if lost:
        result["warnings"] = lost
    columns = tuple(f"{time:.3g}" for time in times.tolist())
    shown = EventRows(x, ("",) * len(x), columns, "Each row: between two points", _bounds(source), start, end)
    arrays = {"interpolations": x, "codes": path.cpu(), **pair_rows(pairs)}
    flat = TensorSource(x.flatten(0, 1), source.event_scale)
    return Outcome(flat, result, arrays, shown={} if lost else shown)


@torch.no_grad()
def traverse(component: Any, inputs: Inputs, options: TraverseOptions, context: StageContext) -> Outcome:
    """Events whose codes are moved along an axis at a time, handed on as (rows x times), row by row.

    A row sets one coordinate of a point's code to values from -width to width deviations of the codes of data around
    their mean, and leaves the rest of the code, and the noise, as they are. Axes are ranked by what they hold: units by
    their KL divergence from N(0, 1), of deterministic codes by their variance, principal directions by theirs; all are
    measured on the training split, or where there is none on the stage's own.

    Points come in the order of the rows of the data, which stand beside as ``rows``. Raises ``ConfigError`` for a
    component without a latent space, for noise of a point's own where none is encoded and an axis beyond the code;
    ``DataError`` for a row that is not there and for events that are not finite.
    """
    encoder = encoder_of(component, "traverse")
    held = held_noise(encoder, options.noise)
    source: DataSource = inputs["data"]
    try:
        known = first_training_points(source, options.limit, context)
    except SplitError:
        known = points_of(source, options.limit, context)
    distributions = code_distributions(encoder, known, options.batch_size, context)
    points, ranks = _moved_points(source, distributions, options, context)
    x = points.x
    axes, names, worth = _axes(distributions, options.axes, max(ranks) + 1)
    distribution = distributions.aggregate()
    axes, worth, named = axes[ranks], worth[ranks], tuple(names[rank] for rank in ranks)
    codes = torch.cat([encoder.encode(part) for part in x.split(options.batch_size)])
    flat = codes.flatten(1).double().cpu()
    deviations = torch.linspace(-options.width, options.width, options.times, dtype=torch.float64)
    steps = deviations * distribution.deviations(axes)[:, None] - ((flat - distribution.mean) * axes).sum(
        1, keepdim=True
    )
    moved = beside(codes, flat[:, None] + steps[..., None] * axes[:, None])
    noise = None
    if held == "own":
        own = own_noise(encoder, x, codes, options)
        noise = own[:, None].expand(-1, options.times, *own.shape[1:])
    events = decoded_rows(encoder, moved, held, noise, options, context)
    change = (events[:, -1] - events[:, 0]).double().flatten(1).norm(dim=1)
    metrics = {"rows": len(events), "events in each": options.times, "mean L2 from end to end": float(change.mean())}
    columns = tuple(f"{deviation:+.3g}" if deviation else "0" for deviation in deviations.tolist())
    title = "Each row: one axis of the code, in deviations of the codes of data"
    if options.rows == "points":
        title = f"Each row: one point along {named[0]}, in deviations of the codes of data"
        named = _named(points, source) or ("",) * len(events)
    shown = EventRows(events, named, columns, title, _bounds(source), before=x.cpu())
    arrays = {"traversals": events, "axes": axes, "worth": worth, "change": change}
    if points.index is not None:
        arrays["rows"] = points.index.cpu()
    return Outcome(TensorSource(events.flatten(0, 1), source.event_scale), {"metrics": metrics}, arrays, shown=shown)


def _named(points: Dataset, source: DataSource) -> tuple[str, ...]:
    """The user's names of the points' rows, shortened from the left; empty where the source does not count them."""
    names = [] if points.index is None else [row_text(source.rows, row) for row in points.index.tolist()]
    return tuple(name if len(name) <= _LONG else f"…{name[-_LONG:]}" for name in names)


def _in_order(points: Dataset, places: Tensor) -> Tensor:
    """Places of points in the order of their rows in the data, where these are counted."""
    return places if points.index is None else places[points.index.cpu()[places].argsort()]


def _moved_points(
    source: DataSource, distributions: CodeDistributions, options: TraverseOptions, context: StageContext
) -> tuple[Dataset, list[int]]:
    """The point of each row, (R, *E), and the rank of the axis that it is moved along."""
    points = points_of(source, None, context)
    units = distributions.mean.shape[1]
    if options.rows == "points":
        if options.axis >= units:
            raise ConfigError(f"axis is {options.axis}; the code has {units}, counted from 0")
        few = points.take(_in_order(points, torch.arange(min(options.count, len(points)))))
        return few, [options.axis] * len(few)
    ranks = torch.arange(min(options.count, units))
    one = points if options.point is None else named_points(points, source, [options.point], "point", context)
    return one.take(torch.zeros_like(ranks)), ranks.tolist()


def _axes(distributions: CodeDistributions, kind: str, count: int) -> tuple[Tensor, list[str], Tensor]:
    """The most informative axes as unit vectors (count, k), their names with what they hold, and that as (count,)."""
    if kind == "principal":
        centred = distributions.mean.double() - distributions.mean.double().mean(0)
        values, vectors = torch.linalg.eigh(centred.T @ centred / max(1, len(centred) - 1))
        values, axes = values.flip(0)[:count].clamp_min(0), vectors.T.flip(0)[:count]
        share = values / centred.square().sum().div(max(1, len(centred) - 1)).clamp_min(1e-300)
        names = [f"direction {rank + 1}, {100 * float(part):.3g}%" for rank, part in enumerate(share)]
        return axes, names, values
    worth = distributions.spread() if distributions.deterministic else distributions.kl().mean(0)
    order = worth.argsort(descending=True)[:count]
    what = "variance {:.2g}" if distributions.deterministic else "{:.2g} nats"
    names = [f"unit {unit}, {what.format(float(worth[unit]))}" for unit in order.tolist()]
    axes = torch.zeros(len(order), distributions.mean.shape[1], dtype=torch.float64)
    axes[torch.arange(len(order)), order] = 1
    return axes, names, worth[order]


@torch.no_grad()
def edit(component: Any, inputs: Inputs, options: EditOptions, context: StageContext) -> Outcome:
    """Held-out points with an attribute put on and taken off, handed on as (points x strengths), point by point.

    A linear probe learns from the codes of the training split to say whether a point is of class ``label``, and codes
    are moved across its boundary: see ``Probe.moved``. The noise is the image's own where it is encoded. Decisions
    changed are the share of points for which the probe decides otherwise than for their own code: of all held-out
    points by the moved codes themselves, of the edited ones also by the codes of the events that these decode to.

    Raises ``ConfigError`` for a component without a latent space, for noise of a point's own where none is encoded and
    for data without classes; ``DataError`` where all points or none are of the class, and for events that are not
    finite.
    """
    encoder = encoder_of(component, "edit")
    held = held_noise(encoder, options.noise)
    source: DataSource = inputs["data"]
    training = first_training_points(source, options.limit, context)
    known = code_distributions(encoder, training, options.batch_size, context).mean
    taught = _has(training, options)
    probe = fit_probe(known, taught, options.penalty)
    points = points_of(source, options.limit, context)
    flat, has = code_distributions(encoder, points, options.batch_size, context).mean, _has(points, options)
    right, share = _accuracy(probe, flat, has), float(has.double().mean())
    metrics: dict[str, Any] = {
        "held-out points": len(points),
        "points of the class": int(has.sum()),
        "probe accuracy": right,
        "probe accuracy on the training split": _accuracy(probe, known, taught),
        "accuracy of always naming the larger side": max(share, 1 - share),
    }
    result: dict[str, Any] = {"metrics": metrics}
    if right <= max(share, 1 - share):
        result["warnings"] = [
            f"the probe is right for {100 * right:.3g}% of held-out points, no more than always naming the "
            f"larger side: no plane of the code separates class {options.label}, and edits mean nothing"
        ]
    edited = _in_order(points, _of_both(has, options.points))
    of = points.take(edited)
    x = of.x
    codes = torch.cat([encoder.encode(part) for part in x.split(options.batch_size)])
    own = codes.flatten(1).double().cpu()
    moved = beside(codes, torch.stack([probe.moved(own, strength) for strength in options.strengths], 1))
    noise = None
    if held == "own":
        kept = own_noise(encoder, x, codes, options)
        noise = kept[:, None].expand(-1, len(options.strengths), *kept.shape[1:])
    events = decoded_rows(encoder, moved, held, noise, options, context)
    again = _logits_of(encoder, probe, events, x, options.batch_size)
    before = probe.logits(flat) > 0
    for number, strength in enumerate(options.strengths):
        if strength != 0:
            changed = (probe.logits(probe.moved(flat, strength)) > 0) != before
            metrics[f"decisions changed at {strength:+g}"] = float(changed.double().mean())
            decided = (again[:, number] > 0) != before[edited]
            metrics[f"decisions changed at {strength:+g}, decoded and encoded"] = float(decided.double().mean())
    columns = tuple(f"{strength:+g}" if strength else "0" for strength in options.strengths)
    names = tuple(f"{'' if one else 'not '}{options.label}" for one in has[edited].tolist())
    if of.index is not None:
        names = tuple(f"{row}: {name}" for row, name in zip(_named(of, source), names, strict=True))
    title = f"Each row: one point, moved towards class {options.label} (right) or away from it"
    shown = EventRows(events, names, columns, title, _bounds(source), before=x.cpu())
    arrays = {"edits": events, "logits": again, "direction": probe.weight / probe.weight.norm()}
    if of.index is not None:
        arrays["rows"] = of.index.cpu()
    return Outcome(TensorSource(events.flatten(0, 1), source.event_scale), result, arrays, shown=shown)


def _of_both(has: Tensor, count: int) -> Tensor:
    """The positions of the first points, half of them of the class as far as there are as many, in order."""
    (inside,), (outside,) = torch.where(has), torch.where(~has)
    half = max(min(len(inside), count // 2), min(count, len(has)) - len(outside))
    return torch.cat([inside[:half], outside[: count - half]]).sort().values


def _accuracy(probe: Probe, codes: Tensor, has: Tensor) -> float:
    return float(((probe.logits(codes) > 0) == has).double().mean())


def _logits_of(encoder: Encodes, probe: Probe, events: Tensor, like: Tensor, batch_size: int) -> Tensor:
    """The probe's log-odds of events in rows (R, T, *E), encoded where ``like`` is: (R, T)."""
    parts = events.flatten(0, 1).split(batch_size)
    codes = torch.cat([encoder.encode(part.to(like)).flatten(1).cpu() for part in parts])
    return probe.logits(codes).reshape(events.shape[:2])


def _has(points: Dataset, options: EditOptions) -> Tensor:
    """The mask of the points of the class, (N,) on the CPU."""
    return torch.cat([_classes(batch).cpu() == options.label for batch in points.batches(options.batch_size)])


def _classes(points: Dataset) -> Tensor:
    """The classes of points (B,): their labels, or the one condition that is a class."""
    if points.label is not None:
        return points.label
    parts: list[Tensor] = []
    if points.condition is not None:
        parts = [points.condition] if isinstance(points.condition, Tensor) else list(points.condition.values())
    classes = [part for part in parts if part.dim() == 1 and not part.is_floating_point()]
    if len(classes) != 1:
        raise ConfigError(
            "an edit needs the classes of points, and the data have neither labels nor one class as their condition",
            hint="take data with labels, such as data:digits",
        )
    return classes[0]
