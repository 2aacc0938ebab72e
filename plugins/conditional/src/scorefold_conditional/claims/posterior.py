"""The estimators on a problem whose posterior is known. Each function takes a host, a profile and a seed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch

from scorefold.seeds import derive_generator, derive_seed
from scorefold_conditional.claims.training import ANCESTRAL, trained_conditional
from scorefold_conditional.data.posterior import PosteriorSource
from scorefold_toolkit.metrics import energy_distance

SIGMA_MAX = 20.0
STEPS, SAMPLER_STEPS = 3000, 200
CONDITIONS, DRAWS = 120, 200
SEEDS = {"quick": 3, "long": 10}


def posterior_settings(estimator: str, sigma_max: float) -> dict[str, Any]:
    """The configuration of a row: ``sigma_max`` is that of the condition, 0 for a clean one."""
    return {
        "estimator": estimator,
        "condition_speed": sigma_max / SIGMA_MAX,
        "process": {"name": "ve", "sigma_min": 0.01, "sigma_max": SIGMA_MAX},
        "network": {"use": "network:mlp", "config": {"width": 96, "blocks": 2}},
        "training": {"steps": STEPS, "batch_size": 256, "learning_rate": 2e-3, "ema": 0.999, "clip": None},
    }


def posterior_row(host: Any, profile: str, seed: int, *, estimator: str, sigma_max: float, measure: str) -> float:
    """A measure of an estimator, the mean over trainings.

    ``energy`` is the energy distance of draws to the exact posterior, ``mean`` the distance of their mean from the
    posterior mean, ``rms`` that of x_1 from y, both as root mean squares; over all conditions.
    """
    values = [
        _measured(host, derive_seed(seed, "ring", n), json.dumps(posterior_settings(estimator, sigma_max)))[measure]
        for n in range(SEEDS[profile])
    ]
    return sum(values) / len(values)


def ratio_to_clean(
    host: Any, profile: str, seed: int, *, estimator: str, sigma_max: float, measure: str, over: str = "cde"
) -> float:
    """A measure of an estimator over that of the clean condition's."""
    above = posterior_row(host, profile, seed, estimator=estimator, sigma_max=sigma_max, measure=measure)
    return above / posterior_row(host, profile, seed, estimator=over, sigma_max=0.0, measure=measure)


@cache
def _measured(host: Any, seed: int, config: str) -> Mapping[str, float]:
    source: PosteriorSource = host.create("data:posterior", generator=derive_generator(seed, "data"))
    model = trained_conditional(host, source, json.loads(config), seed)
    y = source.load("test").condition
    assert isinstance(y, torch.Tensor)
    y = y[:CONDITIONS]
    draws = model.sample(
        DRAWS,
        y,
        steps=SAMPLER_STEPS,
        generator=derive_generator(seed, "draws"),
        **ANCESTRAL,
    )
    # The exact posterior is computed where its source is, on the CPU.
    draws, y = draws.double().cpu(), y.cpu()
    exact = source.posterior.sample(DRAWS, y, derive_generator(seed, "exact"))
    gap = draws.mean(0) - source.posterior.mean(y)
    return {
        "energy": sum(energy_distance(draws[:, i], exact[:, i], unbiased=False) for i in range(len(y))) / len(y),
        "mean": float(gap.square().sum(1).mean().sqrt()),
        "rms": float((draws[..., 0] - y[:, 0]).square().mean().sqrt()),
    }
