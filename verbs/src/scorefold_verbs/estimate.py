"""The verb ``estimate`` of estimators, and one estimate from several trainings of a model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean, stdev
from typing import Any

from torch import Tensor

from scorefold.data import Dataset
from scorefold.errors import ConfigError, DataError, PluginError
from scorefold.interfaces import (
    Allocator,
    DataSource,
    Estimator,
)
from scorefold.results import Allocation, Estimate
from scorefold.stage import Outcome, StageContext, reported
from scorefold_toolkit.checks import answer_of
from scorefold_toolkit.data.counts import count_noise
from scorefold_toolkit.data.series import HasTime, close_in_time, following_rows
from scorefold_toolkit.data.splits import (
    HasUnits,
    estimate_by_row,
    labels_of,
    rounding_warning,
    row_names,
    units_text,
)
from scorefold_verbs.config import (
    AllocateOptions,
    EstimateOptions,
)
from scorefold_verbs.inputs import Inputs, groups_of, left_out_for, points_of, row_of, with_labels

DIMENSION = "intrinsic dimension"
_STATUSES = ("optimal", "feasible", "infeasible", "refused")

_LOOKED_AT = 1000
_ROUNDED = 20_000
"""Number of points of an estimate that are checked for rounding."""


def estimate(component: Estimator, inputs: Inputs, options: EstimateOptions, context: StageContext) -> Outcome:
    """Estimate from the test split, and compare the answer with the truth where the data know it; with ``by: label``,
    from the points of each label too. ``repeats`` are the estimates of other trainings, which the answer covers as
    ``scorefold_verbs.estimate.over_trainings`` says.

    ``pointwise`` has an entry for each row of the source, where it counts these: NaN for rows of other splits, and for
    those left out. The answer begins with the warnings of the data, among them that the points' distances are lost in
    rounding. A dimension that hangs on units of columns, which nobody has settled, is withheld. So is one read from
    neighbours (``reads_neighbours``), of a series whose nearest neighbours are neighbours in time, and of counts whose
    noise reaches neighbours, but where the estimator is made for counts (``reads_counts``). There is a warning
    where rows are near the ones before and after them. An estimate without a value gives no metrics. Raises as the
    estimator does, ``PluginError`` where it returns no estimate, and ``DataError`` for an empty split and for data
    without the labels that are needed.
    """
    source: DataSource = inputs["data"]
    dataset = points_of(source, options.limit, context)
    label = None if options.by is None else labels_of(dataset)
    # First, from copies of the points: an estimator that changes what it is given can't move a label's points then.
    by_label = None if label is None else _estimates_by_label(component, dataset, label, source.label_names, context)
    counts, noisy = count_noise(dataset.tensor(limit=_LOOKED_AT), source.event_scale)
    noisy = noisy and component.reads_neighbours and not component.reads_counts
    withheld = _units(source, dataset) or _time(component, source, dataset) or (f"withheld: {counts}" if noisy else "")
    timed = isinstance(source, HasTime) or source.rows is None
    follow = following_rows(dataset) if component.reads_neighbours and not timed else ""
    answer = _asked(component, dataset, "estimate", context)
    if "repeats" in inputs:
        answer = over_trainings([answer, *inputs["repeats"]])
    if answer.quantity != DIMENSION:
        withheld = counts = follow = ""
    if withheld and answer.value is not None:
        answer = replace(answer, value=None, interval=None, headline=withheld)
        counts = "" if noisy else counts
    looked = dataset.tensor(limit=_ROUNDED)
    rounded = rounding_warning(looked, row_names(source.rows, dataset.index, len(looked)))
    answer = answer.with_warnings([*source.data_warnings(), *filter(None, [rounded, counts, follow])])
    metrics: dict[str, Any] = {} if answer.value is None else {answer.quantity: answer.value}
    if answer.interval is not None:
        metrics[f"{answer.quantity}, lower"], metrics[f"{answer.quantity}, upper"] = answer.interval
    truth = dataset.truth.get("dimension") if answer.quantity == DIMENSION else None
    known = truth if isinstance(truth, int | float) else None
    if known is not None and answer.value is not None:
        metrics |= {"truth": known, "error": answer.value - known}
    summary = answer.summary()
    said = {name: summary[name] for name in ("quantity", "value", "interval", "headline")}
    result: dict[str, Any] = {"metrics": metrics, "estimate": summary, "answer": {**said, "truth": known}}
    if by_label is not None and withheld:
        by_label = [], [f"labels have no answer of their own: {withheld}"]
    if by_label is not None:
        result = with_labels(result, *by_label)
        answer = replace(answer, diagnostics={**answer.diagnostics, "by_label": by_label[0]})  # for the figure
    answer = estimate_by_row(answer, dataset, source)
    return Outcome(answer, result, answer.tensors())


def _asked(component: Estimator, dataset: Dataset, purpose: str, context: StageContext) -> Estimate:
    found = answer_of(component.estimate, Estimate, dataset, generator=context.generator(purpose), stage=context.stage)
    index = found.diagnostics.get("index")
    expected = (len(dataset) if index is None else len(index),)
    if found.pointwise is not None and tuple(found.pointwise.shape) != expected and "row" not in found.diagnostics:
        raise PluginError(
            f"estimate of {component!r} returned pointwise values of shape {tuple(found.pointwise.shape)} for "
            f"{len(dataset)} points; expected {expected}",
            hint="return a number for each point, or set diagnostics['index'] to the positions of those that have one",
        )
    return found


def _units(source: DataSource, dataset: Dataset) -> str:
    """The two dimensions of points whose columns may have one unit or several; empty where they have one dimension."""
    if not (isinstance(source, HasUnits) and source.unsettled_units):
        return ""
    text = units_text(dataset.tensor(limit=_LOOKED_AT))
    return f"withheld, since it {text}" if text else ""


def _time(component: Estimator, source: DataSource, dataset: Dataset) -> str:
    """The reason to withhold the dimension of a series; empty where neighbours are far apart in time or not read."""
    if not (component.reads_neighbours and isinstance(source, HasTime)):
        return ""
    near = close_in_time(dataset, source.correlation)
    return f"withheld: {near}" if near else ""


def _estimates_by_label(
    component: Estimator, dataset: Dataset, label: Tensor, names: Sequence[str] | None, context: StageContext
) -> tuple[list[dict[str, Any]], list[str]]:
    """Estimates from the points of each label, and the labels that are left out."""
    groups, left_out = groups_of(label, names)
    rows = []
    for number, positions in reported(groups.items(), len(groups), "labels"):
        try:
            found = _asked(component, dataset.take(positions), f"estimate label {number}", context)
        except DataError as error:
            left_out.append(left_out_for(number, names, error.message))
            continue
        rows.append(row_of(number, names, len(positions), found.quantity, found.value, found.interval))
    return rows, left_out


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

    The other fields are copied from the first estimate; ``diagnostics["trainings"]`` lists the values. Raises
    ``ConfigError`` for fewer than 3 estimates, for estimates of different quantities and for intervals at different
    levels.

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


def allocate(component: Allocator, inputs: Inputs, options: AllocateOptions, context: StageContext) -> Outcome:
    """Plan the spending of a budget. Raises as the allocator does, and ``PluginError`` where it returns no plan, one of
    an unknown status or one that costs more than the budget."""
    if context.checkpoint_dir is not None:
        component.keep_in(context.checkpoint_dir)
    plan = answer_of(
        component.allocate,
        Allocation,
        options.budget,
        constraints=options.constraints,
        generator=context.generator("allocate"),
        stage=context.stage,
    )
    _check_plan(component, plan, options.budget)
    metrics: dict[str, Any] = {"tasks": sum(row.tasks for row in plan.plan), "leftover": plan.leftover}
    if plan.predicted_loss is not None:
        metrics["predicted loss"] = plan.predicted_loss
    answer = {"quantity": "predicted loss", "value": plan.predicted_loss, "interval": plan.interval}
    result = {"metrics": metrics, "allocation": plan.summary(), "text": plan.text(), "answer": answer}
    if plan.warnings:
        result["warnings"] = list(plan.warnings)
    return Outcome(plan, result, texts={"curve.csv": plan.csv()} if plan.curve else {})


def _check_plan(component: Allocator, plan: Allocation, budget: int) -> None:
    """Raises ``PluginError`` for an unknown status, and for a plan that costs more than the budget."""
    whose = f"the plan of {component!r}"
    if plan.status not in _STATUSES:
        raise PluginError(f"{whose} has the status {plan.status!r}; expected {', '.join(_STATUSES)}")
    labels = sum(row.tasks * (row.support + row.query) for row in plan.plan)
    spent = plan.diagnostics.get("spent", labels)
    if spent > budget * (1 + 1e-9):
        raise PluginError(
            f"{whose} costs {spent:,} for a budget of {budget:,}; expected {budget:,} at most",
            hint="return fewer tasks, or set diagnostics['spent'] where some labels are owned or do not cost 1",
        )
