"""Common parts of the claims about trained auto-encoders: trainings by name, and measures of reconstructions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold.interfaces import DataSource, Progress
from scorefold.random import draw_normal
from scorefold.seeds import derive_generator
from scorefold_scorevae.scorevae.encoder import normal_kl
from scorefold_toolkit.metrics import frechet_distance, sharpness
from scorefold_toolkit.training import fit

DECODING: dict[str, Any] = {"sampler": "heun", "steps": 32, "spacing": "karras"}


def trained_component(host: Any, name: str, config: dict[str, Any], source: DataSource, seed: int, **ports: Any) -> Any:
    """A component that was trained on a source's training points, its weights and batches from ``seed``."""
    model = host.create(name, config, generator=derive_generator(seed, "weights"), **ports)
    fit(model, source.load("train"), model.training_config, seed=seed, precision=host.precision)
    return model


def cosine_training(steps: int, **settings: Any) -> dict[str, Any]:
    """AdamW with a cosine schedule, averaged weights, and no validation."""
    usual = {"batch_size": 128, "learning_rate": 1e-3, "optimiser": "adamw", "weight_decay": 0.01, "ema": 0.998}
    return {"steps": steps, "validate_every": 10**6, **usual, **settings}


def sampled_codes(model: Any, x: Tensor, generator: torch.Generator) -> Tensor:
    """A code of each event, (B, k), drawn from q(z | x)."""
    mean, std = model.encode_distribution(x)
    drawn: Tensor = mean + std * draw_normal(tuple(mean.shape), generator=generator, like=mean)
    return drawn


@torch.no_grad()
def decoder_samples(model: Any, x: Tensor, generator: torch.Generator, **options: Any) -> Tensor:
    """One draw from the decoder for a code of each event that is drawn too, (B, *E)."""
    decoded: Tensor = model.decode(sampled_codes(model, x, generator), generator=generator, **options)
    return decoded


@torch.no_grad()
def mean_of_draws(model: Any, x: Tensor, generator: torch.Generator, draws: int) -> Tensor:
    """The mean of ``draws`` such draws."""
    return sum((decoder_samples(model, x, generator) for _ in range(draws)), torch.zeros_like(x)) / draws


@torch.no_grad()
def mean_kl(model: Any, x: Tensor) -> float:
    """The mean KL divergence of the codes of events from N(0, I), in nats."""
    mean, std = model.encode_distribution(x)
    return float(normal_kl(mean, 2 * std.log()).sum(1).mean())


@torch.no_grad()
def held_out_parts(model: Any, events: Dataset, seed: int, draws: int = 10) -> dict[str, float]:
    """The parts of the loss on events, and ``loss`` itself, means over draws of codes, times and noise."""
    generator = derive_generator(seed, "held out")
    totals: dict[str, float] = {}
    for _ in range(draws):
        loss = model.loss(events, progress=Progress(0, 1, "held out"), generator=generator)
        for name, value in {"loss": loss.value, **loss.parts}.items():
            totals[name] = totals.get(name, 0.0) + float(value) / draws
    return totals


def likeness(x: Tensor, reference: Tensor) -> dict[str, float]:
    """Images x (N, C, H, W) beside others (M, C, H, W): ``sharp``, the ratio of their sharpness, and ``frechet``, the
    squared Frechet distance of their pixels."""
    return {
        "sharp": float(sharpness(x).mean() / sharpness(reference).mean()),
        "frechet": frechet_distance(x.flatten(1), reference.flatten(1)),
    }


def similarity(x: Tensor, real: Tensor, reference: Tensor) -> dict[str, float]:
    """Reconstructions x (N, C, H, W) of images ``real``, beside other ones (M, C, H, W).

    ``l2``, their mean distance from the originals; ``sharp``, their sharpness over the originals'; ``frechet``, the
    squared Frechet distance of their pixels to the other images'.
    """
    return {
        "l2": float(torch.linalg.vector_norm((x - real).flatten(1), dim=1).mean()),
        "sharp": float(sharpness(x).mean() / sharpness(real).mean()),
        "frechet": frechet_distance(x.flatten(1), reference.flatten(1)),
    }


REDUCTIONS: dict[str, Callable[[Sequence[float]], float]] = {
    "mean": lambda values: sum(values) / len(values),
    "largest": max,
    "smallest": min,
    "furthest": lambda values: max(values, key=lambda value: abs(value - 1)),
}
"""Summary of several trainings: their mean, or the worst; ``furthest`` is the value furthest from 1."""
