"""Membership: whether a model's losses, or its likelihoods, give away which points it was trained on."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from scipy.stats import ttest_ind
from torch import Tensor

from scorefold.data import Dataset
from scorefold.diffusion.divergence import divergence
from scorefold.errors import DataError
from scorefold.interfaces import Flow, ScoreModel
from scorefold.interfaces.score import BoundScore
from scorefold_audit.copying.nearest import Closeness, Numbers, closeness
from scorefold_toolkit.checks import values_of
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
    """Membership by losses (n,) and (h,). Raises ``DataError`` for fewer than 20 points of either set."""
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
    """Gap of log-likelihoods (n,) and (h,). Raises ``DataError`` for fewer than 20 points of either set."""
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
                value = values_of(model.log_prob, len(batch), batch.x, condition, generator=generator)
        else:
            how = {"trace": "hutchinson", "probes": 2, "generator": generator}
            value = values_of(model.log_prob, len(batch), batch.x, condition, **how)
        found.append(value.detach().double().cpu())
    return _finite(torch.cat(found), "log-likelihoods")


def _finite(values: Tensor, what: str) -> Numbers:
    if wrong := int((~values.isfinite()).sum()):
        raise DataError(f"{wrong} of {len(values)} {what} are not finite")
    found: Numbers = values.numpy()
    return found


_EXACT = 64
"""Coordinates up to which the trace is exact; above, it is taken from probes."""

_PROBES = 8


def local_dimensions(model: ScoreModel, points: Dataset, t: Tensor, batch_size: int, seed: int) -> Numbers:
    """LID = D + s^2 (tr grad score + |score|^2) of points (N,), with the score of the data with noise s.

    This is D + d ln p_s / d ln s, exact (Kamkari et al. 2024): the dimension of the model's distribution around a point
    as it looks at noise s, 0 for a point that stands alone, and below 0 or far above D far from all data. s is the
    ratio of noise to signal at time ``t`` (1,).
    """

    def dimension(score: BoundScore, x: Tensor) -> Tensor:
        # At signal a and noise b the data with noise b / a stand at a x, and s^2 score^2 is b^2 score_t^2.
        signal, scale = model.process.coefficients(x, t.expand(len(x)))
        generator = torch.Generator(x.device).manual_seed(seed)
        exact = x[0].numel() <= _EXACT

        def scaled(y: Tensor) -> Tensor:
            return -scale * model.process.noise_from_score(score(y, t.expand(len(y))), y, t.expand(len(y)))

        value, trace = divergence(
            scaled,
            signal * x,
            trace="exact" if exact else "hutchinson",
            probes=_PROBES,
            generator=generator,
            mode=model.divergence_mode,
        )
        squared = (value / scale).flatten(1).double().square().sum(1)
        return x[0].numel() + trace.detach().double() + squared

    return errors_of(model, points, batch_size, seed, dimension)


STEPS = 10
"""Steps of the path of SecMI to its time; one more leads forth and back."""


def proximal_errors(model: ScoreModel, points: Dataset, t: Tensor, batch_size: int, seed: int) -> Numbers:
    """sum |eps(x_0, 0) - eps(x_t, t)|^4 of points (N,), with x_t made from eps(x_0, 0) (PIA; Kong et al. 2024).

    ``t`` (1,) is the time t. For eps(x_0, 0) the time is the smallest time of the process.
    """
    return errors_of(model, points, batch_size, seed, partial(_proximal, model, t))


def _proximal(model: ScoreModel, t: Tensor, score: BoundScore, x: Tensor) -> Tensor:
    start, end = x.new_full((len(x),), model.process.t_min), t.expand(len(x))
    first = noise_at(model, score, x, start)
    moved = model.process.perturb(x, end, first)
    return (first - noise_at(model, score, moved, end)).flatten(1).double().pow(4).sum(1)


def step_errors(model: ScoreModel, points: Dataset, t: Tensor, batch_size: int, seed: int) -> Numbers:
    """The squared error (N,) of one DDIM step forth and back at time ``t`` (1,), after steps without noise from the
    points to there (SecMI; Duan et al. 2023)."""
    return errors_of(model, points, batch_size, seed, partial(_step, model, t))


def _step(model: ScoreModel, t: Tensor, score: BoundScore, x: Tensor) -> Tensor:
    low, high, end = model.process.t_min, model.process.t_max, float(t)
    times = torch.linspace(low, end, STEPS + 1).tolist()
    move: Callable[[Tensor, float, float], Tensor] = partial(_ddim, model, score)
    for before, after in itertools.pairwise(times):
        x = move(x, before, after)
    further = min(high, end + (end - low) / STEPS)
    back = move(move(x, end, further), further, end)
    return (back - x).flatten(1).double().square().sum(1)


def _ddim(model: ScoreModel, score: BoundScore, x: Tensor, before: float, after: float) -> Tensor:
    """x (B, *E) at one time, moved to another without noise: x_0-hat and eps-hat put together again."""
    start, end = x.new_full((len(x),), before), x.new_full((len(x),), after)
    at = score(x, start)
    clean = model.process.denoised_from_score(at, x, start)
    return model.process.perturb(clean, end, model.process.noise_from_score(at, x, start))
