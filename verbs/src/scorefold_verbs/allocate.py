"""The verb ``allocate`` of allocators."""

from __future__ import annotations

from typing import Any

from scorefold.interfaces import (
    Allocator,
)
from scorefold.results import Allocation
from scorefold.stage import Outcome, StageContext
from scorefold_toolkit.checks import answer_of
from scorefold_verbs.config import (
    AllocateOptions,
)
from scorefold_verbs.inputs import (
    Inputs,
)


def allocate(component: Allocator, inputs: Inputs, options: AllocateOptions, context: StageContext) -> Outcome:
    """Plan the spending of a budget. Raises as the allocator does, and ``PluginError`` where it returns no plan."""
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
    metrics: dict[str, Any] = {"tasks": sum(row.tasks for row in plan.plan), "leftover": plan.leftover}
    if plan.predicted_loss is not None:
        metrics["predicted loss"] = plan.predicted_loss
    answer = {"quantity": "predicted loss", "value": plan.predicted_loss, "interval": plan.interval}
    result = {"metrics": metrics, "allocation": plan.summary(), "text": plan.text(), "answer": answer}
    if plan.warnings:
        result["warnings"] = list(plan.warnings)
    return Outcome(plan, result, texts={"curve.csv": plan.csv()} if plan.curve else {})
