"""Laws of estimators (``scorefold.interfaces.Estimator``)."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold.errors import DataError
from scorefold.results import Estimate
from scorefold.testing.contract import (
    Law,
    NotApplicableError,
    Subject,
    law,
    require,
    require_refusal,
)
from scorefold.testing.exact import Problem, rotation, sphere, subspace

POINTS = 300
FEWER = 90
TOLERANCE = 0.5
ROTATED = 0.1
QUANTITY = "intrinsic dimension"


def _estimator(subject: Subject, problem: Problem) -> tuple[Any, Tensor]:
    """The example's estimator with a problem's exact score, where it takes one, and the problem's points."""
    ports: dict[str, Any] = {}
    for port in subject.component.requires:
        if "score" in port.kinds and not port.many:
            ports[port.name] = problem.score().to(torch.float64)
        elif not (port.optional or port.when or port.default is not None):
            raise NotApplicableError(f"the kit has nothing to plug into port {port.name!r}")
    return subject.build(ports=ports), problem.points(POINTS, subject.generator("points"))


def _estimate(subject: Subject, problem: Problem, points: int = POINTS) -> tuple[Estimate, Tensor]:
    estimator, x = _estimator(subject, problem)
    return estimator.estimate(x[:points], generator=subject.generator("estimate")), x[:points]


def _right(subject: Subject, problem: Problem) -> str:
    found, _ = _estimate(subject, problem)
    if found.quantity != QUANTITY:
        raise NotApplicableError(f"it estimates {found.quantity}, of which the kit knows no case")
    gap = abs(found.value - problem.dimension)
    text = f"{found.value:.3g} for {problem.name}, which has {problem.dimension}: gap {gap:.2g}, tolerance {TOLERANCE}"
    require(gap <= TOLERANCE, text)
    return text


@law("right-on-subspace", "estimator")
def right_on_subspace(subject: Subject) -> str:
    """The dimension of a Gaussian on a plane in R^6 from 300 points (and its exact score) is 2, to 0.5."""
    return _right(subject, subspace())


@law("right-on-sphere", "estimator")
def right_on_sphere(subject: Subject) -> str:
    """The dimension of a 2-sphere in R^6 from 300 points (and its exact score) is 2, to 0.5."""
    return _right(subject, sphere())


@law("rotation-invariant", "estimator")
def rotation_invariant(subject: Subject) -> str:
    """Data rotated about the origin, with the exact score where one is read, have the same dimension, to 0.1."""
    values = []
    for problem in (sphere(), sphere(rotation(subject.generator("rotation")))):
        found, _ = _estimate(subject, problem, FEWER)
        values.append(found.value)
    gap = abs(values[0] - values[1])
    text = f"{values[0]:.4g}, rotated {values[1]:.4g}: gap {gap:.2g}, tolerance {ROTATED}"
    require(gap <= ROTATED, text)
    return text


@law("refuses-too-few-points", "estimator")
def refuses_too_few(subject: Subject) -> str:
    """One point and none are refused by a DataError that says how many are needed."""
    estimator, x = _estimator(subject, subspace())
    for count in (1, 0):
        message = require_refusal(f"{count} points", DataError, partial(estimator.estimate, x[:count]))
        numbers = {int(number) for number in re.findall(r"\d+", message)}
        require(any(number > count for number in numbers), f"the refusal names no number of points: {message}")
    return message


@law("estimate-shapes", "estimator")
def estimate_shapes(subject: Subject) -> str:
    """pointwise is (N,), or has an entry for each position in the diagnostic ``index``; spectrum is (M, D)."""
    found, x = _estimate(subject, subspace(), FEWER)
    texts = []
    if found.pointwise is not None:
        expected = len(found.diagnostics.get("index", x))
        require(
            tuple(found.pointwise.shape) == (expected,),
            f"pointwise has shape {tuple(found.pointwise.shape)}; expected ({expected},)",
        )
        texts.append(f"pointwise ({expected},)")
    if found.spectrum is not None:
        require(
            found.spectrum.dim() == 2 and found.spectrum.shape[1] == x[0].numel(),
            f"spectrum has shape {tuple(found.spectrum.shape)}; expected (M, {x[0].numel()})",
        )
        texts.append(f"spectrum {tuple(found.spectrum.shape)}")
    if not texts:
        raise NotApplicableError("it gives neither pointwise estimates nor spectra")
    return ", ".join(texts)


@law("interval-holds-value", "estimator")
def interval_holds_value(subject: Subject) -> str:
    """The interval, where there is one, is (low, high) around the value, at a level in (0, 1)."""
    found, _ = _estimate(subject, subspace(), FEWER)
    require(0 < found.level < 1, f"the level is {found.level}; expected a number in (0, 1)")
    if found.interval is None:
        raise NotApplicableError("it gives no interval")
    low, high = found.interval
    require(low <= found.value <= high, f"the interval ({low:.4g}, {high:.4g}) does not hold {found.value:.4g}")
    return f"{found.value:.3g} in ({low:.3g}, {high:.3g})"


@law("tensor-or-dataset", "estimator")
def tensor_or_dataset(subject: Subject) -> str:
    """A tensor and the data set of its points give the same value."""
    estimator, x = _estimator(subject, subspace())
    x = x[:FEWER]
    values = [estimator.estimate(data, generator=subject.generator("estimate")).value for data in (x, Dataset(x=x))]
    require(values[0] == values[1], f"a tensor gives {values[0]}, the data set of its points {values[1]}")
    return f"both give {values[0]:.4g}"


LAWS: tuple[Law, ...] = (
    right_on_subspace,
    right_on_sphere,
    rotation_invariant,
    refuses_too_few,
    estimate_shapes,
    interval_holds_value,
    tensor_or_dataset,
)
