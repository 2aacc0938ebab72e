"""The estimators on inverse problems of handwritten digits, and DPS, PiGDM and RePaint by one unconditional prior.

Each function takes a host, a profile and a seed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold.diffusion import predictor_corrector
from scorefold.interfaces import DataSource, ScoreModel
from scorefold.seeds import derive_generator, derive_seed
from scorefold_conditional.conditional.model import Conditional
from scorefold_toolkit.metrics import consistency, diversity, psnr, psnr_within
from scorefold_toolkit.operators import HasOperator, Mask, Operator
from scorefold_toolkit.training import fit


def ancestral(*arguments: Any, **options: Any) -> tuple[Tensor, Any]:
    """Ancestral steps alone, ``predictor_corrector`` without its corrector: what the paper calls the predictor."""
    return predictor_corrector(*arguments, corrector_steps=0, **options)  # type: ignore[call-arg]


ANCESTRAL: dict[str, Any] = {"sampler": ancestral, "spacing": "uniform", "to_zero": False}
"""Sampling of the measured claims: as published, down to the least noise and no further."""


def trained_conditional(host: Any, data: DataSource, config: Mapping[str, Any], seed: int) -> Conditional:
    """A conditional score trained on the training points of a source, its weights and batches from ``seed``."""
    model: Conditional = host.create(
        "score:conditional", dict(config), generator=derive_generator(seed, "weights"), data=data
    )
    fit(model, data.load("train"), model.training_config, seed=seed, precision=host.precision)
    return model


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
    """The configuration of a row. ``sigma_max`` is the condition's noise at the last time, 0 for a clean condition."""
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


METHODS: Mapping[str, tuple[str, Mapping[str, Any], int]] = {
    "dps": ("score:dps", {}, 150),
    "pigdm": ("score:dps", {"variant": "pigdm"}, 150),
    "repaint": ("score:repaint", {}, 50),
}
"""Component, config and steps: RePaint's 50 steps are 410 moves, 10 draws of each after the first ten."""


def baseline_measure(host: Any, profile: str, seed: int, *, task: str, method: str, measure: str) -> float:
    """A measure of ``_measured`` of a baseline on a task, the mean over trainings of the prior."""
    values = [
        _measured_baseline(host, derive_seed(seed, "prior", n), task, method)[measure] for n in range(SEEDS[profile])
    ]
    return sum(values) / len(values)


@cache
def _prior(host: Any, seed: int) -> ScoreModel:
    """A score of digits with the process, network and training of the conditional ones."""
    config = {
        name: value for name, value in digits_settings("cde", 0.0).items() if name in ("process", "network", "training")
    }
    config["weighting"] = "simple"
    digits = host.create("data:digits", generator=derive_generator(seed, "data"))
    prior: Any = host.create("score:denoising", config, generator=derive_generator(seed, "weights"), data=digits)
    fit(prior, digits.load("train"), prior.training_config, seed=seed, precision=host.precision)
    prior.eval()
    model: ScoreModel = prior
    return model


@cache
def _measured_baseline(host: Any, seed: int, task: str, method: str) -> Mapping[str, float]:
    name, config, steps = METHODS[method]
    digits = host.create("data:digits", generator=derive_generator(seed, "data"))
    paired = {"operator": TASKS[task], "seed": 0, "mask": task == "inpainting"}
    source = host.create("data:paired", paired, data=digits)
    test = source.load("test").take(torch.arange(IMAGES))
    model = host.create(name, {"operator": TASKS[task], **config}, prior=_prior(host, seed))
    draws = model.sample(
        DRAWS, test.condition, steps=steps, generator=derive_generator(seed, "draws"), **ANCESTRAL
    ).clamp(0, 1)
    assert isinstance(source, HasOperator)
    return measures(draws, test, source.operator.at(test.index))
