"""The verb ``assess``: draws of a score model or a flow, held to held-out points."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from scorefold.data import Dataset
from scorefold.errors import ConfigError, DataError, ShapeError
from scorefold.interfaces import DataSource, Flow, ScoreModel
from scorefold.seeds import derive_seed
from scorefold.stage import Outcome, StageContext, reported
from scorefold_toolkit.data.splits import in_order, labels_of
from scorefold_toolkit.drawing import EventCounts, condition_of, device_of, draw_within
from scorefold_toolkit.figures import picture_of
from scorefold_toolkit.metrics.features import LARGEST
from scorefold_toolkit.metrics.measure import EvaluationBatch, Measure, Metric, Units
from scorefold_toolkit.operators import HasOperator, Operator
from scorefold_toolkit.shards import in_shards
from scorefold_verbs.config import AssessOptions
from scorefold_verbs.inputs import Inputs, groups_of, left_out_for, points_of, row_of, with_labels
from scorefold_verbs.measures import (
    Calibration,
    Consistency,
    Diversity,
    Energy,
    Fidelity,
    Frechet,
    condition_networks,
    feature_name,
    features_of,
    read_lpips,
)
from scorefold_verbs.references import distinct_training_points, share_within
from scorefold_verbs.verdicts import of_assessment

_CLOUD = 500


@dataclass(frozen=True)
class Assessed:
    """Content of the figures: some held-out points (G, *E), their conditions, draws for each (G, n, *E), and the bounds
    of events; for conditional models the truths' places among the draws (C, D) and how they are counted.
    """

    truth: Tensor
    condition: Tensor | None
    draws: Tensor
    units: Units
    calibration: Calibration | None = None


@torch.no_grad()
def assess(component: ScoreModel | Flow, inputs: Inputs, options: AssessOptions, context: StageContext) -> Outcome:
    """Draw n samples for each of some held-out points, and compare them with the points.

    Samples are drawn given the point's condition where the model takes a condition. Images are compared with the truth
    by PSNR, SSIM (11 pixels and more) and LPIPS (where its files are named). They are compared with their condition by
    the operator that it came from, and with each other by their spread. Images and vectors have Frechet distances and,
    for conditional models, the coverage and the uniformity of the truths' ranks. Vectors have energy distances and
    scores. Metrics that are plugged in are added. With ``by: label``, the points of each label are measured by
    themselves too. The value that training points would have in place of the samples stands next to the answer.

    Draws are made and measured ``batch_size`` at a time, each batch with a seed of its own. They are made in jobs where
    the model is on the CPU and the executor runs jobs in parallel. Arrays are in the order of the rows of the data.
    The array ``rows`` names these rows, and ``rows of draws`` names the rows of the draws that are kept.

    Raises ``DataError`` for fewer than two held-out points and for draws that are not finite, ``ConfigError`` for what
    does not fit the data.
    """
    source: DataSource = inputs["data"]
    points = points_of(source, options.conditions, context)
    points = points.take(torch.arange(min(len(points), options.conditions)))
    if len(points) < 2:
        raise DataError("one held-out point was given; at least 2 are needed", hint="take a larger split")
    if points.event_shape != component.event_shape:
        raise ShapeError(
            f"the data have events of shape {points.event_shape}; this model draws {component.event_shape}",
            hint="assess a model on data of the kind that it was trained on",
        )
    if options.rounding == "8-bit" and None in (source.event_scale.low, source.event_scale.high):
        raise ConfigError("8-bit rounding needs data with bounds, and these have none", hint="rounding: none")
    condition = condition_of(component, points)
    units = Units.of(source.event_scale, points.x, options.rounding)
    operator = _operator(source) if condition is not None else None
    further: list[Metric] = inputs.get("metrics", [])
    if "posterior" not in points.truth and (readers := [one for one in further if one.reads_reference]):
        raise DataError(
            f"{type(readers[0]).__name__} compares with reference draws of the posterior, and these data bring none",
            hint="take data with the truth 'posterior', such as data:sbibm with a wheel; metric:tarp and metric:lc2st "
            "need none",
        )
    new_measures = _measures(component, options, units, operator, further)
    measures = new_measures(context.generator("places"))
    groups = _Groups.of(component, source, points, new_measures, context) if options.by is not None else None
    # A cloud of points takes more of them than a row of images or a colour for each condition.
    most = options.shown if condition is not None or len(component.event_shape) == 3 else max(options.shown, _CLOUD)
    shown: list[EvaluationBatch] = []
    batches = [points.take(rows) for rows in torch.arange(len(points)).split(max(1, options.batch_size // options.n))]
    seed = context.seed("assess")
    shards = (
        AssessmentShard(component, batch, options, derive_seed(seed, number), context.precision)
        for number, batch in enumerate(batches)
    )
    executor = context.executor if device_of(component).type == "cpu" else None
    start, counts = 0, list[EventCounts]()
    drawn = in_shards(f"{__name__}:draws_of", shards, executor, "samples")
    each = reported(zip(batches, drawn, strict=True), len(points), "held-out points", len(batches[0]))
    for batch, (x, count) in each:
        counts.append(count)
        held = _held(component, units, operator, batch, x)
        for measure in measures:
            measure.add(held)
        if groups is not None:
            groups.add(start, held, operator, batch.index)
        if start < most:
            shown.append(held)
        start += len(batch)
    outcome = _outcome(component, options, units, points, measures, _shown(shown, most, units, measures))
    within, few = share_within(counts, options.within)
    outcome.result["metrics"] |= within
    outcome.result["warnings"] += few
    answer = outcome.result["answer"]
    instead = [measure for measure in new_measures(context.generator("other places")) if _gives(measure, answer)]
    training = None
    if _add_training_points(instead, source, batches, options.n, partial(_held, component, units, operator), context):
        training = _numbers(instead)[0].get(answer["quantity"])
    answer |= of_assessment(answer["quantity"], answer["value"], answer.get("interval"), training)
    if groups is not None:
        outcome.result = with_labels(outcome.result, *groups.rows())
    return outcome


def _held(
    component: ScoreModel | Flow, units: Units, operator: Operator | None, batch: Dataset, x: Tensor
) -> EvaluationBatch:
    """Held-out points and events x (n, C, *E) to compare with them.

    Levels are rounded too, so that a sample at the level of its truth equals it bit by bit.
    """
    of_batch = None if operator is None else operator.at(batch.index)
    condition, reference = condition_of(component, batch), batch.truth.get("posterior")
    return EvaluationBatch(units.round(batch.x), units.round(x), condition, of_batch, reference)


def _add_training_points(
    measures: Sequence[Measure],
    source: DataSource,
    batches: Sequence[Dataset],
    most: int,
    hold: Callable[[Dataset, Tensor], EvaluationBatch],
    context: StageContext,
) -> bool:
    """Add training points in place of samples, each of them once: ``most`` for each held-out point, or as many as there
    are. False where there are fewer than held-out points."""
    count = sum(map(len, batches))
    training = distinct_training_points(source, most * count, context)
    each = 0 if training is None else len(training) // count
    if training is None or each == 0:
        return False
    order = torch.randperm(len(training), generator=context.generator("order of training points"))[: each * count]
    places, start = order.reshape(each, count), 0
    for batch in batches:
        rows = places[:, start : start + len(batch)]
        x = training.take(rows.flatten()).tensor().reshape(*rows.shape, *batch.event_shape)
        for measure in measures:
            measure.add(hold(batch, x.to(batch.x)))
        start += len(batch)
    return True


def _gives(measure: Measure, answer: Mapping[str, Any]) -> bool:
    """True if the number of an answer is this measure's."""
    kinds = {"PSNR": Fidelity, "energy": Energy, "Frechet": Frechet}
    return any(answer["quantity"].startswith(word) and isinstance(measure, kind) for word, kind in kinds.items())


@dataclass
class _Groups:
    """The measures of the points of each label by themselves. ``label`` (N,) holds the label of each held-out point."""

    label: Tensor
    names: Sequence[str] | None
    measures: dict[int, list[Measure]]
    left_out: list[str]

    @classmethod
    def of(
        cls,
        component: ScoreModel | Flow,
        source: DataSource,
        points: Dataset,
        new_measures: Callable[[torch.Generator], list[Measure]],
        context: StageContext,
    ) -> _Groups:
        if component.condition_spec is None:
            raise ConfigError(
                "by is label, and this model takes no condition: its draws belong to no label",
                hint="leave out 'by', or assess a conditional model (condition: label)",
            )
        label = labels_of(points).cpu()
        found, left_out = groups_of(label, source.label_names)
        measures = {number: new_measures(context.generator(f"places of label {number}")) for number in found}
        return cls(label, source.label_names, measures, left_out)

    def add(self, start: int, held: EvaluationBatch, operator: Operator | None, index: Tensor | None) -> None:
        """A batch whose first point is the ``start``-th, with the operator of all conditions and the points' index."""
        own = self.label[start : start + len(held.truth)]
        for number, measures in self.measures.items():
            rows = (own == number).nonzero()[:, 0]
            if len(rows):
                own_index = None if index is None else index[rows.to(index.device)]
                part = held.take(rows, None if operator is None else operator.at(own_index))
                for measure in measures:
                    measure.add(part)

    def rows(self) -> tuple[list[dict[str, Any]], list[str]]:
        """The answers by label, and the labels that have none."""
        found, left_out = [], list(self.left_out)
        for number, measures in self.measures.items():
            count = int((self.label == number).sum())
            # A covariance of more features than points is biased far more than labels differ.
            able = [measure for measure in measures if not (isinstance(measure, Frechet) and measure.too_few)]
            metrics, arrays, _ = _numbers(able)
            answer = _answer(metrics, arrays)
            if answer is None:
                reason = f"{count} points are too few for the covariance of the features"
                left_out.append(left_out_for(number, self.names, reason))
                continue
            row = row_of(number, self.names, count, answer["quantity"], answer["value"], answer.get("interval"))
            found.append({**row, "metrics": metrics})
        return found, left_out


def _operator(source: DataSource) -> Operator | None:
    found = source.operator if isinstance(source, HasOperator) else None
    return found if isinstance(found, Operator) else None


def _measures(
    component: ScoreModel | Flow,
    options: AssessOptions,
    units: Units,
    operator: Operator | None,
    further: Sequence[Metric],
) -> Callable[[torch.Generator], list[Measure]]:
    """Maker of the measures that fit the model, with a generator for ties between places; their networks, read once,
    are shared.
    """
    shape, spec = component.event_shape, component.condition_spec
    image = len(shape) == 3
    device = device_of(component)
    if options.lpips is not None and not image:
        raise ConfigError(f"LPIPS compares images (C, H, W); events have shape {tuple(shape)}", hint="leave lpips out")
    if options.lpips is not None and spec is None:
        raise ConfigError(
            "LPIPS compares a draw with the truth of its condition, and this model takes none", hint="leave lpips out"
        )
    lpips = None
    if options.lpips is not None:
        lpips = read_lpips(options.lpips).to(device)
    name = feature_name(options.features, shape)
    network: nn.Module | None = None
    networks: dict[str, nn.Module] = {}
    if image or math.prod(shape) <= LARGEST:
        network = features_of(name, shape, options.inception, units).to(device)
        beside = condition_networks(name, spec, options.inception, units)
        networks = {part: one.to(device) for part, one in beside.items()}

    def make(generator: torch.Generator) -> list[Measure]:
        measures: list[Measure] = []
        if spec is not None:
            if image:
                measures.append(Fidelity(units, lpips))
            if operator is not None:
                measures.append(Consistency(units))
            if options.n > 1:
                measures.append(Diversity(units))
            measures.append(Calibration(options.levels, generator))
        if not image:
            measures.append(Energy(spec))
        if network is not None:
            measures.append(Frechet(name if image else "coordinates", network, networks))
        return [*measures, *(metric.start(units, tuple(shape), spec) for metric in further)]

    return make


@dataclass(frozen=True)
class AssessmentShard:
    """The held-out points for which draws are one job, with the seed of these."""

    component: ScoreModel | Flow
    points: Dataset
    options: AssessOptions
    seed: int
    precision: str = "no"


@torch.no_grad()
def draws_of(shard: AssessmentShard) -> tuple[Tensor, EventCounts]:
    """n draws for each point of a shard, (n, C, *E), ``batch_size`` at a time where there are more for one point, and
    how many draws lay within the limits."""
    component, batch, options = shard.component, shard.points, shard.options
    generator = torch.Generator(device_of(component)).manual_seed(shard.seed)
    condition = condition_of(component, batch)
    count, each = options.n, max(1, options.batch_size // len(batch))
    if condition is None:
        count, each = options.n * len(batch), options.batch_size
    parts = [
        draw_within(component, min(each, count - start), condition, options, generator, shard.precision)
        for start in range(0, count, each)
    ]
    x = torch.cat([part for part, _ in parts]).reshape(options.n, len(batch), *component.event_shape)
    return x, EventCounts(*map(sum, zip(*(counts for _, counts in parts), strict=True)))


def _shown(batches: list[EvaluationBatch], most: int, units: Units, measures: list[Measure]) -> Assessed:
    truth = torch.cat([batch.truth for batch in batches])[:most].cpu()
    draws = torch.cat([batch.draws for batch in batches], 1)[:, :most].transpose(0, 1).cpu()
    conditions = [picture_of(batch.condition) for batch in batches]
    condition = None if conditions[0] is None else torch.cat([c for c in conditions if c is not None])[:most]
    calibration = next((measure for measure in measures if isinstance(measure, Calibration)), None)
    return Assessed(truth, condition, draws, units, calibration)


def _outcome(
    component: ScoreModel | Flow,
    options: AssessOptions,
    units: Units,
    points: Dataset,
    measures: list[Measure],
    shown: Assessed,
) -> Outcome:
    found, arrays, warnings = _numbers(measures)
    metrics: dict[str, Any] = {"held-out points": len(points), "draws for each": options.n, **found}
    each = {name: values for name, values in arrays.items() if values.shape[:1] == (len(points),)}
    arrays |= in_order(each, points.index)
    few = None if points.index is None else points.index[: len(shown.draws)]
    arrays |= in_order({"draws": shown.draws.contiguous()}, few, "rows of draws")
    result: dict[str, Any] = {"metrics": metrics, "data_range": [units.low, units.high], "warnings": warnings}
    answer = _answer(metrics, arrays)
    assert answer is not None
    result["answer"] = answer
    return Outcome(metrics, result, arrays, shown=shown)


def _numbers(measures: Sequence[Measure]) -> tuple[dict[str, float], dict[str, Tensor], list[str]]:
    """Metrics and arrays by name, and warnings. A measure without numbers costs none of the others theirs."""
    metrics: dict[str, float] = {}
    arrays: dict[str, Tensor] = {}
    warnings: list[str] = []
    for measure in measures:
        try:
            found, noted = measure.metrics(), measure.arrays()
        except DataError as error:
            reason = error.message + (f"; {error.hint}" if error.hint else "")
            warnings.append(f"{type(measure).__name__.strip('_')} gives no number: {reason}")
            continue
        if twice := [*(found.keys() & metrics.keys()), *(noted.keys() & arrays.keys())]:
            warnings.append(f"two metrics are called {twice[0]!r}; the first one's numbers are reported")
        metrics, arrays = {**found, **metrics}, {**noted, **arrays}
        warnings += measure.warnings()
    return metrics, arrays, warnings


def _answer(metrics: dict[str, Any], arrays: dict[str, Tensor]) -> dict[str, Any] | None:
    """The number that says most: draw by draw against the truth where conditions name one, else of the whole sample;
    None where there is none."""
    preferred = (
        "PSNR (dB)",
        "energy score",
        "energy distance",
        *(name for name in metrics if "Frechet distance" in name),
    )
    quantity = next((name for name in preferred if name in metrics), None)
    if quantity is None:
        return None
    answer: dict[str, Any] = {"quantity": quantity, "value": metrics[quantity]}
    if quantity in arrays:
        values = arrays[quantity]
        error = 1.96 * float(values.std()) / math.sqrt(len(values))
        answer["interval"] = [answer["value"] - error, answer["value"] + error]
    return answer
