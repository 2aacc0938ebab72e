"""What a stage does: one plain function a verb, called as ``verb(component, inputs, options, context) -> Outcome``.

The verbs of latent codes are in ``latent_verbs``, ``latent_quality`` and ``latent_diagnosis``, ``assess`` in
``assessment``, ``evaluate`` in ``likelihood`` and ``outliers`` in ``outliers``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from scorefold.by_label import groups_of, labels_of, left_out_for, row_of, with_labels
from scorefold.data import Dataset, map_condition
from scorefold.errors import DataError, SplitError
from scorefold.interfaces import (
    Allocator,
    DataSource,
    Encodes,
    Estimator,
    Flow,
    Geometry,
    ScoreModel,
    TensorSource,
    Trainable,
    check_trained,
)
from scorefold.interfaces.data import SPLITS
from scorefold.latent_measures import RELATIVE_ERROR
from scorefold.latent_quality import quick_error
from scorefold.rounding import rounding_warning
from scorefold.scale_checks import noise_warnings
from scorefold.stage import EventGroups, Fitted, Outcome, StageContext
from scorefold.trainings import over_trainings
from scorefold.verb_inputs import (
    Inputs,
    conditions_of,
    device_of,
    draw_events,
    nearness,
    on_device,
    points_of,
)
from scorefold.verb_options import (
    AllocateOptions,
    EstimateOptions,
    InterpolateOptions,
    SampleOptions,
)

_SHOWN = 64
"""How many training events figures get."""

_DIAGNOSED = 512
"""How many points a geometry, or what was trained, is diagnosed on."""

_DECODED = 32
"""How many points are encoded and decoded after a training: of some models that takes many calls."""

_ROUNDED = 20_000
"""How many points of an estimate are checked for rounding."""


def load(component: DataSource, inputs: Inputs, options: None, context: StageContext) -> Outcome:
    """Load every split once, so that bad data ends the run here; report sizes, shape, scale, known truths, and what
    the data hold (``DataSource.summary``).

    A source may lack some of the splits, but not all (``SplitError``); any other ``DataError`` passes through.
    """
    sizes: dict[str, int] = {}
    truth: dict[str, Any] = {}
    for split in SPLITS:
        try:
            dataset = component.load(split)
        except SplitError:
            if split == SPLITS[-1] and not sizes:
                raise
            continue  # a verb that needs the split says so
        sizes[split] = len(dataset)
        truth |= {name: value for name, value in dataset.truth.items() if isinstance(value, int | float | str)}
    scale = component.event_scale
    result = {
        "metrics": {f"{split} points": size for split, size in sizes.items()},
        "event_shape": list(component.event_shape),
        "event_scale": {
            "low": scale.low,
            "high": scale.high,
            "levels": scale.levels,
            "mean": scale.mean,
            "std": scale.std,
        },
        "truth": truth,
        "data": component.summary().as_json(),
    }
    if warnings := component.data_warnings():
        result["warnings"] = list(warnings)
    return Outcome(component, result)


def fit(component: nn.Module, inputs: Inputs, options: None, context: StageContext) -> Outcome:
    """Train a ``Trainable`` on the training split, checked on the validation split; pass over anything else.

    Warns before the training where the noise of a score's process does not fit the data. Raises as
    ``scorefold.training.fit``, ``DataError`` for data that can't be read or an empty training split, and
    ``ConfigError`` for noise above all of the data.
    """
    if not isinstance(component, Trainable):
        return Outcome(component, {"trained": False}, shown={})
    from scorefold.training import can_train_apart, fit_apart
    from scorefold.training import fit as train

    source: DataSource = inputs["data"]
    training = on_device(context, source.load("train"))
    if len(training) == 0:
        raise DataError("the training split is empty", hint="give the source more points or a larger train fraction")
    before = _noise_warnings(component, source)
    for text in before:
        context.warn(text)
    try:
        validation = on_device(context, source.load("validation"))
    except SplitError:
        validation = None
    settings: dict[str, Any] = {
        "validation": validation if validation is not None and len(validation) else None,
        "seed": context.seed("fit"),
        "checkpoint_dir": context.checkpoint_dir,
        "precision": context.precision,
        "progress": context.progress,
    }
    config, executor = component.training_config, context.executor
    apart = executor is not None and executor.parallel and config.minutes is None
    if executor is not None and apart and can_train_apart(component, training, validation):
        report = fit_apart(component, training, config, executor, **settings)
    else:
        report = train(component, training, config, metrics=context.metrics, **settings)
    result: dict[str, Any] = {"trained": True, **report.summary()}
    seen = training if validation is None or not len(validation) else validation
    after = [*component.doubts(seen.take(torch.arange(min(_DIAGNOSED, len(seen)))))]
    if isinstance(component, Encodes):
        x = seen.take(torch.arange(min(_DECODED, len(seen)))).x
        error, poor = quick_error(component, x, context.generator("reconstruct", device=device_of(component)))
        after += poor
        if error is not None:
            result["metrics"][RELATIVE_ERROR] = error
    if warnings := [*before, *report.warnings, *after]:
        result["warnings"] = warnings
    few = training.take(torch.arange(min(_SHOWN, len(training))))
    return Outcome(component, result, shown=Fitted(report, component, few.x, few.condition))


def _noise_warnings(component: nn.Module, source: DataSource) -> list[str]:
    if not isinstance(component, ScoreModel):
        return []
    return noise_warnings(component.process, source.event_scale, source.event_shape)


@torch.no_grad()
def sample(component: ScoreModel | Flow, inputs: Inputs, options: SampleOptions, context: StageContext) -> Outcome:
    """Draw samples, n for each of some conditions taken from the data where the model has any.

    They are handed on as (N, *E), all draws for one condition after those for another, each with its condition.
    Raises ``ConfigError`` where a condition is needed and there is none, ``DataError`` for samples that are not finite.
    """
    generator = context.generator("sample", device=device_of(component))
    condition = conditions_of(component, inputs.get("data"), options.conditions, context)
    x = draw_events(component, options.n, condition, options, generator)
    draws = x if condition is None else x.transpose(0, 1)
    flat = draws.reshape(-1, *component.event_shape).cpu()
    metrics = {"samples": len(flat), "mean": float(flat.mean()), "std": float(flat.std(correction=0))}
    scale = component.event_scale
    bounded = scale.low is not None or scale.high is not None
    seen = draws.cpu().clamp(scale.low, scale.high) if bounded else draws.cpu()
    shown = seen if condition is None else EventGroups(seen, "one condition")
    given = map_condition(condition, lambda value: value.repeat_interleave(options.n, dim=0).cpu())
    handed = Dataset(flat, given, index=torch.arange(len(flat)))
    source = TensorSource({"test": handed}, scale, component.condition_spec)
    return Outcome(source, {"metrics": metrics}, {"samples": flat}, shown=shown)


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
        distances = component.distance_matrix(points).cpu()
    pairs = distances[~torch.eye(len(points), dtype=torch.bool)]
    metrics: dict[str, Any] = {"points": len(points)}
    if len(pairs):
        metrics["mean distance"] = float(pairs.mean())
    trust = _trust(component, points_of(source, _DIAGNOSED, context).tensor())
    return Outcome(component, {"metrics": metrics, **trust}, {"distances": distances}, shown=distances)


def _check_trained(component: Geometry) -> None:
    """Raises ``ConfigError`` for a part of a geometry that is as it was built, where training would have changed it."""
    parts = component.named_modules() if isinstance(component, nn.Module) else ()
    for name, part in parts:
        if part is not component:
            check_trained(part, name, "this geometry")


def _trust(component: Geometry, points: Tensor) -> dict[str, Any]:
    """What a geometry says of itself by held-out points, as entries of a result; none where it says nothing."""
    numbers, doubts = component.diagnose(points)
    entries = {"diagnostics": dict(numbers), "warnings": list(doubts)}
    return {name: entry for name, entry in entries.items() if entry}


@torch.no_grad()
def interpolate(component: Geometry, inputs: Inputs, options: InterpolateOptions, context: StageContext) -> Outcome:
    """Geodesics between pairs of data points, handed on as (pairs x times) events, pair by pair.

    Their middles are held to the training points: see ``nearness``. Raises ``DataError`` for fewer points than the
    pairs need, and ``ConfigError`` for a part that should have been trained.
    """
    _check_trained(component)
    source: DataSource = inputs["data"]
    points = on_device(context, source.load(context.split or "test")).tensor(limit=10_000)
    if len(points) < 2 * options.pairs:
        raise DataError(
            f"{options.pairs} pairs need {2 * options.pairs} points; the split has {len(points)}",
            hint=f"set options.pairs to at most {len(points) // 2}",
        )
    order = torch.randperm(len(points), generator=context.generator("interpolate"))[: 2 * options.pairs]
    start, end = points[order[: options.pairs]], points[order[options.pairs :]]
    times = torch.linspace(0, 1, options.times, dtype=points.dtype, device=points.device)
    paths = component.geodesic(start, end, times).cpu()
    lengths = component.distance(start, end).cpu()
    metrics = {"pairs": options.pairs, "mean length": float(lengths.mean())}
    result: dict[str, Any] = {"metrics": metrics, **_trust(component, points[:_DIAGNOSED])}
    near = nearness(paths[:, options.times // 2], torch.cat([start, end]).cpu(), source)
    if near is not None:
        metrics["middles from the data"] = float(near.mean())
        error = 1.96 * float(near.std(correction=0)) / math.sqrt(len(near))
        result["answer"] = {
            "quantity": "distance of geodesic middles from the data, over that of held-out points",
            "value": float(near.mean()),
            "interval": [float(near.mean()) - error, float(near.mean()) + error],
        }
    flat = paths.reshape(-1, *paths.shape[2:])
    arrays = {"geodesics": paths, "lengths": lengths}
    shown = EventGroups(paths, "one geodesic", path=True)
    return Outcome(TensorSource(flat, source.event_scale), result, arrays, shown=shown)


def estimate(component: Estimator, inputs: Inputs, options: EstimateOptions, context: StageContext) -> Outcome:
    """Estimate from the test split, and compare the answer with the truth where the data know it; with ``by: label``,
    from the points of each label too. ``repeats`` are the estimates of other trainings, which the answer covers as
    ``scorefold.trainings.over_trainings`` says.

    The answer begins with the warnings of the data, among them that the points' distances are lost in rounding. An
    estimate without a value gives no metrics. Raises as the estimator does, and ``DataError`` for an empty split and
    for data without the labels that are needed.
    """
    source: DataSource = inputs["data"]
    dataset = points_of(source, options.limit, context)
    label = None if options.by is None else labels_of(dataset)
    component.show_progress(context.progress)
    answer = component.estimate(dataset, generator=context.generator("estimate"))
    if "repeats" in inputs:
        answer = over_trainings([answer, *inputs["repeats"]])
    rounded = rounding_warning(dataset.tensor(limit=_ROUNDED))
    answer = answer.with_warnings([*source.data_warnings(), *([rounded] if rounded else [])])
    metrics: dict[str, Any] = {} if answer.value is None else {answer.quantity: answer.value}
    if answer.interval is not None:
        metrics[f"{answer.quantity}, lower"], metrics[f"{answer.quantity}, upper"] = answer.interval
    truth = dataset.truth.get("dimension") if answer.quantity == "intrinsic dimension" else None
    known = truth if isinstance(truth, int | float) else None
    if known is not None and answer.value is not None:
        metrics |= {"truth": known, "error": answer.value - known}
    summary = answer.summary()
    said = {name: summary[name] for name in ("quantity", "value", "interval", "headline")}
    result = {"metrics": metrics, "estimate": summary, "answer": {**said, "truth": known}}
    if label is not None:
        result = with_labels(result, *_estimates_by_label(component, dataset, label, source.label_names, context))
    return Outcome(answer, result, answer.tensors())


def _estimates_by_label(
    component: Estimator, dataset: Dataset, label: Tensor, names: Sequence[str] | None, context: StageContext
) -> tuple[list[dict[str, Any]], list[str]]:
    """What the points of each label give, and the labels that are left out."""
    groups, left_out = groups_of(label, names)
    rows = []
    for done, (number, positions) in enumerate(groups.items()):
        context.progress(done, len(groups), "labels")
        try:
            found = component.estimate(dataset.take(positions), generator=context.generator(f"estimate label {number}"))
        except DataError as error:
            left_out.append(left_out_for(number, names, error.message))
            continue
        rows.append(row_of(number, names, len(positions), found.quantity, found.value, found.interval))
    return rows, left_out


def allocate(component: Allocator, inputs: Inputs, options: AllocateOptions, context: StageContext) -> Outcome:
    """Plan the spending of a budget. Raises as the allocator does."""
    if context.checkpoint_dir is not None:
        component.keep_in(context.checkpoint_dir)
    component.report_to(context.progress)
    plan = component.allocate(
        options.budget,
        constraints=options.constraints,
        generator=context.generator("allocate"),
    )
    metrics: dict[str, Any] = {"tasks": sum(row.tasks for row in plan.plan), "leftover": plan.leftover}
    if plan.predicted_loss is not None:
        metrics["predicted loss"] = plan.predicted_loss
    answer = {"quantity": "predicted loss", "value": plan.predicted_loss, "interval": plan.interval}
    result = {"metrics": metrics, "allocation": plan.summary(), "text": plan.text(), "answer": answer}
    if plan.warnings:
        result["warnings"] = list(plan.warnings)
    return Outcome(plan, result, texts={"curve.csv": plan.csv()} if plan.curve else {})
