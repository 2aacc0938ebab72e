"""Common parts of the claims about image flows: trainings by name, sizes and times, and costs of held-out images."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold.interfaces import DataSource
from scorefold.seeds import derive_generator
from scorefold_toolkit.training import fit


@dataclass(frozen=True)
class TrainedFlow:
    """A model after its training, its number of parameters and the CPU seconds that training took."""

    model: Any
    parameters: int
    seconds: float


def trained_flow(host: Any, name: str, config: dict[str, Any], source: DataSource, seed: int) -> TrainedFlow:
    """A flow that was trained on a source's training points, its weights and batches from ``seed``."""
    model = host.create(name, config, generator=derive_generator(seed, "weights"), data=source)
    started = time.process_time()
    fit(model, source.load("train"), model.training_config, seed=seed, precision=host.precision)
    seconds = time.process_time() - started
    return TrainedFlow(model.eval(), sum(one.numel() for one in model.parameters()), seconds)


def training_settings(steps: int) -> dict[str, Any]:
    """Adam with a cosine schedule after 50 steps of warm-up, in batches of 128."""
    return {
        "steps": steps,
        "batch_size": 128,
        "learning_rate": 2e-3,
        "warmup": 50,
        "ema": None,
        "validate_every": 10**6,
    }


@torch.no_grad()
def costs(model: Any, events: Dataset, seed: int, *, draws: int = 1) -> Tensor:
    """-log2 p(w | y) / dim(w) of held-out images, (N,) in float64, for discrete data on the scale of their levels.

    Noise within a level is the same for every model of one seed; ``draws`` of it are averaged.
    """
    dimension: int = model.dimension
    total = torch.zeros(len(events), dtype=torch.float64)
    for number in range(draws):
        generator = derive_generator(seed, "dequantisation", number)
        found = []
        for batch in events.to(next(model.parameters()).device).batches(1000):
            condition = batch.condition if model.condition_spec is not None else None
            found.append(model.log_prob(batch.x, condition, generator=generator).double().cpu())
        total += torch.cat(found)
    return -total / (draws * dimension * math.log(2))
