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
ORDERS = 12
SPREAD = 7.0
"""Random orders of the points, and how many of their standard deviations the numbers of all orders may span. The mean
of the first half spans 14, and weights that grow with the row 12. Means of random parts span 3 to 5. Of random numbers
with long tails a few in a hundred span more. A few rows that are left out change too little to be found."""


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


@check("metric-any-order", "metric", level="determinism")
def metric_any_order(subject: Subject) -> str:
    """With near samples first, or far ones, the numbers are as in random orders: equal, or no farther than chance."""
    batch = batch_to_measure(subject, *started(subject.build())[1:])
    near = torch.arange(HELD_OUT) < HELD_OUT // 2
    far = FAR * (~near).to(batch.draws.dtype).reshape(1, -1, *[1] * (batch.truth.dim() - 1))
    batch = replace(batch, draws=batch.draws + far)
    draws = subject.generator("orders")
    orders = [torch.randperm(HELD_OUT, generator=draws) for _ in range(ORDERS)]
    orders += [torch.arange(HELD_OUT), torch.arange(HELD_OUT).flip(0)]
    found = []
    for order in orders:
        measure, _, _ = started(subject.build())
        measure.add(batch.take(order, None))
        found.append(dict(measure.metrics()))
    for name in found[0]:
        values = torch.tensor([numbers[name] for numbers in found], dtype=torch.float64)
        span, chance = float(values.max() - values.min()), float(values[:ORDERS].std())
        allowed = SPREAD * chance + TOLERANCE * (1 + float(values.abs().max()))
        require(
            span <= allowed,
            f"{name!r} is {values[-2]:.4g} with near samples first and {values[-1]:.4g} with far ones first",
            f"numbers within {allowed:.2g} of each other, from {ORDERS} random orders",
        )
    return f"{len(found[0])} numbers in {len(orders)} orders"


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
    metric_any_order,
    metric_sees_samples,
    metric_keeps_events,
)
