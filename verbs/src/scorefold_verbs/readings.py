"""The baselines of a stage's numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold.errors import SplitError
from scorefold.interfaces import DataSource
from scorefold.stage import StageContext
from scorefold_toolkit.metrics import energy_distance, sharpness
from scorefold_verbs.inputs import choice, nearness, points_of
from scorefold_verbs.verdicts import of_paths, withheld

MOST = 2000
"""The most points of each set that an energy distance is taken between."""

_WORK = 5e8
"""The most numbers that are compared for an energy distance."""

_WIDEST = 1024
"""The most coordinates of which a covariance is taken."""

_MOST_ROWS = 50_000


def distinct_training_points(source: DataSource, count: int, context: StageContext) -> Dataset | None:
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
    order = torch.randperm(len(training), generator=choice(context, "training points"))[:count]
    return training.take(order.sort().values).to(device="cpu", dtype=context.dtype)


@dataclass(frozen=True)
class EnergyDistances:
    """Energy distances from points of the stage's split: of ``samples``, and of as many training points, None without
    any."""

    samples: float
    training: float | None


def energy_distances(x: Tensor, source: DataSource, context: StageContext) -> EnergyDistances | None:
    """The distance of samples (N, *E) from the points of the stage's split; None where they can't be compared.

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
    training = distinct_training_points(source, len(others), context)
    of_training = None
    if training is not None and len(training) > 1:
        of_training = energy_distance(training.tensor(), others)
    return EnergyDistances(energy_distance(x[:most].cpu(), others), of_training)


def gaussian_log_density(source: DataSource, points: Dataset, context: StageContext) -> float | None:
    """The mean log-density in nats of points under the normal distribution of the training split's mean and covariance.

    None where there are not twice as many training points as coordinates, or too many coordinates.
    """
    columns = math.prod(points.event_shape)
    training = None if columns > _WIDEST else distinct_training_points(source, _MOST_ROWS, context)
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


LOST = 3.0
"""How many times as far from the data as those of straight lines the middles of paths may lie."""

STRAIGHT = 1e-3
"""The share of the distance of its ends by which the middle of a straight line is off at most."""


def is_straight(middles: Tensor, start: Tensor, end: Tensor) -> bool:
    """Whether paths between ``start`` and ``end`` (B, *E) are straight lines, by their middles (B, *E)."""
    off = (middles - (start + end) / 2).flatten(1).norm(dim=1).mean()
    return bool(off <= STRAIGHT * (end - start).flatten(1).norm(dim=1).mean())


def of_path(
    middles: Tensor, start: Tensor, end: Tensor, source: DataSource, *, what: str, denoised: Tensor | None = None
) -> tuple[dict[str, float], dict[str, Any], list[str]]:
    """Metrics of the middles of paths between ``start`` and ``end`` (B, *E), the ``answer`` entry of a result, and
    warnings, of which there is one where the paths are lost: then there are no metrics, and the answer has no value.

    How far they are from the data, in the unit of ``nearness``, and of images their sharpness over that of the ends,
    next to straight lines: the mean of two images is blurred, and near to many. ``denoised`` (B, *E) are the denoised
    middles of straight lines, where something can denoise them: the baseline to beat. Paths that are straight lines are
    called so. The verdict is of ``verdicts.of_paths``. No entry where nothing is compared.
    """
    held_out, straight = torch.cat([start, end]), (start + end) / 2
    image = start.dim() == 4 and min(start.shape[2:]) >= 3
    baselines = [straight] if denoised is None else [straight, denoised]
    sharp = [float(sharpness(x.double()).mean()) for x in (held_out, middles, *baselines)] if image else [0.0] * 4
    real = sharp[0]
    share, *of_others = (value / (real or 1) for value in sharp[1:])
    metrics = {"sharpness of the middles over that of the points": share} if real else {}
    near, *lines = (nearness(x, held_out, source) for x in (middles, *baselines))
    if near is None:
        return metrics, {}, []
    value, error = float(near.mean()), 1.96 * float(near.std(correction=0)) / math.sqrt(len(near))
    others = [line for line in lines if line is not None]
    known = [float(line.mean()) for line in others]
    sharpnesses = (share, of_others[0]) if real else None
    interval = [value - error, value + error]
    answer: dict[str, Any] = {
        "quantity": f"distance of {what} middles from the data, in distances of held-out points",
        "value": value,
        "interval": interval,
        "baselines": dict(zip(("straight", "straight, denoised"), known, strict=False)),
        **of_paths(what, near, others, interval, straight=is_straight(middles, start, end), sharp=sharpnesses),
    }
    if value <= LOST * max(1.0, known[0]):
        if denoised is not None:
            metrics |= {"sharpness of denoised straight lines": of_others[1]} if real else {}
            metrics["denoised straight lines from the data"] = known[1]
        return {**metrics, "middles from the data": value}, {"answer": answer}, []
    text = f"the middles of the paths lie at {value:.3g}, and those of straight lines at {known[0]:.3g}"
    said = f"{text}: the model has not learned these data"
    return {}, {"answer": withheld(answer, said, "train the model longer, or take another")}, [said]
