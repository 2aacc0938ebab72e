"""From events to the noise that decides them and back: the probability flow of a score, the map of a flow."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from scorefold.data import Condition
from scorefold.diffusion import DiffusionProcess, heun, time_grid
from scorefold.diffusion.process import ProbabilityFlowStep as FlowFactors
from scorefold.diffusion.process import ScoreFunction, each_step, moved
from scorefold.diffusion.samplers import noiseless
from scorefold.errors import ConfigError
from scorefold.interfaces import Flow, ScoreModel
from scorefold.interfaces.score import BoundScore
from scorefold.stage import reported
from scorefold_toolkit.nn import Quadratic

STEPS = 64
"""Steps of Heun's method each way by default: two calls of the score a step."""


@torch.no_grad()
def encode_noise(
    model: ScoreModel | Flow,
    x: Tensor,
    condition: Condition | None = None,
    *,
    steps: int | None = None,
    spacing: str | None = None,
    generator: torch.Generator | None = None,
    **options: Any,
) -> Tensor:
    """The noise (B, *E) of events x (B, *E), each given its row of the condition.

    Of a score it is where dx/dt = f - 1/2 G G^T score (Song et al. 2021, eq. 13) leads from x at t_min, at t_max, by
    Heun's method with an error of second order in ``steps`` (64, spaced as ``karras``); ``decode_noise`` on the same
    grid brings x back with one of third order. Of a flow it is z = forward(x), and there are no steps. ``generator``
    and further ``options`` go to the score's ``bind``. Raises ``ConfigError`` for options that do not fit,
    ``ShapeError`` for events that don't.

    >>> from scorefold_registry import Host
    >>> normal = {"use": "data:subspace", "config": {"dimension": 2, "ambient": 2, "points": 100}}
    >>> score = Host.discover().create("score:analytic", {"process": "vp"}, data=normal)
    >>> x = torch.tensor([[1.0, -2.0]])
    >>> noise = encode_noise(score, x)  # of standard normal data, under a process that keeps the variance
    >>> torch.allclose(noise, x, atol=0.02), torch.allclose(decode_noise(score, noise), x, atol=0.002)
    (True, True)
    """
    model.check_events(x)
    if isinstance(model, Flow):
        _refuse(model, steps=steps, spacing=spacing, **options)
        return model.forward(x, condition)[0]
    bound = model.bind(condition, generator=generator, **options)
    return to_noise(bound, model.process, x, _grid(model, steps, spacing))


@torch.no_grad()
def decode_noise(
    model: ScoreModel | Flow,
    noise: Tensor,
    condition: Condition | None = None,
    *,
    steps: int | None = None,
    spacing: str | None = None,
    generator: torch.Generator | None = None,
    **options: Any,
) -> Tensor:
    """The events (B, *E) at t_min that noise (B, *E) leads to: ``encode_noise`` the other way, with its options."""
    model.check_events(noise)
    if isinstance(model, Flow):
        _refuse(model, steps=steps, spacing=spacing, **options)
        return model.inverse(noise, condition)[0]
    bound = model.bind(condition, generator=generator, **options)
    return heun(bound, model.process, noise, _grid(model, steps, spacing))[0]


def to_noise(bound: BoundScore, process: DiffusionProcess, x: Tensor, times: Tensor) -> Tensor:
    """Events x (B, *E) at the last of decreasing ``times`` as they stand at the first, along the probability flow."""
    # A step at a time: given the whole grid the sampler reports all steps before it takes the first.
    ends = [torch.stack(pair) for pair in pairwise(times)]
    for pair in reported(reversed(ends), len(ends), "steps to the noise"):
        x = invert_heun(bound, process, x, pair)[0]
    return x


def standardised_noise(model: ScoreModel | Flow, noise: Tensor) -> Tensor:
    """Noise (B, *E) about its centre: what great circles are taken of.

    Of a score less the mean of the data as it stands at t_max; of a flow less the centre of its base, and over the
    base's deviations where it is normal.
    """
    if isinstance(model, Flow):
        base = model.base
        return base.whiten(noise) if isinstance(base, Quadratic) else noise - base.centre
    return noise - _centre(model, noise)


def unstandardised_noise(model: ScoreModel | Flow, standard: Tensor) -> Tensor:
    """The inverse of ``standardised_noise``."""
    if isinstance(model, Flow):
        base = model.base
        return base.unwhiten(standard) if isinstance(base, Quadratic) else standard + base.centre
    return standard + _centre(model, standard)


def _centre(model: ScoreModel, like: Tensor) -> Tensor:
    mean = torch.zeros_like(like[:1]) + model.event_scale.middle(like)
    return model.process.marginal(mean, like.new_tensor([model.process.t_max]))[0]


def _grid(model: ScoreModel, steps: int | None, spacing: str | None) -> Tensor:
    return time_grid(model.process, STEPS if steps is None else steps, spacing or "karras")


def _refuse(flow: Flow, **options: Any) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise ConfigError(
            f"{', '.join(given)} was given, and {type(flow).__name__} goes to its code and back by one map",
            hint="leave it out: steps and the like are of scores",
        )


@noiseless
def invert_heun(score: ScoreFunction, process: DiffusionProcess, x: Tensor, times: Tensor) -> Tensor:
    """From data to noise: Heun's method along the probability flow the other way. Order 2, as ``heun``.

    ``times`` decrease as for every sampler; x is an event at the last of them, and comes back as it stands at the
    first. ``heun`` with the same score and times brings it back, up to the error of the steps.
    """
    for step, flow in reversed(list(each_step(process, x, times, FlowFactors.of))):
        here, there, towards = flow[2:], flow[:2], score(x, step.t_next)
        half = moved(x, step.h / 2, here, x, towards)
        guess = moved(half, step.h / 2, here, x, towards)
        x = moved(half, step.h / 2, there, guess, score(guess, step.t))
    return x
