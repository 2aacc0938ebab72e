"""Attacks on membership: how well a score model knows a point, by its losses and by paths without noise."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold.interfaces import ScoreModel
from scorefold.interfaces.score import BoundScore
from scorefold_audit.copying.nearest import Numbers
from scorefold_audit.membership.losses import errors_of, noise_at

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
