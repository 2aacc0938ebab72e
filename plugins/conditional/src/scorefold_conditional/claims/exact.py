"""Error of sampling with the exact score, and of the estimators on a problem whose posterior is known.

Each function of a claim takes a host, a profile and a seed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor

from scorefold.diffusion import VE, Schedule, time_grid
from scorefold.seeds import derive_generator, derive_seed
from scorefold_conditional.claims.digits import ANCESTRAL, ancestral, trained_conditional
from scorefold_conditional.conditional.layout import condition_schedule
from scorefold_conditional.conditional.objective import ConditionNoise
from scorefold_conditional.config import PosteriorConfig
from scorefold_conditional.posterior import PosteriorSource, RingPosterior
from scorefold_toolkit.metrics import energy_distance

CORRELATION = 0.9
PAIRS, PAIR_STEPS = 60_000, 500
CONDITIONS, DRAWS, RING_STEPS = 40, 250, 200

Exact = Callable[[Tensor, Tensor, float, float], Tensor]
"""(x_t, y_t, sigma_x, sigma_y) -> the score of x_t given y_t."""


def pair(host: Any, profile: str, seed: int, *, sigma_max: float, measure: str) -> float:
    """Result of a sampler with the exact score for a Gaussian pair of unit variances and correlation 0.9.

    The condition's noise rises to ``sigma_max``, and the event's noise to 50 (0: the condition stays clean). ``gain``
    is the mean of x divided by the condition, which should be 0.9. ``variance`` is the variance of x given the
    condition, which should be 0.19.
    """
    return _pair(seed, sigma_max)[measure]


def ring_energy(host: Any, profile: str, seed: int, *, sigma_max: float) -> float:
    """The energy distance, without the bias of finite samples, between the exact posterior of ``data:posterior`` and
    what a sampler with the exact score draws, the condition's noise rising to ``sigma_max`` beside the event's 20."""
    return _ring(seed, sigma_max)


@cache
def _pair(seed: int, sigma_max: float) -> Mapping[str, float]:
    def score(x: Tensor, y: Tensor, sigma_x: float, sigma_y: float) -> Tensor:
        gain = CORRELATION / (1 + sigma_y**2)
        return -(x - gain * y) / (1 - gain * CORRELATION + sigma_x**2)

    y = torch.ones(PAIRS, 1, dtype=torch.float64)
    x = _sampled(score, y, 1, sigma_max, 50.0, PAIR_STEPS, derive_generator(seed, "pair"))
    # The distribution at the end carries the last noise, of standard deviation 0.01, which its step leaves out.
    return {"gain": float(x.mean()), "variance": float(x.var())}


@cache
def _ring(seed: int, sigma_max: float) -> float:
    posterior = RingPosterior(PosteriorConfig())
    generator = derive_generator(seed, "ring")
    config, means = posterior.config, posterior.means
    chosen = torch.randint(config.modes, (CONDITIONS,), generator=generator)
    wide = (config.std**2 + config.noise_std**2) ** 0.5
    y = means[chosen, :1] + wide * torch.randn(CONDITIONS, 1, generator=generator, dtype=torch.float64)
    exact = posterior.sample(DRAWS, y, generator)
    x = _sampled(posterior.score, y.repeat(DRAWS, 1), 2, sigma_max, 20.0, RING_STEPS, generator)
    draws = x.reshape(DRAWS, CONDITIONS, 2)
    return sum(energy_distance(draws[:, i], exact[:, i]) for i in range(CONDITIONS)) / CONDITIONS


def _sampled(
    score: Exact, y: Tensor, width: int, sigma_max: float, event_max: float, steps: int, generator: torch.Generator
) -> Tensor:
    """One draw for each condition y (B, 1) by ancestral steps with fresh noise on the condition: (B, width)."""
    process = VE(0.01, event_max)
    slow: Schedule | None = condition_schedule(process.schedule, sigma_max / event_max) if sigma_max else None
    noise = ConditionNoise("fresh", generator)

    def bound(x: Tensor, t: Tensor) -> Tensor:
        sigma_x = float(process.schedule.signal_scale(t[:1])[1])
        if slow is None:
            return score(x, y, sigma_x, 0.0)
        return score(x, noise.at(y, t, slow), sigma_x, float(slow.signal_scale(t[:1])[1]))

    x = process.sample_prior((len(y), width), generator=generator, like=y)
    return ancestral(bound, process, x, time_grid(process, steps), generator=generator)[0]


SIGMA_MAX = 20.0
STEPS, SAMPLER_STEPS = 3000, 200
POSTERIOR_CONDITIONS, POSTERIOR_DRAWS = 120, 200
SEEDS = {"quick": 3, "long": 10}


def posterior_settings(estimator: str, sigma_max: float) -> dict[str, Any]:
    """The configuration of a row. ``sigma_max`` is the largest noise of the condition, 0 for a clean condition."""
    return {
        "estimator": estimator,
        "condition_speed": sigma_max / SIGMA_MAX,
        "process": {"name": "ve", "sigma_min": 0.01, "sigma_max": SIGMA_MAX},
        "network": {"use": "network:mlp", "config": {"width": 96, "blocks": 2}},
        "training": {"steps": STEPS, "batch_size": 256, "learning_rate": 2e-3, "ema": 0.999, "clip": None},
    }


def posterior_row(host: Any, profile: str, seed: int, *, estimator: str, sigma_max: float, measure: str) -> float:
    """A measure of an estimator, the mean over trainings.

    ``energy`` is the energy distance of draws to the exact posterior, averaged over all conditions. ``mean`` is the
    distance of their mean from the posterior mean, and ``rms`` the distance of x_1 from y. Both are root mean squares
    over all conditions.
    """
    values = [
        _measured(host, derive_seed(seed, "ring", n), json.dumps(posterior_settings(estimator, sigma_max)))[measure]
        for n in range(SEEDS[profile])
    ]
    return sum(values) / len(values)


def ratio_to_clean(
    host: Any, profile: str, seed: int, *, estimator: str, sigma_max: float, measure: str, over: str = "cde"
) -> float:
    """Ratio of a measure of an estimator to the measure with the clean condition."""
    above = posterior_row(host, profile, seed, estimator=estimator, sigma_max=sigma_max, measure=measure)
    return above / posterior_row(host, profile, seed, estimator=over, sigma_max=0.0, measure=measure)


@cache
def _measured(host: Any, seed: int, config: str) -> Mapping[str, float]:
    source: PosteriorSource = host.create("data:posterior", generator=derive_generator(seed, "data"))
    model = trained_conditional(host, source, json.loads(config), seed)
    y = source.load("test").condition
    assert isinstance(y, torch.Tensor)
    y = y[:POSTERIOR_CONDITIONS]
    draws = model.sample(
        POSTERIOR_DRAWS,
        y,
        steps=SAMPLER_STEPS,
        generator=derive_generator(seed, "draws"),
        **ANCESTRAL,
    )
    # The exact posterior is computed where its source is, on the CPU.
    draws, y = draws.double().cpu(), y.cpu()
    exact = source.posterior.sample(POSTERIOR_DRAWS, y, derive_generator(seed, "exact"))
    gap = draws.mean(0) - source.posterior.mean(y)
    return {
        "energy": sum(energy_distance(draws[:, i], exact[:, i], unbiased=False) for i in range(len(y))) / len(y),
        "mean": float(gap.square().sum(1).mean().sqrt()),
        "rms": float((draws[..., 0] - y[:, 0]).square().mean().sqrt()),
    }
