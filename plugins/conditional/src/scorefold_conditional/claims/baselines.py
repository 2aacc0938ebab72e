"""DPS, PiGDM and RePaint on the digits of ``claims.digits``, by one unconditional prior that never saw a task."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import torch

from scorefold.interfaces import ScoreModel
from scorefold.seeds import derive_generator, derive_seed
from scorefold_conditional.claims.digits import DRAWS, IMAGES, SEEDS, TASKS, digits_settings, measures
from scorefold_conditional.claims.training import ANCESTRAL
from scorefold_toolkit.operators import HasOperator
from scorefold_toolkit.training import fit

METHODS: Mapping[str, tuple[str, Mapping[str, Any], int]] = {
    "dps": ("score:dps", {}, 150),
    "pigdm": ("score:dps", {"variant": "pigdm"}, 150),
    "repaint": ("score:repaint", {}, 50),
}
"""Component, config and steps: RePaint's 50 steps are 410 moves, 10 draws of each after the first ten."""


def baseline_measure(host: Any, profile: str, seed: int, *, task: str, method: str, measure: str) -> float:
    """A measure of ``claims.digits.row`` of a baseline on a task, the mean over trainings of the prior."""
    values = [_measured(host, derive_seed(seed, "prior", n), task, method)[measure] for n in range(SEEDS[profile])]
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
def _measured(host: Any, seed: int, task: str, method: str) -> Mapping[str, float]:
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
