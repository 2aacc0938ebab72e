"""The verb ``estimate`` of estimators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from scorefold.data import Dataset
from scorefold.errors import DataError
from scorefold.interfaces import (
    DataSource,
    Estimator,
)
from scorefold.results import Estimate
from scorefold.stage import Outcome, StageContext, reported
from scorefold_toolkit.checks import answer_of
from scorefold_toolkit.data.series import HasTime, close_in_time
from scorefold_toolkit.data.splits import HasUnits, dimensions_by_units, estimate_by_row, labels_of, rounding_warning
from scorefold_verbs.config.verbs import (
    EstimateOptions,
)
from scorefold_verbs.inputs import (
    Inputs,
    groups_of,
    left_out_for,
    points_of,
    row_of,
    with_labels,
)
from scorefold_verbs.trainings import over_trainings

DIMENSION = "intrinsic dimension"

_LOOKED_AT = 1000
_ROUNDED = 20_000
"""Number of points of an estimate that are checked for rounding."""


def estimate(component: Estimator, inputs: Inputs, options: EstimateOptions, context: StageContext) -> Outcome:
    """Estimate from the test split, and compare the answer with the truth where the data know it; with ``by: label``,
    from the points of each label too. ``repeats`` are the estimates of other trainings, which the answer covers as
    ``scorefold_verbs.trainings.over_trainings`` says.

    ``pointwise`` has an entry for each row of the source, where it counts these: NaN for rows of other splits, and for
    those left out. The answer begins with the warnings of the data, among them that the points' distances are lost in
    rounding. A dimension that hangs on units of columns, which nobody has settled, is withheld. So is one read from
    neighbours (``reads_neighbours``), of a series whose nearest neighbours are neighbours in time. An estimate without
    a value gives no metrics. Raises as the estimator does, ``PluginError`` where it returns no estimate, and
    ``DataError`` for an empty split and for data without the labels that are needed.
    """
    source: DataSource = inputs["data"]
    dataset = points_of(source, options.limit, context)
    label = None if options.by is None else labels_of(dataset)
    # First, from copies of the points: an estimator that changes what it is given can't move a label's points then.
    by_label = None if label is None else _estimates_by_label(component, dataset, label, source.label_names, context)
    withheld = _units(source, dataset) or _time(component, source, dataset)
    answer = _asked(component, dataset, "estimate", context)
    if "repeats" in inputs:
        answer = over_trainings([answer, *inputs["repeats"]])
    withheld = withheld if answer.quantity == DIMENSION else ""
    if withheld and answer.value is not None:
        answer = replace(answer, value=None, interval=None, headline=withheld)
    rounded = rounding_warning(dataset.tensor(limit=_ROUNDED))
    answer = answer.with_warnings([*source.data_warnings(), *([rounded] if rounded else [])])
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
    return answer_of(component.estimate, Estimate, dataset, generator=context.generator(purpose), stage=context.stage)


def _units(source: DataSource, dataset: Dataset) -> str:
    """The two dimensions of points whose columns may have one unit or several; empty where they have one dimension."""
    if not (isinstance(source, HasUnits) and source.unsettled_units):
        return ""
    found = dimensions_by_units(dataset.tensor(limit=_LOOKED_AT))
    if found is None:
        return ""
    return (
        f"withheld, since it depends on the units of the columns: about {found[0]:.2g} as they are, about "
        f"{found[1]:.2g} with each divided by its own spread"
    )


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
