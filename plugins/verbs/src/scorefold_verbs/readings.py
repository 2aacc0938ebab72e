"""What the number of a stage is compared with, as the end of its sentence."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold.errors import SplitError
from scorefold.interfaces import DataSource
from scorefold.stage import StageContext
from scorefold_toolkit.metrics import energy_distance
from scorefold_verbs.inputs import nearness, on_device, points_of

MOST = 2000
"""The most points of each set that an energy distance is taken between."""

_MOST_ROWS = 50_000
_WIDEST = 1024
"""The most coordinates of which a covariance is taken."""


def training_points(source: DataSource, count: int | None, context: StageContext, purpose: str) -> Dataset | None:
    """So many training points drawn at random, with repeats where there are fewer; None without a training split.

    A ``count`` of None is all of them, or 50,000.
    """
    try:
        training = on_device(context, source.load("train"))
    except SplitError:
        return None
    if len(training) == 0:
        return None
    generator = context.generator(purpose)
    count = min(len(training), _MOST_ROWS) if count is None else count
    repeats = -(-count // len(training))
    order = torch.cat([torch.randperm(len(training), generator=generator) for _ in range(repeats)])
    return training.take(order[:count].sort().values)


@dataclass(frozen=True)
class Distances:
    """Energy distances from held-out points: of ``samples``, and of as many training points, None without any."""

    samples: float
    training: float | None


def distances(x: Tensor, source: DataSource, context: StageContext) -> Distances | None:
    """How far samples (N, *E) are from the held-out points of a source; None for fewer than 2 of either."""
    held_out = points_of(source, min(MOST, len(x)), context).tensor().cpu()
    if min(len(x), len(held_out)) < 2:
        return None
    training = training_points(source, len(held_out), context, "training points")
    of_training = None if training is None else energy_distance(training.tensor().cpu(), held_out)
    return Distances(energy_distance(x[:MOST].cpu(), held_out), of_training)


def gaussian_log_density(source: DataSource, points: Dataset, context: StageContext) -> float | None:
    """The mean log-density in nats of points under the normal distribution of the training points' mean and covariance.

    None where there are not twice as many training points as coordinates, or too many coordinates.
    """
    columns = math.prod(points.event_shape)
    training = None if columns > _WIDEST else training_points(source, None, context, "normal distribution")
    if training is None or len(training) < 2 * columns:
        return None
    rows = training.tensor().flatten(1).double()
    covariance = torch.cov(rows.T).reshape(columns, columns)
    factor, failed = torch.linalg.cholesky_ex(covariance)
    if int(failed) or columns == 0:
        return None
    apart = points.tensor().flatten(1).to(rows) - rows.mean(0)
    white = torch.linalg.solve_triangular(factor, apart.T, upper=False)
    log_volume = float(factor.diagonal().log().sum())
    return float(-0.5 * white.square().sum(0).mean()) - log_volume - 0.5 * columns * math.log(2 * math.pi)


def of_straight_lines(start: Tensor, end: Tensor, held_out: Tensor, source: DataSource) -> str:
    """Where the middles of straight lines between pairs (B, *E) lie, in the unit of ``nearness``."""
    near = nearness((start + end) / 2, held_out, source)
    return "" if near is None else f"the middles of straight lines are at {float(near.mean()):.3g}"
