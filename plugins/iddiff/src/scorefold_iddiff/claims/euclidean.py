"""The paper's Euclidean rows: a plain network with the published rule, ours at one setting, the field's estimators.

Each function of a claim takes a host, a profile and a seed, as in ``scorefold_iddiff.claims.spheres``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from scorefold.interfaces import DataSource, ScoreModel
from scorefold.results import Estimate
from scorefold.seeds import derive_generator, derive_seed
from scorefold_toolkit.training import fit


def trained_score(host: Any, data: DataSource, config: Mapping[str, Any], seed: int) -> ScoreModel:
    """A score of the training points, by the settings of ``score:denoising``."""
    score = host.create("score:denoising", config, generator=derive_generator(seed, "weights"), data=data)
    fit(score, data.load("train"), score.training_config, seed=seed, precision=host.precision)
    assert isinstance(score, ScoreModel)
    return score


POINTS = 50_000
"""Points of a sphere over all splits, as published; of the curve there are a fifth as many."""

SEEDS = 5
READ = {"smoke": 200, "quick": 200, "long": 1000}
"""Points of the test split at which a dimension is read."""

PLAIN_STEPS = {"smoke": 400, "quick": 2000, "long": 20_000}
"""At 45 to 55 ms a step on one core, smoke takes 22 CPU seconds and quick 92."""

OUR_STEPS = {"quick": 2000, "long": 20_000}
"""At 19 ms a step on one core, quick takes 38 CPU seconds."""

OURS = {
    "process": {"name": "ve", "sigma_min": 0.01, "sigma_max": 1.0, "relative": True},
    "prediction": "eps",
    "network": {"use": "network:manifold-mlp"},
    "training": {"learning_rate": 2e-3},
}
"""All else is as the components have it by default, the automatic noise level too."""

CLASSICAL: dict[str, dict[str, Any]] = {
    "mle": {"resamples": 0},
    "lpca": {"resamples": 0, "limit": 2000},
    "ppca": {},
    "twonn": {"resamples": 0},
    "danco": {"resamples": 0, "limit": 2000},
    "fishers": {"resamples": 0, "limit": 2000},
}
"""The field's estimators beside what a score says, and their settings."""

PLAIN = {
    "process": {"name": "ve", "sigma_min": 0.01, "sigma_max": 4.0},
    "prediction": "eps",
    "network": {"use": "network:mlp", "config": {"width": 512, "blocks": 3, "activation": "silu"}},
}


def paper_set(host: Any, name: str, seed: int) -> DataSource:
    """One of the paper's sets in R^100: sphere-10, sphere-50, spaghetti, or the union of a 10-sphere of radius 1 and
    a 30-sphere of radius 1/4 around the same centre."""
    drawn = derive_generator(seed, name)
    made: DataSource
    if name == "spaghetti":
        made = host.create("data:spaghetti", {"ambient": 100, "points": POINTS // 5}, generator=drawn)
    elif name == "union":
        parts = [_sphere(host, 10, 1.0, seed), _sphere(host, 30, 0.25, seed)]
        made = host.create("data:union", {}, generator=drawn, parts=parts)
    else:
        made = _sphere(host, int(name.removeprefix("sphere-")), 1.0, seed)
    return made


def _sphere(host: Any, dimension: int, radius: float, seed: int) -> DataSource:
    settings = {"dimension": dimension, "ambient": 100, "radius": radius, "points": POINTS}
    made: DataSource = host.create("data:sphere", settings, generator=derive_generator(seed, "sphere", dimension))
    return made


def with_steps(config: dict[str, Any], steps: int) -> dict[str, Any]:
    return {**config, "training": {"steps": steps, "batch_size": 256, **config.get("training", {})}}


def estimate_on_test(
    host: Any, score: ScoreModel, data: DataSource, settings: dict[str, Any], seed: int
) -> tuple[Estimate, Tensor]:
    """The estimate on points of the test split, which nothing has seen before, and their true dimensions."""
    test = data.load("test")
    found = host.create("estimator:iddiff", settings, score=score).estimate(
        test, generator=derive_generator(seed, "noise")
    )
    truth = torch.as_tensor(test.truth["dimension"]).expand(len(test))
    return found, truth[found.diagnostics["index"]]


@lru_cache(maxsize=1)
def plain_dimensions(host: Any, name: str, profile: str, seed: int) -> tuple[Tensor, Tensor]:
    """Dimensions by the reference rule at sigma 0.01 with a plain network, and the true ones."""
    data = paper_set(host, name, seed)
    score = trained_score(host, data, with_steps(PLAIN, PLAIN_STEPS[profile]), seed)
    settings = {"rule": "reference", "sigma": 0.01, "sweep": [], "aggregate": "mode", "points": READ[profile]}
    found, truth = estimate_on_test(host, score, data, settings, seed)
    assert found.pointwise is not None
    return found.pointwise, truth


def plain_mode(host: Any, profile: str, seed: int, *, data: str, dimension: int) -> float:
    """The mode over the points whose true dimension is ``dimension``, with a plain network."""
    found, truth = plain_dimensions(host, data, profile, seed)
    return float(found[truth == dimension].mode().values)


def our_shares(host: Any, name: str, profile: str, seed: int) -> list[float]:
    """The share of points at which the dimension is the true one, for each of five trainings on data of their own."""
    shares = []
    for number in range(SEEDS):
        own = derive_seed(seed, name, number)
        data = paper_set(host, name, own)
        score = trained_score(host, data, with_steps(OURS, OUR_STEPS[profile]), own)
        found, truth = estimate_on_test(host, score, data, {"points": READ[profile]}, own)
        assert found.pointwise is not None
        shares.append(float(found.pointwise.eq(truth).double().mean()))
        print(
            f"{name}, training {number}: {shares[-1]:.2f} right at sigma {found.diagnostics['sigma']:.3g}", flush=True
        )
    return shares


def our_share(host: Any, profile: str, seed: int, *, data: str) -> float:
    """The least share of points with the true dimension over the five trainings."""
    return min(our_shares(host, data, profile, seed))


def classical(host: Any, profile: str, seed: int, *, estimator: str, data: str) -> float:
    """One dimension for the training points of a set, of which the slow estimators take 2,000."""
    points = paper_set(host, data, seed).load("train")
    made = host.create(f"estimator:{estimator}", CLASSICAL[estimator])
    return float(made.estimate(points, generator=derive_generator(seed, estimator)).number())
