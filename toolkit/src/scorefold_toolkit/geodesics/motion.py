"""The equation of geodesics and of parallel transport, integrated by Dormand and Prince's pair of orders 5 and 4.

Each row has a step size of its own, so an answer does not depend on the other rows of its batch.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from scorefold.errors import DataError
from scorefold_toolkit.geodesics.metric import GeodesicMetric

_TABLE = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
_ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)
_MOST_STEPS = 2000
_CORRECTIONS = 8
_LEAST = 0.05
_FAR = 0.01
_DIFFERENCE = 1e-2
_ROUGH = 1e-6


def exponential(metric: GeodesicMetric, x: Tensor, v: Tensor, *, tolerance: float = 1e-9) -> tuple[Tensor, Tensor]:
    """The points and velocities (R, D) after unit time of geodesics from rows x (R, D) with velocities v (R, D).

    Raises ``DataError`` for geodesics that can't be followed for a unit of time.
    """
    found = _integrated(metric, torch.stack([x, v], 1), tolerance)
    return found[:, 0], found[:, 1]


def transported(
    metric: GeodesicMetric, x: Tensor, v: Tensor, vectors: Tensor, *, tolerance: float = 1e-9
) -> tuple[Tensor, Tensor]:
    """The end points (R, D), and vectors (R, D) carried in parallel along geodesics, as ``exponential``."""
    found = _integrated(metric, torch.stack([x, v, vectors], 1), tolerance)
    return found[:, 0], found[:, 2]


def shooting_velocities(metric: GeodesicMetric, x: Tensor, y: Tensor, v: Tensor, *, tolerance: float = 1e-9) -> Tensor:
    """Velocities at x (R, D) whose geodesics end at y (R, D), from guesses v (R, D), by Newton's method on the ends.

    The derivative is taken from D more geodesics a row, which are followed with less care, and again where a correction
    brings the end less than four times nearer. One with a new derivative that brings it no nearer is halved. A warning
    names geodesics that still end further from y than 1 % of the way.
    """
    v, end = v.clone(), exponential(metric, x, v, tolerance=tolerance)[0]
    goal, share = 10 * tolerance * (1 + y.abs().amax(1)), torch.ones_like(x[:, :1])
    columns, (new, old) = x.new_zeros(*x.shape, x.shape[1]), torch.tensor([[False], [True]]).repeat(1, len(x))
    for _ in range(_CORRECTIONS):
        miss = (y - end).norm(dim=1)
        act = ((miss > goal) & (share[:, 0] > _LEAST)).nonzero()[:, 0]
        if len(act) == 0:
            break
        stale = act[old[act]]
        if len(stale):
            columns[stale] = _end_by_velocity(metric, x[stale], v[stale])
            new[stale], old[stale] = True, False
        change = torch.linalg.lstsq(columns[act], (y - end)[act][:, :, None]).solution[:, :, 0]
        trial = v[act] + share[act] * change
        reached = exponential(metric, x[act], trial, tolerance=tolerance)[0]
        left = (y[act] - reached).norm(dim=1)
        good, slow = left < miss[act], left > miss[act] / 4
        v[act[good]], end[act[good]] = trial[good], reached[good]
        share[act] = torch.where((good | ~new[act])[:, None], 1.0, share[act] / 2)
        old[act] = slow & (good | ~new[act])
        new[act[good]] = False
    off = (y - end).norm(dim=1) / (y - x).norm(dim=1).clamp_min(1e-300)
    far = (off > _FAR) & ((y - end).norm(dim=1) > goal)
    if bool(far.any()):
        warnings.warn(
            f"{int(far.sum())} of {len(far)} logarithms were not corrected: their geodesics end up to "
            f"{float(off[far].max()):.1%} of the way from their points. They are very sensitive to the velocity; take "
            "nearer points",
            stacklevel=4,
        )
    return v


def _end_by_velocity(metric: GeodesicMetric, x: Tensor, v: Tensor) -> Tensor:
    """The derivative of the end of a geodesic by its velocity, (R, D, D), by central differences."""
    size = x.shape[1]
    step = _DIFFERENCE * v.norm(dim=1).clamp_min(1e-12)
    moves = step[:, None, None] * torch.eye(size, dtype=x.dtype, device=x.device)
    tried = torch.cat([v[:, None] + moves, v[:, None] - moves], 1)
    ends = exponential(metric, x.repeat_interleave(2 * size, 0), tried.flatten(0, 1), tolerance=_ROUGH)[0]
    ahead, behind = ends.unflatten(0, (len(x), 2 * size)).chunk(2, 1)
    columns: Tensor = ((ahead - behind) / (2 * step[:, None, None])).mT
    return columns


def _integrated(metric: GeodesicMetric, start: Tensor, tolerance: float) -> Tensor:
    def rate(state: Tensor) -> Tensor:
        x, v = state[:, 0], state[:, 1]
        parts = [v, metric.acceleration(x, v)]
        parts += [metric.transport_rate(x, v, w) for w in state[:, 2:].unbind(1)]
        return torch.stack(parts, 1)

    return integrate(rate, start, tolerance)


def integrate(rate: Callable[[Tensor], Tensor], start: Tensor, tolerance: float) -> Tensor:
    """y at time 1 of y' = rate(y) for rows y (R, C, D), each with steps of its own.

    ``tolerance`` bounds the error of a step over the largest size of each of the C parts. Raises ``DataError`` where
    2,000 steps do not suffice or numbers are not finite.
    """
    y, time = start.clone(), start.new_zeros(len(start))
    step = start.new_full((len(start),), 0.1)
    slope = rate(y) if len(y) else y
    for _ in range(_MOST_STEPS):
        act = (time < 1).nonzero()[:, 0]
        if len(act) == 0:
            return y
        here, h = y[act], torch.minimum(step[act], 1 - time[act])
        wide = h[:, None, None]
        slopes = [slope[act]]
        for row in _TABLE:
            point = here + wide * sum(weight * k for weight, k in zip(row, slopes, strict=True) if weight)
            slopes.append(rate(point))
        error = wide * sum(weight * k for weight, k in zip(_ERROR, slopes, strict=True) if weight)
        scale = torch.maximum(here.norm(dim=2), point.norm(dim=2)).clamp_min(1e-12)
        ratio = (error.norm(dim=2) / (tolerance * scale)).amax(1).nan_to_num(nan=1e9, posinf=1e9)
        ratio = torch.where(point.flatten(1).isfinite().all(1), ratio, torch.full_like(ratio, 1e9))
        good = ratio <= 1
        y[act[good]], slope[act[good]] = point[good], slopes[-1][good]
        whole = h[good] >= 1 - time[act[good]]
        time[act[good]] = torch.where(whole, torch.ones_like(h[good]), time[act[good]] + h[good])
        step[act] = h * (0.9 * ratio.clamp_min(1e-8) ** -0.2).clamp(0.1, 5)
        if bool((step[act] < 1e-12).any()):
            break
    raise DataError(
        "a geodesic can't be followed for a unit of time: the score is too steep there",
        hint="take a shorter vector, a higher noise or a smaller weight",
    )
