"""Membership: whether a model's losses, or its likelihoods, give away which points it was trained on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import ttest_ind
from torch import Tensor

from scorefold.data import Dataset
from scorefold.errors import DataError
from scorefold.interfaces import Flow, ScoreModel
from scorefold_audit.copies import Closeness, closeness
from scorefold_audit.nearest import Numbers
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


@torch.no_grad()
def denoising_losses(
    model: ScoreModel, points: Dataset, noise: float, draws: int, batch_size: int, seed: int
) -> Numbers:
    """|eps - eps-hat|^2 / D of points (N,) at one noise level, over ``draws`` noises that are the same for all points.

    ``noise`` is the ratio of noise to signal, brought into the range of the model's process.
    """
    generator = torch.Generator().manual_seed(seed)
    like = points.take(torch.arange(1)).x
    noises = torch.randn(draws, *model.event_shape, generator=generator).to(like)
    t = time_at(model, noise, like)
    found: list[Tensor] = []
    for batch in points.batches(batch_size):
        score = model.bind(condition_of(model, batch), generator=torch.Generator(like.device).manual_seed(seed))
        times = t.expand(len(batch))
        total = torch.zeros(len(batch), dtype=torch.float64)
        for one in noises:
            eps = one.expand(len(batch), *model.event_shape)
            x = model.process.perturb(batch.x, times, eps)
            expected = model.process.noise_from_score(score(x, times), x, times)
            total += (eps - expected).flatten(1).double().square().mean(1).cpu()
        found.append(total / draws)
    return _finite(torch.cat(found), "losses")


def time_at(model: ScoreModel, noise: float, like: Tensor) -> Tensor:
    """The time (1,) at which the noise of the model's process is this many times its signal, or the nearest there is.

    By halving: the signal-to-noise ratio falls with time. Of components at several speeds the mean counts.
    """
    low, high = model.process.t_min, model.process.t_max
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        log_snr = float(model.process.log_snr(like.new_full((1,), middle)).double().mean())
        low, high = (middle, high) if log_snr > -2 * math.log(noise) else (low, middle)
    return like.new_full((1,), (low + high) / 2)


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
