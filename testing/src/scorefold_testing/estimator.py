"""Checks of estimators (``scorefold.interfaces.Estimator``)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from scorefold.data import Dataset, StreamedDataset
from scorefold.errors import DataError
from scorefold.results import Estimate
from scorefold_testing.contents import Contents, changed_parts, contents
from scorefold_testing.contract import (
    Check,
    NotApplicableError,
    Subject,
    check,
    require,
    require_close,
    require_refusal,
    require_shape,
    require_within,
)
from scorefold_testing.exact import ExactProblem, rotation, sphere, subspace, torus

POINTS = 300
FEWER = 90
TOLERANCE = 0.5
SHARE = 0.1
MOVED = 0.1
QUANTITY = "intrinsic dimension"
CHUNKS = ("batch", "batch_size", "chunk", "chunk_size")


def _estimator(
    subject: Subject, problem: ExactProblem, points: int = FEWER, config: Mapping[str, Any] | None = None
) -> tuple[Any, Tensor]:
    """The example's estimator with a problem's exact score, where it takes one, and points of the problem."""
    ports: dict[str, Any] = {}
    for port in subject.component.requires:
        if "score" in port.kinds and not port.many:
            ports[port.name] = problem.score().to(torch.float64)
        elif not (port.optional or port.when or port.default is not None):
            raise NotApplicableError(f"the kit has nothing to plug into port {port.name!r}")
    return subject.build(ports=ports, config=config), problem.points(points, subject.generator("points"))


def _estimate(subject: Subject, problem: ExactProblem, points: int = FEWER) -> tuple[Estimate, Tensor]:
    estimator, x = _estimator(subject, problem, points)
    return estimator.estimate(x, generator=subject.generator("estimate")), x


def _right(subject: Subject, problem: ExactProblem) -> str:
    found, _ = _estimate(subject, problem, POINTS)
    if found.quantity != QUANTITY:
        raise NotApplicableError(f"it estimates {found.quantity}, of which the kit knows no case")
    value = _value(found, problem.name)
    what = f"{value:.3g} for {problem.name}, which has {problem.dimension}"
    return require_within(what, abs(value - problem.dimension), max(TOLERANCE, SHARE * problem.dimension))


def _value(found: Estimate, what: str) -> float:
    """The value of an estimate where the kit knows that there is one."""
    require(found.value is not None, f"no value for {what}: {found.headline}", "a number")
    return found.number()


@check("right-on-subspace", "estimator", level="numerics")
def right_on_subspace(subject: Subject) -> str:
    """The dimension of a Gaussian on a plane in R^6 from 300 points (and its exact score) is 2, to 0.5."""
    return _right(subject, subspace())


@check("right-on-sphere", "estimator", level="numerics")
def right_on_sphere(subject: Subject) -> str:
    """The dimension of a 2-sphere in R^6 from 300 points (and its exact score) is 2, to 0.5."""
    return _right(subject, sphere())


@check("right-on-torus", "estimator", level="numerics")
def right_on_torus(subject: Subject) -> str:
    """The dimension of a product of two circles in R^6 from 300 points (and its exact score) is 2, to 0.5."""
    return _right(subject, torus())


@check("right-over-range", "estimator", level="numerics")
def right_over_range(subject: Subject) -> str:
    """At both ends of the ``ranges`` that it declares, a Gaussian has its dimension, to 0.5 or a tenth of it."""
    declared = subject.component.ranges.get("dimension")
    if declared is None:
        raise NotApplicableError("it declares no range of dimensions")
    ends = sorted({int(end) for end in declared})
    return "; ".join(_right(subject, subspace(end, end + 4)) for end in ends)


@check("rotation-invariant", "estimator", level="numerics")
def rotation_invariant(subject: Subject) -> str:
    """Data rotated about the origin, with the exact score where one is read, have the same dimension, to 0.1."""
    return _unmoved(subject, "rotated", sphere().moved(rotation(subject.generator("rotation"))))


@check("translation-invariant", "estimator", level="numerics")
def translation_invariant(subject: Subject) -> str:
    """Data moved by (3, ..., 3), with the exact score where one is read, have the same dimension, to 0.1."""
    return _unmoved(subject, "moved by 3", sphere().moved(shift=3.0))


@check("scale-invariant", "estimator", level="numerics")
def scale_invariant(subject: Subject) -> str:
    """Data in other units, twice as large, with the exact score where one is read, have the same dimension, to 0.1."""
    return _unmoved(subject, "twice as large", sphere().moved(factor=2.0))


def _unmoved(subject: Subject, how: str, moved: ExactProblem) -> str:
    before, after = (_value(_estimate(subject, problem)[0], problem.name) for problem in (sphere(), moved))
    return require_within(f"{before:.4g}, {how} {after:.4g}", abs(before - after), MOVED)


@check("rows-in-any-order", "estimator", level="determinism")
def rows_in_any_order(subject: Subject) -> str:
    """The same points in another order have the same estimate, to 0.1, and each its own pointwise one, to 1e-6."""
    estimator, x = _estimator(subject, sphere())
    order = torch.randperm(len(x), generator=subject.generator("order"))
    first, second = (estimator.estimate(points, generator=subject.generator("estimate")) for points in (x, x[order]))
    before, after = (_value(found, sphere().name) for found in (first, second))
    text = require_within(f"{before:.4g}, in another order {after:.4g}", abs(before - after), MOVED)
    if first.pointwise is None or "index" in first.diagnostics:
        return text
    return f"{text}; " + require_close("pointwise", second.pointwise, first.pointwise[order], 1e-6)


@check("reads-both-halves", "estimator", level="numerics")
def reads_both_halves(subject: Subject) -> str:
    """Normal points in place of half of a sphere's (the first, the last, every other) make another estimate.

    If a quarter changes the estimate, the two halves that contain it need no trial.
    """
    estimator, x = _estimator(subject, sphere())
    others = subject.normal(*x.shape, purpose="others")

    def answer(points: Tensor) -> Contents:
        return contents(estimator.estimate(points, generator=subject.generator("estimate")), "estimate")

    before = answer(x)

    def matters(rows: Tensor) -> bool:
        return bool(changed_parts(before, answer(torch.where(rows[:, None], others, x))))

    rows = torch.arange(len(x))
    first, even = rows < len(x) // 2, rows % 2 == 0
    halves = {"the first half": first, "the even rows": even, "the last half": ~first, "the odd rows": ~even}
    for one, other in (("the first half", "the even rows"), ("the last half", "the odd rows")):
        if not matters(halves[one] & halves[other]):
            for name in (one, other):
                require(matters(halves[name]), f"other points in {name} change nothing", "another estimate")
    return f"{len(halves)} halves of {len(x)} rows"


@check("chunks-agree", "estimator", level="determinism")
def chunks_agree(subject: Subject) -> str:
    """In chunks of 7 (its config field batch, batch_size, chunk or chunk_size) it gives the same, to 1e-6."""
    names = [name for name in CHUNKS if name in subject.config_model.model_fields]
    if not names:
        raise NotApplicableError(f"its config has no field {', '.join(CHUNKS)}")
    found = []
    for config in ({}, {names[0]: 7}):
        estimator, x = _estimator(subject, subspace(), config=config)
        found.append(estimator.estimate(x, generator=subject.generator("estimate")))
    whole, pieces = (_value(each, subspace().name) for each in found)
    texts = [require_within(f"value by {names[0]} 7", abs(pieces - whole), 1e-6)]
    if found[0].pointwise is not None:
        texts.append(require_close("pointwise", found[1].pointwise, found[0].pointwise, 1e-6))
    return "; ".join(texts)


@check("refuses-too-few-points", "estimator", level="contract")
def refuses_too_few(subject: Subject) -> str:
    """One point and none are refused by a DataError that says how many are needed."""
    estimator, x = _estimator(subject, subspace())
    for count in (1, 0):
        message = require_refusal(f"a set of size {count}", DataError, partial(estimator.estimate, x[:count]))
        numbers = {int(number) for number in re.findall(r"\d+", message)}
        named = any(number > count for number in numbers)
        require(named, f"the refusal of a set of size {count} says: {message}", "the number of points that are needed")
    return message


@check("estimate-shapes", "estimator", level="contract")
def estimate_shapes(subject: Subject) -> str:
    """pointwise is (N,), or has an entry for each position in the diagnostic ``index``; spectrum is (M, D)."""
    found, x = _estimate(subject, subspace())
    texts = []
    if found.pointwise is not None:
        expected = len(found.diagnostics.get("index", x))
        require_shape("pointwise", found.pointwise, (expected,))
        texts.append(f"pointwise ({expected},)")
    if found.spectrum is not None:
        require_shape("spectrum", found.spectrum, (len(found.spectrum), x[0].numel()))
        texts.append(f"spectrum {tuple(found.spectrum.shape)}")
    if not texts:
        raise NotApplicableError("it gives neither pointwise estimates nor spectra")
    return ", ".join(texts)


@check("interval-holds-value", "estimator", level="numerics")
def interval_holds_value(subject: Subject) -> str:
    """The interval, where there is one, is (low, high) around the value."""
    found, _ = _estimate(subject, subspace())
    if found.interval is None:
        raise NotApplicableError("it gives no interval")
    (low, high), value = found.interval, found.number()
    require(low <= value <= high, f"the interval is ({low:.4g}, {high:.4g})", f"one around {value:.4g}")
    return f"{value:.3g} in ({low:.3g}, {high:.3g})"


@check("estimate-told", "estimator", level="contract")
def estimate_reported(subject: Subject) -> str:
    """The estimate of a Gaussian on a plane is a number, and can be written as JSON."""
    found, _ = _estimate(subject, subspace())
    _value(found, subspace().name)
    return f"{len(json.dumps(found.summary(), allow_nan=False))} characters of JSON"


@check("tensor-or-dataset", "estimator", level="contract")
def tensor_or_dataset(subject: Subject) -> str:
    """A tensor, the data set of its points, and one that is read piece by piece give the same value, to 1e-9."""
    estimator, x = _estimator(subject, subspace())
    streamed = StreamedDataset(x=x[:0], fetch=lambda index: Dataset(x=x[index], index=index), size=len(x))
    given = (x, Dataset(x=x, index=torch.arange(len(x))), streamed)
    plain, whole, pieces = (
        _value(estimator.estimate(data, generator=subject.generator("estimate")), subspace().name) for data in given
    )
    texts = [
        require_within("a data set", abs(whole - plain), 1e-9),
        require_within("a streamed data set", abs(pieces - plain), 1e-9),
    ]
    return f"{plain:.4g}: {'; '.join(texts)}"


CHECKS: tuple[Check, ...] = (
    right_on_subspace,
    right_on_sphere,
    right_on_torus,
    right_over_range,
    rotation_invariant,
    translation_invariant,
    scale_invariant,
    rows_in_any_order,
    reads_both_halves,
    chunks_agree,
    refuses_too_few,
    estimate_shapes,
    interval_holds_value,
    estimate_reported,
    tensor_or_dataset,
)
