"""Checks of metrics (``scorefold_toolkit.metrics.measure.Metric``), of the kind ``metric``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from scorefold_testing.answers import HELD_OUT, batch_to_measure, started
from scorefold_testing.contents import changed_parts, contents
from scorefold_testing.contract import Check, Subject, check, require, require_close

FAR = 20.0
TOLERANCE = 1e-8


def _numbers(subject: Subject, sizes: Sequence[int] = (HELD_OUT,), shift: float = 0.0) -> dict[str, float]:
    measure, shape, spec = started(subject.build())
    batch = batch_to_measure(subject, shape, spec)
    for rows in torch.arange(HELD_OUT).split(list(sizes)):
        part = batch.take(rows, None)
        measure.add(replace(part, draws=part.draws + shift))
    return dict(measure.metrics())


@check("metric-numbers", "metric", level="contract")
def metric_numbers(subject: Subject) -> str:
    """It gives numbers by name, all of them finite."""
    found = _numbers(subject)
    require(bool(found), "it gives no number", "one or more, by name")
    for name, value in found.items():
        number = isinstance(value, int | float) and math.isfinite(value)
        require(isinstance(name, str) and number, f"{name!r} is {value!r}", "finite numbers by name")
    return ", ".join(found)


@check("metric-batches", "metric", level="numerics")
def metric_batches(subject: Subject) -> str:
    """The points in several batches give the numbers that they give in one."""
    whole, parts = _numbers(subject), _numbers(subject, (11, 30, 7))
    require(whole.keys() == parts.keys(), f"in parts it gives {sorted(parts)}", str(sorted(whole)))
    values = torch.tensor([[whole[name], parts[name]] for name in whole], dtype=torch.float64)
    return require_close("numbers in several batches", values[:, 1], values[:, 0], TOLERANCE)


@check("metric-repeats", "metric", level="determinism")
def metric_repeats(subject: Subject) -> str:
    """The same points give the same numbers again."""
    first, second = _numbers(subject), _numbers(subject)
    require(first == second, f"it gave {first} and then {second}", "the same numbers")
    return f"{len(first)} numbers"


@check("metric-sees-samples", "metric", level="contract")
def metric_sees_samples(subject: Subject) -> str:
    """Samples far from the held-out points give other numbers than samples of their distribution."""
    near, far = _numbers(subject), _numbers(subject, shift=FAR)
    require(near != far, f"samples {FAR:g} away give the same {len(near)} numbers", "others")
    return f"{sum(near[name] != far.get(name) for name in near)} of {len(near)} numbers differ"


@check("metric-keeps-events", "metric", level="contract")
def metric_keeps_events(subject: Subject) -> str:
    """The measured events are unchanged afterwards."""
    measure, shape, spec = started(subject.build())
    batch = batch_to_measure(subject, shape, spec)
    before = contents(batch, "batch")
    measure.add(batch)
    measure.metrics()
    changed = changed_parts(before, contents(batch, "batch"))
    require(not changed, f"it changed {', '.join(changed)}", "the same tensors")
    return "the batch is as it was"


CHECKS: tuple[Check, ...] = (
    metric_numbers,
    metric_batches,
    metric_repeats,
    metric_sees_samples,
    metric_keeps_events,
)
