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
from scorefold_verbs.inputs import nearness, points_of

MOST = 2000
"""The most points of each set that an energy distance is taken between."""

_WORK = 5e8
"""The most numbers that are compared for an energy distance."""

_WIDEST = 1024
"""The most coordinates of which a covariance is taken."""

_MOST_ROWS = 50_000


def training_points(source: DataSource, count: int, context: StageContext) -> Dataset | None:
    """At most so many different training points, drawn at random, on the CPU.

    None where there are none, and where the stage reads the training split itself: they would be compared with
    themselves.
    """
    if context.split == "train":
        return None
    try:
        training = source.load("train")
    except SplitError:
        return None
    if len(training) == 0:
        return None
    order = torch.randperm(len(training), generator=context.generator("training points"))[:count]
    return training.take(order.sort().values).to(device="cpu", dtype=context.dtype)


@dataclass(frozen=True)
class Distances:
    """Energy distances from points of the stage's split: of ``samples``, and of as many training points, None without
    any."""

    samples: float
    training: float | None


def distances(x: Tensor, source: DataSource, context: StageContext) -> Distances | None:
    """How far samples (N, *E) are from the points of the stage's split; None where they can't be compared.

    Of many coordinates fewer points are compared, so that it takes seconds at most.
    """
    most = min(MOST, int((_WORK / max(1, x[0].numel())) ** 0.5), len(x))
    if tuple(source.event_shape) != tuple(x.shape[1:]):
        return None
    try:
        others = points_of(source, most, context).tensor().cpu()
    except SplitError:
        return None
    if min(most, len(others)) < 2:
        return None
    training = training_points(source, len(others), context)
    of_training = None
    if training is not None and len(training) > 1:
        of_training = energy_distance(training.tensor(), others)
    return Distances(energy_distance(x[:most].cpu(), others), of_training)


def gaussian_log_density(source: DataSource, points: Dataset, context: StageContext) -> float | None:
    """The mean log-density in nats of points under the normal distribution of the training split's mean and covariance.

    None where there are not twice as many training points as coordinates, or too many coordinates.
    """
    columns = math.prod(points.event_shape)
    training = None if columns > _WIDEST else training_points(source, _MOST_ROWS, context)
    if training is None or len(training) < 2 * columns:
        return None
    rows = training.tensor().flatten(1).double()
    covariance = torch.cov(rows.T).reshape(columns, columns)
    factor, failed = torch.linalg.cholesky_ex(covariance)
    if int(failed) or columns == 0:
        return None
    apart = points.tensor().flatten(1).cpu().double() - rows.mean(0)
    white = torch.linalg.solve_triangular(factor, apart.T, upper=False)
    log_volume = float(factor.diagonal().log().sum())
    return float(-0.5 * white.square().sum(0).mean()) - log_volume - 0.5 * columns * math.log(2 * math.pi)


def of_straight_lines(start: Tensor, end: Tensor, held_out: Tensor, source: DataSource) -> str:
    """Where the middles of straight lines between pairs (B, *E) lie, in the unit of ``nearness``."""
    near = nearness((start + end) / 2, held_out, source)
    return "" if near is None else f"the middles of straight lines are at {float(near.mean()):.3g}"
