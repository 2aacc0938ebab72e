"""Membership: whether a model's losses, or its likelihoods, give away which points it was trained on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import ttest_ind
from torch import Tensor

from scorefold.data import Dataset
from scorefold.errors import DataError
from scorefold.interfaces import Flow, ScoreModel
from scorefold.interfaces.score import BoundScore
from scorefold_audit.copying.nearest import Numbers
from scorefold_audit.copying.statistics import Closeness, closeness
from scorefold_toolkit.drawing import condition_of

FEWEST = 20
_RARE = 0.01
_FEWEST_RARE = 100
_HALVINGS = 60


@dataclass(frozen=True)
class Membership:
    """``apart`` says how often a training point's loss is below a held-out point's (its area is 1/2 where nothing is
    given away); ``found`` is the share of training points below all but 1 % of the held-out ones, None for fewer than
    100 of these."""

    apart: Closeness
    found: float | None


def membership(training: Numbers, held_out: Numbers) -> Membership:
    """Of losses (n,) and (h,). Raises ``DataError`` for fewer than 20 points of either set."""
    for name, losses in (("training points", training), ("held-out points", held_out)):
        if len(losses) < FEWEST:
            raise DataError(f"the test of membership needs at least {FEWEST} {name}; {len(losses)} were given")
    rare = int(_RARE * len(held_out))
    found = None
    if len(held_out) >= _FEWEST_RARE:
        found = float((training < np.sort(held_out)[rare]).mean())
    return Membership(closeness(training, held_out), found)


@dataclass(frozen=True)
class Gap:
    """The mean log-likelihood in nats of training points, of held-out points, and their difference with its 95 %
    interval and the chance of one so large for equal means (Welch's test, one-sided)."""

    training: float
    held_out: float
    difference: float
    interval: tuple[float, float]
    p: float


def likelihood_gap(training: Numbers, held_out: Numbers) -> Gap:
    """Of log-likelihoods (n,) and (h,). Raises ``DataError`` for fewer than 20 points of either set."""
    if min(len(training), len(held_out)) < FEWEST:
        raise DataError(
            f"likelihoods of training and held-out points are compared from {FEWEST} of each on; {len(training)} and "
            f"{len(held_out)} were given"
        )
    test = ttest_ind(training, held_out, equal_var=False, alternative="greater")
    both = ttest_ind(training, held_out, equal_var=False).confidence_interval(0.95)
    means = float(training.mean()), float(held_out.mean())
    return Gap(*means, means[0] - means[1], (float(both.low), float(both.high)), float(test.pvalue))


def denoising_losses(model: ScoreModel, points: Dataset, t: Tensor, draws: int, batch_size: int, seed: int) -> Numbers:
    """|eps - eps-hat|^2 / D of points (N,) at time ``t`` (1,), over ``draws`` noises, the same for all points."""
    like = points.take(torch.arange(1)).x
    generator = torch.Generator().manual_seed(seed)
    noises = torch.randn(draws, *model.event_shape, generator=generator).to(like)

    def loss(score: BoundScore, x: Tensor) -> Tensor:
        times, total = t.expand(len(x)), x.new_zeros(len(x), dtype=torch.float64)
        for one in noises:
            eps = one.expand(len(x), *model.event_shape)
            expected = noise_at(model, score, model.process.perturb(x, times, eps), times)
            total += (eps - expected).flatten(1).double().square().mean(1)
        return total / draws

    return errors_of(model, points, batch_size, seed, loss)


def noise_at(model: ScoreModel, score: BoundScore, x: Tensor, t: Tensor) -> Tensor:
    """eps-hat (B, *E) at x (B, *E) and times (B,)."""
    return model.process.noise_from_score(score(x, t), x, t)


@torch.no_grad()
def errors_of(
    model: ScoreModel, points: Dataset, batch_size: int, seed: int, measure: Callable[[BoundScore, Tensor], Tensor]
) -> Numbers:
    """A number (N,) for each point: ``measure`` of the score, bound to a batch's conditions, and the batch (B, *E)."""
    found: list[Tensor] = []
    for batch in points.batches(batch_size):
        generator = torch.Generator(batch.x.device).manual_seed(seed)
        score = model.bind(condition_of(model, batch), generator=generator)
        found.append(measure(score, batch.x).cpu())
    return _finite(torch.cat(found), "losses")


def time_at(model: ScoreModel, noise: float, like: Tensor) -> Tensor:
    """The time (1,) at which the noise of the model's process is this many times its signal, or the nearest there is.

    By halving: the signal-to-noise ratio falls with time. Of components at several speeds the mean counts.
    """
    low, high = (like.new_full((1,), end, dtype=torch.float64) for end in (model.process.t_min, model.process.t_max))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        below = model.process.log_snr(middle.to(like)).double().mean() > -2 * math.log(noise)
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return ((low + high) / 2).to(like)


def log_likelihoods(model: ScoreModel | Flow, points: Dataset, batch_size: int, seed: int) -> Numbers:
    """log p of points (N,) in nats, of a score model by its ODE with two probes for each trace."""
    found: list[Tensor] = []
    for number, batch in enumerate(points.batches(batch_size)):
        generator = torch.Generator(batch.x.device).manual_seed(seed + number)
        condition = condition_of(model, batch)
        if isinstance(model, Flow):
            with torch.no_grad():
                value = model.log_prob(batch.x, condition, generator=generator)
        else:
            value = model.log_prob(batch.x, condition, trace="hutchinson", probes=2, generator=generator)
        found.append(value.detach().double().cpu())
    return _finite(torch.cat(found), "log-likelihoods")


def _finite(values: Tensor, what: str) -> Numbers:
    if wrong := int((~values.isfinite()).sum()):
        raise DataError(f"{wrong} of {len(values)} {what} are not finite")
    found: Numbers = values.numpy()
    return found
