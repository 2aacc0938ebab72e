"""Claims of trained flows: samples of a sphere, its dimension, and how denoising with the same network does."""

from __future__ import annotations

from functools import cache
from typing import Any

from scorefold.interfaces import ScoreModel
from scorefold.seeds import derive_generator
from scorefold_toolkit.training import fit

NETWORK = {"use": "network:mlp", "config": {"width": 64, "blocks": 2}}


@cache
def _source(host: Any, seed: int, ambient: int) -> Any:
    return host.create("data:sphere", {"dimension": 2, "ambient": ambient, "points": 6000, "seed": seed})


@cache
def _trained(host: Any, name: str, seed: int, ambient: int) -> ScoreModel:
    source = _source(host, seed, ambient)
    config = {"network": NETWORK, "training": {"steps": 1000}}
    model: Any = host.create(name, config, generator=derive_generator(seed, "weights"), data=source)
    fit(model, source.load("train"), model.training_config, seed=seed, precision=host.precision)
    trained: ScoreModel = model
    return trained


def _off_the_sphere(host: Any, name: str, seed: int) -> float:
    samples = _trained(host, name, seed, 3).sample(1000, generator=derive_generator(seed, "samples"))
    return float((samples.norm(dim=1) - 1).abs().mean())


def sphere_radius(host: Any, profile: str, seed: int) -> float:
    return _off_the_sphere(host, "score:flow-matching", seed)


def radius_ratio(host: Any, profile: str, seed: int) -> float:
    return sphere_radius(host, profile, seed) / _off_the_sphere(host, "score:denoising", seed)


def sphere_dimension(host: Any, profile: str, seed: int) -> float:
    source = _source(host, seed, 6)
    estimator = host.create("estimator:iddiff", score=_trained(host, "score:flow-matching", seed, 6))
    found = estimator.estimate(source.load("test"), generator=derive_generator(seed, "estimate")).value
    # No dimension counts as 0, so that a flow that supports none fails.
    return 0.0 if found is None else float(found)
