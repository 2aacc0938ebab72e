"""The verbs ``encode`` and ``interpolate`` of scores and flows: the noise of events, and paths through it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from scorefold.data import Condition, Dataset, TensorSpec
from scorefold.errors import ConfigError, DataError
from scorefold.interfaces import DataSource, Encodes, Flow, ScoreModel, TensorSource
from scorefold.stage import Outcome, StageContext, reported
from scorefold_toolkit.drawing import condition_of, device_of
from scorefold_toolkit.nn import named_parts, named_specs
from scorefold_toolkit.probability_flow import decode_noise, encode_noise, standardised_noise, unstandardised_noise
from scorefold_verbs.config import DecodingOptions, EncodeNoiseOptions, InterpolateCodesOptions
from scorefold_verbs.inputs import Inputs, choice, codes_arrays, codes_of, drawn_pairs, on_device, points_of
from scorefold_verbs.latents import traverse
from scorefold_verbs.latents.codes import lerp, slerp
from scorefold_verbs.verdicts import of_path, withheld

CLOSE = 0.05
"""The largest round-trip error, over the spread of the points, of a path whose ends count as the points."""

LENGTH = "length of the noise over the prior's"

_LIMIT = 10_000


@torch.no_grad()
def encode(component: Any, inputs: Inputs, options: EncodeNoiseOptions, context: StageContext) -> Outcome:
    """The noise (N, *E) of data points, each given its own condition; the codes of a component that has its own.

    See ``scorefold_toolkit.probability_flow.encode_noise``. The length of the noise is reported divided by
    the length of noise from the prior. Raises ``ConfigError`` for options that the model does not know and a condition
    that is missing, ``DataError`` for an empty split and for noise that is not finite.
    """
    if isinstance(component, Encodes):
        if options.decoding:
            raise ConfigError(
                f"{type(component).__name__} encodes by its encoder, which takes no options",
                hint="leave decoding out",
            )
        return traverse.encode(component, inputs, options, context)
    dataset = points_of(inputs["data"], options.limit, context)
    noise = _encoded(component, dataset, options, context)
    metrics = {"points": len(noise), LENGTH: _length(component, standardised_noise(component, noise), context)}
    codes = noise.cpu()
    return Outcome(
        codes_of(codes, dataset, inputs["data"]), {"metrics": metrics}, codes_arrays(codes, dataset), shown=codes
    )


@torch.no_grad()
def interpolate(component: Any, inputs: Inputs, options: InterpolateCodesOptions, context: StageContext) -> Outcome:
    """Events along paths between pairs of data points, through their noise, handed on as (pairs x times), pair by pair.

    The noise of both ends goes along the great circle about its centre, or along the straight line, and is decoded at
    each time. Conditions go along the straight line; pairs are of one class where the condition has classes. What the
    ends come back as stands in the figure, and their error over the spread of the points in the metrics: above 5 % the
    path is not between these points, and the answer is withheld. For a component with codes of its own see
    ``scorefold_verbs.latents.traverse.interpolate``.

    Raises ``ConfigError`` for options that the model does not know, ``DataError`` for fewer points than the pairs need
    and for events that are not finite.
    """
    if isinstance(component, Encodes):
        return traverse.interpolate(component, inputs, options, context)
    if options.noise is not None:
        raise ConfigError(
            f"{type(component).__name__} has no code in addition to its noise, so noise: {options.noise} says nothing",
            hint="leave noise out: the path goes through the noise itself",
        )
    source: DataSource = inputs["data"]
    points = on_device(context, source.load(context.split or "test"))
    first, last = _pairs(component, points, options.pairs, context)
    times = torch.linspace(0, 1, options.times, dtype=torch.float64)
    ends = [standardised_noise(component, _encoded(component, part, options, context)) for part in (first, last)]
    between = slerp if options.path == "spherical" else lerp
    noises = between(ends[0], ends[1], times.to(first.x.device))
    x = _decoded(component, noises, _conditions(component, first, last, times), options, context)
    start, end = first.x.cpu(), last.x.cpu()
    errors = _round_trip(x, start, end, points.tensor(limit=_LIMIT).cpu())
    off = float(errors.square().mean().sqrt())
    found, answer, lost = of_path(x[:, options.times // 2], start, end, source, what="decoded")
    length = _length(component, torch.cat(ends), context)
    metrics = {"pairs": options.pairs, "round-trip error of the ends": off, LENGTH: length, **found}
    result: dict[str, Any] = {"metrics": metrics, **answer, **({"warnings": lost} if lost else {})}
    if off > CLOSE:
        _withhold(result, component, off)
    columns, names = tuple(f"{time:.3g}" for time in times.tolist()), tuple(f"off by {error:.2%}" for error in errors)
    title = "Paths between two points; left: round-trip error of the ends, % of the data's spread"
    scale = source.event_scale
    shown = traverse.EventRows(x, names, columns, title, (scale.low, scale.high), start, end)
    arrays = {"interpolations": x, "noises": noises.cpu(), "round-trip errors": errors}
    if first.index is not None and last.index is not None:
        arrays["rows"] = torch.stack([first.index, last.index], 1).cpu()
    return Outcome(TensorSource(x.flatten(0, 1), scale), result, arrays, shown={} if lost else shown)


def _pairs(component: ScoreModel | Flow, points: Dataset, pairs: int, context: StageContext) -> tuple[Dataset, Dataset]:
    """The first and the last points of pairs, each pair of one class where the model's condition has classes."""
    if not any(spec.classes is not None for spec in named_specs(component.condition_spec).values()):
        order = drawn_pairs(len(points), pairs, context)
        return points.take(order[:pairs]), points.take(order[pairs:])
    drawn = points.take(torch.randperm(len(points), generator=choice(context, "pairs"))[:_LIMIT])
    parts = named_parts(component.condition_spec, condition_of(component, drawn)).values()
    classes = torch.stack([part for part in parts if not part.is_floating_point()], 1)
    waiting: dict[tuple[int, ...], int] = {}
    found: list[tuple[int, int]] = []
    for place, own in enumerate(map(tuple, classes.tolist())):
        if own in waiting:
            found.append((waiting.pop(own), place))
        else:
            waiting[own] = place
    if len(found) < pairs:
        raise DataError(
            f"{pairs} pairs of one class each were asked for; {len(drawn)} points have {len(found)}",
            hint=f"set options.pairs to at most {len(found)}" if found else "give more points of each class",
        )
    first, last = torch.tensor(found[:pairs]).T
    return drawn.take(first), drawn.take(last)


def _conditions(component: ScoreModel | Flow, first: Dataset, last: Dataset, times: Tensor) -> list[Condition | None]:
    """The condition of each pair at each time: numbers on the straight line between its ends', classes as they are."""
    spec = component.condition_spec
    if spec is None:
        return [None] * len(times)
    start, end = (named_parts(spec, condition_of(component, part)) for part in (first, last))

    def at(time: float) -> Condition:
        parts = {
            name: torch.lerp(value, end[name], time) if value.is_floating_point() else value
            for name, value in start.items()
        }
        return parts[""] if isinstance(spec, TensorSpec) else parts

    return [at(time) for time in times.tolist()]


def _encoded(component: ScoreModel | Flow, points: Dataset, options: DecodingOptions, context: StageContext) -> Tensor:
    """The noise of points, (N, *E)."""
    batches = reported(points.batches(options.batch_size), len(points), "encoded", min(options.batch_size, len(points)))
    found = []
    for number, batch in enumerate(batches):
        condition, generator = condition_of(component, batch), _seeded(component, context, number)
        found.append(encode_noise(component, batch.x, condition, generator=generator, **options.decoding))
        _check_finite(found[-1], "noise of the points")
    return torch.cat(found)


def _decoded(
    component: ScoreModel | Flow,
    noises: Tensor,
    conditions: list[Condition | None],
    options: DecodingOptions,
    context: StageContext,
) -> Tensor:
    """Standardised noises (R, T, *E) as events on the CPU, a column with its condition at a time."""
    columns = []
    for column in reported(range(noises.shape[1]), noises.shape[1], "columns of events"):
        events = Dataset(unstandardised_noise(component, noises[:, column]), conditions[column])
        parts = []
        for number, batch in enumerate(events.batches(options.batch_size)):
            generator = _seeded(component, context, number)
            z = decode_noise(component, batch.x, batch.condition, generator=generator, **options.decoding)
            parts.append(z.cpu())
        columns.append(torch.cat(parts))
        _check_finite(columns[-1], "decoded events")
    return torch.stack(columns, 1)


def _seeded(component: ScoreModel | Flow, context: StageContext, number: int) -> torch.Generator:
    """One seed for each batch of pairs, so that what a model draws is the same on the way there and back."""
    return context.generator(f"path {number}", device=device_of(component))


def _check_finite(x: Tensor, what: str) -> None:
    if not bool(torch.isfinite(x).all()):
        raise DataError(
            f"the {what} are not finite",
            hint="check that the data are those the model was trained for, in its units; take more steps",
        )


def _round_trip(x: Tensor, start: Tensor, end: Tensor, points: Tensor) -> Tensor:
    """The errors of both ends of each path after the way there and back, (R,) in float64: the root mean square over the
    points' distance from their mean. Raises ``DataError`` for points that are all equal."""
    spread = (points - points.double().mean(0)).flatten(1).norm(dim=1).square().mean().sqrt()
    if not float(spread) > 0:
        raise DataError("all points are equal, so there is no path between them", hint="give other points")
    apart = torch.stack([x[:, 0] - start, x[:, -1] - end]).double().flatten(2).norm(dim=2)
    relative: Tensor = apart.square().mean(0).sqrt() / spread
    return relative


def _length(component: ScoreModel | Flow, noise: Tensor, context: StageContext) -> float:
    """The mean length of standardised noise divided by the length of as many draws from the prior."""
    generator, shape = context.generator("prior", device=device_of(component)), tuple(noise.shape)
    if isinstance(component, Flow):
        prior = component.base.sample(shape, generator=generator, like=noise)
    else:
        prior = component.process.sample_prior(shape, generator=generator, like=noise)
    usual = standardised_noise(component, prior).double().flatten(1).norm(dim=1).mean()
    return float(noise.double().flatten(1).norm(dim=1).mean() / usual)


def _withhold(result: dict[str, Any], component: ScoreModel | Flow, off: float) -> None:
    """Takes the answer and the metric of a path back whose ends are not the points, and warns first of that."""
    result["metrics"].pop("middles from the data", None)
    remedy = "decoding: {steps: 256}" if isinstance(component, ScoreModel) else "float64, or a flow that bends less"
    if "answer" in result:
        reason = f"the ends of the paths come back off by {off:.2g} of the data's spread"
        result["answer"] = withheld(result["answer"], reason, f"try {remedy}")
    result["warnings"] = [
        f"the ends of the paths come back off by {off:.2g} of the data's spread, above {CLOSE:g}, so the paths are not "
        f"between these points; try {remedy}. A score that draws at random has no way back",
        *result.get("warnings", []),
    ]
