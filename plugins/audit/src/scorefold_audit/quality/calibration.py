"""Whether draws for a condition are as spread as the truth: by any metric of ``assess``, where the model takes one."""

from __future__ import annotations

import torch

from scorefold.data import index_condition
from scorefold.errors import ScorefoldError
from scorefold.interfaces import DataSource, Flow, ScoreModel
from scorefold_audit.report import Report
from scorefold_audit.sets import Sets
from scorefold_toolkit.metrics.measure import EvaluationBatch, Metric, Units


def measure_calibration(
    report: Report, component: ScoreModel | Flow | DataSource, metric: Metric | None, sets: Sets
) -> None:
    """What a metric says of one sample beside each held-out point, which have the same condition.

    Nothing for a model without conditions. Samples of a file say nothing of which condition each was drawn for.
    """
    if isinstance(component, DataSource) or component.condition_spec is None:
        return
    if metric is None:
        reason = "no metric was plugged in; inputs: {calibration: {use: metric:lc2st}} does so"
        return report.withhold("calibration", reason)
    count = min(len(sets.samples), len(sets.held_out))
    condition = index_condition(sets.held_out.condition, torch.arange(count))
    pairs = EvaluationBatch(sets.held_out.x[:count], sets.samples.x[None, :count], condition)
    try:
        units = Units.of(sets.scale, sets.training.x, "levels")
        measure = metric.start(units, tuple(sets.training.x.shape[1:]), component.condition_spec)
        measure.add(pairs)
        report.metrics |= measure.metrics()
        report.warnings += measure.warnings()
    except ScorefoldError as error:  # one that does not fit these events, such as too many numbers
        report.withhold("calibration", error.message)
