"""Fashion-MNIST at 28 pixels: a uniform and a multi-scale model of equal size, for equal CPU time.

Both are the defaults of their components but for the networks. Each function of a claim takes a host, a profile and a
seed, and answers None where the data set or diffusers is not installed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from scorefold.interfaces import DataSource
from scorefold.seeds import derive_generator, derive_seed
from scorefold_toolkit.data.images import fashion_mnist
from scorefold_toolkit.metrics import frechet_distance
from scorefold_toolkit.metrics.features import RandomConv
from scorefold_toolkit.training import fit

SAMPLES, COMPONENTS, BATCH = 400, 50, 50
MODELS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "uniform": (
        "score:denoising",
        {"network": {"use": "network:unet", "config": {"channels": [16, 32, 40]}}},
    ),
    "multiscale": (
        "score:multiscale",
        {
            "bands": {"name": "haar", "levels": 1},
            "network": {"use": "network:unet", "config": {"channels": [16, 24, 24]}},
        },
    ),
}
STEPS = {"uniform": 220, "multiscale": 320}
"""As many as take equal CPU time, by steps that were timed before."""


def figure(host: Any, profile: str, seed: int, *, model: str, measure: str) -> float | None:
    """The distance of ``uniform``, ``multiscale`` or as many training images (``floor``).

    ``convolutions`` and ``components`` are squared Frechet distances to the test images on 64 features of fixed random
    convolutions and on 50 principal components; ``cpu`` the CPU seconds of the training, ``sampling`` the CPU
    milliseconds of a sample, ``parameters`` their number.
    """
    source = _source(host)
    if source is None:
        return None
    if model == "floor":
        return _distances(source, source.load("train").tensor(SAMPLES))[measure]
    return _measured(host, source, seed, model)[measure]


def over_uniform(host: Any, profile: str, seed: int, *, measure: str) -> float | None:
    """A figure of the multi-scale model over the uniform one's."""
    found = [figure(host, profile, seed, model=model, measure=measure) for model in ("multiscale", "uniform")]
    return None if found[0] is None or found[1] is None else found[0] / found[1]


@cache
def _source(host: Any) -> DataSource | None:
    return fashion_mnist(host) if find_spec("diffusers") is not None else None


@cache
def trained_on_fashion(host: Any, source: DataSource, seed: int, model: str) -> tuple[Any, float]:
    """A model and the CPU seconds of its training."""
    name, config = MODELS[model]
    training = {"steps": STEPS[model], "batch_size": 64}
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(seed, "weights"))
        made = host.create(name, {**config, "training": training}, data=source)
    report = fit(made, source.load("train"), made.training_config, seed=seed, precision=host.precision)
    return made.eval(), report.cpu_seconds


@cache
def _measured(host: Any, source: DataSource, seed: int, model: str) -> Mapping[str, float]:
    made, seconds = trained_on_fashion(host, source, seed, model)
    generator, started = derive_generator(seed, "samples"), time.process_time()
    samples = torch.cat([made.sample(BATCH, generator=generator) for _ in range(SAMPLES // BATCH)])
    found = {
        "cpu": seconds,
        "sampling": 1000 * (time.process_time() - started) / SAMPLES,
        "parameters": float(sum(parameter.numel() for parameter in made.parameters())),
        **_distances(source, samples),
    }
    print(f"{model}: " + ", ".join(f"{name} {value:.4g}" for name, value in found.items()), flush=True)
    return found


@torch.no_grad()
def _distances(source: DataSource, samples: Tensor) -> dict[str, float]:
    train, test = source.load("train").tensor(10_000).cpu().flatten(1).double(), source.load("test").x.cpu()
    axes = torch.linalg.eigh(torch.cov(train.mT)).eigenvectors[:, -COMPONENTS:]
    shown, network = samples.cpu().clamp(0, 1), RandomConv(1)
    features = [torch.cat([network(part) for part in x.split(500)]) for x in (shown, test)]
    return {
        "convolutions": frechet_distance(*features),
        "components": frechet_distance(*((x.flatten(1).double() @ axes) for x in (shown, test))),
    }
