"""The estimators on inverse problems of handwritten digits. Each function takes a host, a profile and a seed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold.interfaces import DataSource
from scorefold.seeds import derive_generator, derive_seed
from scorefold_conditional.claims.training import ANCESTRAL, trained_conditional
from scorefold_toolkit.metrics import consistency, diversity, psnr, psnr_within
from scorefold_toolkit.operators import HasOperator, Mask, Operator

SIGMA_MAX = 8.0
STEPS, SAMPLER_STEPS = 1000, 100
IMAGES, DRAWS = 100, 5
SEEDS = {"quick": 3, "long": 5}
TASKS: Mapping[str, Mapping[str, Any]] = {
    "inpainting": {"name": "mask", "region": "square", "fraction": 0.25, "each": True},
    "super-resolution": {"name": "box-downsample", "factor": 2},
}
"""A random 4 x 4 hole for every image, without a mask channel; images of 4 x 4 pixels."""


def digits_settings(estimator: str, sigma_max: float) -> dict[str, Any]:
    """The configuration of a row: ``sigma_max`` is that of the condition in the end, 0 for a clean one."""
    return {
        "estimator": estimator,
        "condition_speed": sigma_max / SIGMA_MAX,
        "process": {"name": "ve", "sigma_min": 0.005, "sigma_max": SIGMA_MAX},
        "network": {"use": "network:unet", "config": {"channels": [16, 32]}},
        "training": {"steps": STEPS, "batch_size": 64, "learning_rate": 3e-3, "ema": 0.99},
    }


def digits_row(
    host: Any, profile: str, seed: int, *, task: str, estimator: str, sigma_max: float, measure: str
) -> float:
    """A measure of an estimator on a task, the mean over trainings.

    ``psnr`` of draws against the truth, ``hidden`` of their hidden pixels alone, ``consistency`` the PSNR of what the
    operator makes of draws and of the truth, all in decibels and means over images and draws; ``diversity`` the
    standard deviation of a pixel over the draws of one image, on the scale 0 to 255. Draws are clipped to [0, 1].
    """
    values = [
        _measured(host, task, derive_seed(seed, task, n), json.dumps(digits_settings(estimator, sigma_max)))[measure]
        for n in range(SEEDS[profile])
    ]
    return sum(values) / len(values)


def below_clean(
    host: Any, profile: str, seed: int, *, task: str, estimator: str, sigma_max: float, measure: str
) -> float:
    """Difference of an estimator's measure from the measure of the clean condition."""
    clean = digits_row(host, profile, seed, task=task, estimator="cde", sigma_max=0.0, measure=measure)
    return clean - digits_row(host, profile, seed, task=task, estimator=estimator, sigma_max=sigma_max, measure=measure)


def digits_source(host: Any, task: str, seed: int) -> DataSource:
    """Pairs of an image and what the task's operator makes of it."""
    digits = host.create("data:digits", generator=derive_generator(seed, "data"))
    made: DataSource = host.create("data:paired", {"operator": TASKS[task], "seed": 0}, data=digits)
    return made


@cache
def _measured(host: Any, task: str, seed: int, config: str) -> Mapping[str, float]:
    source = digits_source(host, task, seed)
    model = trained_conditional(host, source, json.loads(config), seed)
    test = source.load("test").take(torch.arange(IMAGES))
    draws = model.sample(
        DRAWS,
        test.condition,
        steps=SAMPLER_STEPS,
        generator=derive_generator(seed, "draws"),
        **ANCESTRAL,
    ).clamp(0, 1)
    assert isinstance(source, HasOperator)
    return measures(draws, test, source.operator.at(test.index))


def measures(draws: Tensor, test: Dataset, operator: Operator) -> dict[str, float]:
    """The measures of ``row`` of draws (n, N, *E) for test images (N, *E) and the operator that they went through."""
    flat, truth = draws.flatten(0, 1), test.x.repeat(len(draws), *[1] * (test.x.dim() - 1))
    found = {"psnr": float(psnr(flat, truth).mean()), "diversity": float(diversity(draws).mean())}
    if isinstance(operator, Mask):
        kept = operator(torch.ones_like(truth))
        found["consistency"] = float(psnr_within(flat, truth, kept).mean())
        found["hidden"] = float(psnr_within(flat, truth, 1 - kept).mean())
    else:
        found["consistency"] = float(consistency(operator, flat, truth).mean())
    return found
