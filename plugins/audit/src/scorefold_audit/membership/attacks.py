"""Attacks on membership: a score model's losses at a point, its paths without noise, and the local dimension there."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold.diffusion.divergence import divergence
from scorefold.interfaces import ScoreModel
from scorefold.interfaces.score import BoundScore
from scorefold_audit.copying.nearest import Numbers
from scorefold_audit.membership.losses import errors_of, noise_at

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

    ``t`` (1,) is the time, and that of eps(x_0, 0) the smallest of the process.
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
