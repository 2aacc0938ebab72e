"""Distances and densities of training points and normal distributions, with which answers are compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold.errors import SplitError
from scorefold.interfaces import DataSource
from scorefold.stage import StageContext
from scorefold_toolkit.drawing import EventCounts
from scorefold_toolkit.metrics import energy_distance, speckle
from scorefold_verbs.inputs import choice, points_of

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


def share_within(counts: Sequence[EventCounts], limits: object) -> tuple[dict[str, float], list[str]]:
    """A metric of the share of samples that lay inside limits, with a warning of a small share; empty without limits.

    >>> share_within([EventCounts(1, 2), EventCounts(1, 6)], (0.0, None))[0]
    {'share of samples within the limits': 0.25}
    """
    if limits is None:
        return {}, []
    share = sum(each.inside for each in counts) / sum(each.all for each in counts)
    warning = (
        f"{share:.0%} of the samples were within the limits, and the others were drawn again: the model's distribution "
        "does not end there, and its shape near the limits can be wrong. A coupling flow with its own 'within' has no "
        "density outside"
    )
    return {"share of samples within the limits": share}, [warning] if share < _HALF else []


_HALF = 0.5
"""The share of samples inside limits below which there is a warning."""

_FEWEST, _EXCHANGES = 10, 199
"""The fewest samples, and training points, that are exchanged at random, and how often."""


@dataclass(frozen=True)
class EnergyDistances:
    """Energy distances from points of the stage's split: of ``samples``, and of as many ``training`` points, None where
    there are too few. Samples that follow the distribution of the training points are farther by at most ``chance`` in
    95 % of random exchanges."""

    samples: float
    training: float | None = None
    chance: float = 0.0


def energy_distances(x: Tensor, source: DataSource, context: StageContext) -> EnergyDistances | None:
    """The distance of samples (N, *E) from the points of the stage's split; None where they can't be compared.

    Of many coordinates fewer points are compared, so that it takes seconds at most.
    """
    most = min(_most(x), len(x))
    others = _held_out(x, source, most, context)
    if others is None or min(most, len(others)) < 2:
        return None
    compared, training = x[:most].cpu(), distinct_training_points(source, most, context)
    few = training is None or min(len(compared), len(training)) < _FEWEST
    if training is None or few or not bool(training.tensor().isfinite().all()):
        return EnergyDistances(energy_distance(compared, others))
    return _exchanged(compared, training.tensor(), others, choice(context, "exchanges"))


def _most(x: Tensor) -> int:
    return min(MOST, int((_WORK / max(1, x[0].numel())) ** 0.5)) if len(x) else 0


def _held_out(x: Tensor, source: DataSource, most: int, context: StageContext) -> Tensor | None:
    """At most so many points of the stage's split on the CPU; None where there are none of the shape of samples."""
    if tuple(source.event_shape) != tuple(x.shape[1:]):
        return None
    try:
        return points_of(source, most, context).tensor().cpu()
    except SplitError:
        return None


def _exchanged(x: Tensor, training: Tensor, others: Tensor, generator: torch.Generator) -> EnergyDistances:
    """The distances of samples (n, *E) and training points (t, *E), and of random halves of both together."""
    every, rows = torch.cat([x, training]).flatten(1).double(), others.flatten(1).double()
    apart, within = _distances(every, every), float(_distances(rows, rows).sum()) / (len(rows) * (len(rows) - 1))
    across = _distances(every, rows).mean(1)
    first = _exchanges(len(x), len(every), generator)

    def of(chosen: Tensor) -> Tensor:
        members, size = chosen.double(), chosen.sum(0)
        return 2 * (across @ members) / size - ((apart @ members) * members).sum(0) / (size * (size - 1)) - within

    samples, trained = of(first), of(~first)
    return EnergyDistances(float(samples[0]), float(trained[0]), _exceeded((samples - trained)[1:], 0.05))


def _exchanges(first: int, every: int, generator: torch.Generator) -> Tensor:
    """Masks (every, 200) of ``first`` rows each: the first rows, and 199 random choices."""
    orders = torch.stack([torch.randperm(every, generator=generator) for _ in range(_EXCHANGES)], 1)
    return torch.cat([torch.arange(every)[:, None], orders], 1) < first


def _exceeded(differences: Tensor, share: float) -> float:
    """The difference that another one exceeds by chance with a probability of this share at most."""
    return float(differences.sort().values[math.ceil((1 - share) * (len(differences) + 1)) - 1])


def _distances(a: Tensor, b: Tensor) -> Tensor:
    # The form by a product of matrices loses half the digits of close pairs.
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


_SPECKLED, _RARE = 1.1, 0.01
"""The ratio of speckle from which on images differ, and how rarely chance may cause it."""


def speckle_ratio(x: Tensor, source: DataSource, context: StageContext) -> float | None:
    """Speckle of sampled images (N, C, H, W), divided by the speckle of the points of the stage's split; 1 where chance
    may explain the difference, and None where they can't be compared. It is infinite where only samples have any."""
    if x.dim() != 4 or min(x.shape[2:]) < 3:
        return None
    held_out = _held_out(x, source, _most(x), context)
    if held_out is None or min(len(x), len(held_out)) < _FEWEST:
        return None
    drawn, real = (torch.cat([speckle(part.float()) for part in each.split(16)]) for each in (x[: _most(x)], held_out))
    ratio = float(drawn.mean() / real.mean())
    if math.isnan(ratio) or 1 / _SPECKLED < ratio < _SPECKLED:
        return 1.0
    every = torch.cat([drawn.cpu(), real]).double()
    first = _exchanges(len(drawn), len(every), choice(context, "exchanges")).double()
    apart = ((every @ first) / len(drawn) - (every @ (1 - first)) / len(real)).abs()
    return ratio if float(apart[0]) > _exceeded(apart[1:], _RARE) else 1.0


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
