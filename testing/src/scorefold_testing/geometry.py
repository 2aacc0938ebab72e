"""Checks of geometries (``scorefold.interfaces.Geometry``)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from scorefold.errors import ShapeError
from scorefold_testing.answers import ROWS
from scorefold_testing.contract import (
    Check,
    Subject,
    check,
    require,
    require_close,
    require_refusal,
    require_shape,
    require_within,
)

SOLVED = 1e-3
CLOSED = 1e-8
STEP = 1e-4


def _geometry(subject: Subject) -> tuple[Any, Tensor, Tensor, float]:
    """A geometry with points x and y, and the tolerance of what its geodesics are to satisfy."""
    geometry = subject.stirred()
    points = subject.points(2 * ROWS, geometry.event_shape)
    tolerance = CLOSED if "ClosedFormGeodesics" in subject.component.provides else SOLVED
    return geometry, points[:ROWS], points[ROWS:], tolerance


@check("geometry-shapes", "geometry", level="contract")
def geometry_shapes(subject: Subject) -> str:
    """Every method's shape, for batches of 3, 1 and 0."""
    geometry, x, y, _ = _geometry(subject)
    shape, d = geometry.event_shape, math.prod(geometry.event_shape)
    for rows in (ROWS, 1, 0):
        a, b = x[:rows], y[:rows]
        require_shape(f"metric of {rows} points", geometry.metric(a), (rows, d, d))
        require_shape(f"log of {rows} points", geometry.log(a, b), (rows, *shape))
        require_shape(f"exp of {rows} points", geometry.exp(a, 0.1 * b), (rows, *shape))
        require_shape(f"distance of {rows} points", geometry.distance(a, b), (rows,))
        s = torch.linspace(0, 1, 4, dtype=x.dtype)
        require_shape(f"geodesic of {rows} points", geometry.geodesic(a, b, s), (rows, 4, *shape))
        require_shape(f"distance_matrix of {rows} points", geometry.distance_matrix(a, y), (rows, ROWS))
    require_shape("mean", geometry.mean(x), shape)
    return "batches of 3, 1 and 0"


@check("geometry-batch-of-one", "geometry", level="contract")
def geometry_batch_of_one(subject: Subject) -> str:
    """One point serves for several, as if it were repeated."""
    geometry, x, y, tolerance = _geometry(subject)
    one, many = x[:1], x[:1].expand_as(x)
    texts = [
        require_close("log", geometry.log(one, y), geometry.log(many, y), tolerance),
        require_close("exp", geometry.exp(one, 0.1 * y), geometry.exp(many, 0.1 * y), tolerance),
        require_close("inner", geometry.inner(one, y, y), geometry.inner(many, y, y), tolerance),
    ]
    return "; ".join(texts)


@check("geometry-refuses", "geometry", level="contract")
def geometry_refuses(subject: Subject) -> str:
    """The mean of no points, weights that are no weights, and times that are no list are refused by a ShapeError."""
    geometry, x, y, _ = _geometry(subject)
    require_refusal("the mean of no points", ShapeError, lambda: geometry.mean(x[:0]))
    require_refusal("a weight of -1", ShapeError, lambda: geometry.mean(x, -x.new_ones(ROWS)))
    return require_refusal("times (1, 1)", ShapeError, lambda: geometry.geodesic(x, y, x.new_zeros(1, 1)))


@check("metric-spd", "geometry", level="numerics")
def metric_spd(subject: Subject) -> str:
    """The metric is symmetric with positive eigenvalues."""
    geometry, x, _, _ = _geometry(subject)
    metric = geometry.metric(x).detach()
    text = require_close("metric against its transpose", metric, metric.mT, CLOSED)
    least = float(torch.linalg.eigvalsh((metric + metric.mT) / 2).min())
    require(least > 0, f"the metric's smallest eigenvalue is {least:.3g}", "more than 0")
    return f"{text}; smallest eigenvalue {least:.3g}"


@check("inner-of-metric", "geometry", level="numerics")
def inner_of_metric(subject: Subject) -> str:
    """inner is v^T G w, and norm its square root for v = w."""
    geometry, x, _, _ = _geometry(subject)
    v, w = subject.normal(*x.shape, purpose="v"), subject.normal(*x.shape, purpose="w")
    metric = geometry.metric(x)
    expected = torch.einsum("bi,bij,bj->b", v.flatten(1), metric, w.flatten(1))
    square = torch.einsum("bi,bij,bj->b", v.flatten(1), metric, v.flatten(1))
    texts = [
        require_close("inner", geometry.inner(x, v, w), expected, CLOSED),
        require_close("norm", geometry.norm(x, v), square.sqrt(), CLOSED),
    ]
    return "; ".join(texts)


@check("exp-log", "geometry", level="numerics")
def exp_log(subject: Subject) -> str:
    """exp(x, log(x, y)) = y, and log(x, exp(x, v)) = v for small v."""
    geometry, x, y, tolerance = _geometry(subject)
    v = 0.1 * subject.normal(*x.shape, purpose="v")
    texts = [
        require_close("exp of log", geometry.exp(x, geometry.log(x, y)), y, tolerance),
        require_close("log of exp", geometry.log(x, geometry.exp(x, v)), v, tolerance),
    ]
    return "; ".join(texts)


@check("distance", "geometry", level="numerics")
def distance(subject: Subject) -> str:
    """The distance is symmetric, 0 from a point to itself, and the length of log."""
    geometry, x, y, tolerance = _geometry(subject)
    there = geometry.distance(x, y).detach()
    texts = [
        require_close("symmetry", there, geometry.distance(y, x), tolerance),
        require_close("to itself", geometry.distance(x, x), torch.zeros_like(there), tolerance),
        require_close("length of log", there, geometry.norm(x, geometry.log(x, y)), tolerance),
    ]
    require(float(there.min()) > 0, f"the least distance of two points is {float(there.min()):.3g}", "more than 0")
    return "; ".join(texts)


@check("short-distances", "geometry", level="numerics")
def short_distances(subject: Subject) -> str:
    """Over a short step the distance is the length that the metric gives it, to 1e-3: the two belong together."""
    geometry, x, _, _ = _geometry(subject)
    step = STEP * subject.normal(*x.shape, purpose="v")
    expected = geometry.norm(x, step) / STEP
    return require_close("distance over length", geometry.distance(x, x + step) / STEP, expected, SOLVED)


@check("triangle", "geometry", level="numerics")
def triangle(subject: Subject) -> str:
    """No way round by a third point is shorter than the distance."""
    geometry, x, y, tolerance = _geometry(subject)
    third = x.roll(1, 0)
    direct = geometry.distance(x, y).detach()
    excess = (direct - geometry.distance(x, third) - geometry.distance(third, y)).detach()
    return require_within("longer than by a third point", float((excess / (1 + direct)).max().clamp_min(0)), tolerance)


@check("distance-matrix", "geometry", level="numerics")
def distance_matrix(subject: Subject) -> str:
    """distance_matrix holds the distances of all pairs, of two batches or of one."""
    geometry, x, y, tolerance = _geometry(subject)
    y = y[: ROWS - 1]
    pairs = [geometry.distance(point[None].expand_as(y), y) for point in x]
    texts = [
        require_close("two batches", geometry.distance_matrix(x, y), torch.stack(pairs), tolerance),
        require_close("one batch", geometry.distance_matrix(x), geometry.distance_matrix(x, x), tolerance),
    ]
    return "; ".join(texts)


@check("constant-speed", "geometry", level="numerics")
def constant_speed(subject: Subject) -> str:
    """A geodesic leads from x to y at constant speed: distances between its points are proportional to time."""
    geometry, x, y, tolerance = _geometry(subject)
    times = torch.tensor([0.0, 0.2, 0.5, 1.0], dtype=x.dtype)
    path = geometry.geodesic(x, y, times)
    ends = torch.stack([path[:, 0], path[:, -1]])
    texts = [require_close("ends", ends, torch.stack([x, y]), tolerance)]
    pieces = [geometry.distance(path[:, i], path[:, i + 1]) for i in range(len(times) - 1)]
    expected = times.diff()[:, None] * geometry.distance(x, y)
    texts.append(require_close("lengths of the pieces", torch.stack(pieces), expected, tolerance))
    return "; ".join(texts)


@check("mean-balances", "geometry", level="numerics")
def mean_balances(subject: Subject) -> str:
    """At the mean the weighted logarithms of the points add up to 0; no weights are equal weights."""
    geometry, x, _, tolerance = _geometry(subject)
    weights = torch.arange(1, ROWS + 1, dtype=x.dtype)
    texts = []
    for name, given, used in (("equal", None, torch.ones_like(weights)), ("weighted", weights, weights)):
        mean = geometry.mean(x) if given is None else geometry.mean(x, given)
        pulls = geometry.log(mean[None].expand_as(x), x)
        pull = torch.einsum("b,b...->...", used / used.sum(), pulls)
        texts.append(require_close(f"{name} pull", pull, torch.zeros_like(pull), max(tolerance, 1e-6)))
    return "; ".join(texts)


@check("transport-isometric", "geometry", level="numerics", capability="Transports")
def transport_isometric(subject: Subject) -> str:
    """Transport keeps inner products, and moves the start of a geodesic to its end."""
    geometry, x, y, tolerance = _geometry(subject)
    v, w = subject.normal(*x.shape, purpose="v"), subject.normal(*x.shape, purpose="w")
    moved = geometry.inner(y, geometry.transport(x, y, v), geometry.transport(x, y, w))
    texts = [
        require_close("inner products", moved, geometry.inner(x, v, w), tolerance),
        require_close("velocity", geometry.transport(x, y, geometry.log(x, y)), -geometry.log(y, x), tolerance),
    ]
    return "; ".join(texts)


@check("transport-inverts", "geometry", level="numerics", capability="Transports")
def transport_inverts(subject: Subject) -> str:
    """Transport is linear, leaves vectors alone from a point to itself, and is undone by transport back."""
    geometry, x, y, tolerance = _geometry(subject)
    v, w = subject.normal(*x.shape, purpose="v"), subject.normal(*x.shape, purpose="w")
    moved = geometry.transport(x, y, v)
    texts = [
        require_close(
            "of a sum", geometry.transport(x, y, 2 * v + w), 2 * moved + geometry.transport(x, y, w), tolerance
        ),
        require_close("to itself", geometry.transport(x, x, v), v, tolerance),
        require_close("there and back", geometry.transport(y, x, moved), v, tolerance),
    ]
    return "; ".join(texts)


@check("closed-form-geodesics", "geometry", level="numerics", capability="ClosedFormGeodesics")
def closed_form_geodesics(subject: Subject) -> str:
    """A geodesic is exp of its velocity times time, and its parts are geodesics, to 1e-8."""
    geometry, x, y, _ = _geometry(subject)
    times = torch.tensor([0.3, 0.8], dtype=x.dtype)
    path, velocity = geometry.geodesic(x, y, times), geometry.log(x, y)
    half = geometry.geodesic(x, path[:, 1], times[:1] / times[1])[:, 0]
    texts = [
        require_close("against exp", path[:, 0], geometry.exp(x, times[0] * velocity), CLOSED),
        require_close("log of a part", geometry.log(x, path[:, 0]), times[0] * velocity, CLOSED),
        require_close("geodesic of a part", half, path[:, 0], CLOSED),
    ]
    return "; ".join(texts)


CHECKS: tuple[Check, ...] = (
    geometry_shapes,
    geometry_batch_of_one,
    geometry_refuses,
    metric_spd,
    inner_of_metric,
    exp_log,
    distance,
    short_distances,
    triangle,
    distance_matrix,
    constant_speed,
    mean_balances,
    transport_isometric,
    transport_inverts,
    closed_form_geodesics,
)
