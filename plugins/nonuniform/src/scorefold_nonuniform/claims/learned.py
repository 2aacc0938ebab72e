"""Trained multi-scale models of a Gaussian field, whose score is known, and of photographs.

Each function of a claim takes a host, a profile and a seed and returns a number, as ``scorefold reproduce`` calls it.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from scorefold.interfaces import DataSource, ScoreModel
from scorefold.seeds import derive_generator, derive_seed
from scorefold_nonuniform.gaussian_field import (
    GaussianField,
    coefficient_moments,
    gaussian_score,
    least_noise_loss,
)
from scorefold_toolkit.metrics import frechet_distance
from scorefold_toolkit.metrics.features import RandomConv
from scorefold_toolkit.training import fit

FIELD_POINTS, FIELD_TEST, FIELD_SAMPLES = 20_000, 512, 4000
FIELD_STEPS = {"smoke": 30, "quick": 3000, "long": 12_000}
"""Steps of each scale's network."""
FIELD_SIZES = {"smoke": 8, "quick": 16, "long": 16}
FIELD_CHANNELS = (16, 32)


def unet(*channels: int, blocks: int = 1) -> dict[str, Any]:
    """A U-Net of the plugin ``standard``, by name."""
    return {"use": "network:unet", "config": {"channels": list(channels), "blocks": blocks}}


def field_loss(host: Any, profile: str, seed: int, scale: int) -> float | None:
    """The denoising loss of a scale of the field's model over the smallest there is: 1 for the exact score.

    A loss is the smallest one and E ||eps-hat - E[eps | x_t]||^2, which is measured on the field's test points.
    """
    found = _field_trained(host, profile, seed, "multiscale")
    return None if found is None else _loss_ratio(found, int(scale) - 1)


def field_control_loss(host: Any, profile: str, seed: int) -> float | None:
    """The same for the uniform model, whose one network serves all times."""
    found = field_control(host, profile, seed)
    return None if found is None else _loss_ratio(found, 0)


def field_variance(host: Any, profile: str, seed: int, band: int, model: str = "multiscale") -> float | None:
    """The mean variance of a band of samples divided by its variance in the field."""
    found = _field_trained(host, profile, seed, model)
    if found is None:
        return None
    samples, covariance = _field_samples(found, seed)
    inside = (found.model.bands.index == int(band) - 1).flatten().cpu()
    return float(samples[:, inside].var(0).mean() / covariance.diagonal()[inside].mean())


def field_correlation(host: Any, profile: str, seed: int, model: str = "multiscale") -> float | None:
    """The part of the finest band that follows the other bands, in samples relative to the field.

    ``model`` is ``multiscale``, ``uniform``, or ``published``, the multi-scale one with the published weighting.

    With p = S_fc S_cc^-1 z_c, the part of the finest band that the field's coarser coefficients predict, the slope of
    z_f on p, E z_f p / E p^2: 1 for the field.
    """
    found = _field_trained(host, profile, seed, model)
    if found is None:
        return None
    samples, covariance = _field_samples(found, seed)
    fine = (found.model.bands.index == 0).flatten().cpu()
    predicted = samples[:, ~fine] @ torch.linalg.solve(covariance[~fine][:, ~fine], covariance[~fine][:, fine])
    return float((samples[:, fine] * predicted).sum() / predicted.square().sum())


def field_cpu(host: Any, profile: str, seed: int, model: str) -> float | None:
    """CPU seconds of a model's training."""
    found = _field_trained(host, profile, seed, model)
    return None if found is None else found.seconds


@dataclass(frozen=True)
class TrainedScore:
    """A trained model, its data, and the CPU seconds that its training took."""

    model: Any
    data: DataSource
    seconds: float


SIMPLE: dict[str, Any] = {"weighting": "simple"}
"""The loss of the patches, in which the scales and the uniform models are compared as in the paper."""

FIELD_SAMPLING: dict[str, Any] = {"steps": 60, "sampler": "dpmpp-2m", "spacing": "uniform", "to_zero": False}


def _field_trained(host: Any, profile: str, seed: int, model: str) -> TrainedScore | None:
    if model == "uniform":
        return field_control(host, profile, seed)
    return field_model(host, profile, seed, "simple" if model == "published" else "edm")


@cache
def field_model(host: Any, profile: str, seed: int, weighting: str) -> TrainedScore | None:
    """The multi-scale model of the field, or None without diffusers, whose U-Net it takes.

    What the coarser bands say of the finest matters where its noise is large. There the published weighting, of the
    error of the noise, hardly counts it; ``edm`` weighs all levels alike.
    """
    training = _field_training(FIELD_STEPS[profile] * 3)
    config = {"network": unet(*FIELD_CHANNELS), "training": training, "weighting": weighting}
    return _trained(host, "multiscale", config, _field(host, profile, seed), seed)


@cache
def field_control(host: Any, profile: str, seed: int) -> TrainedScore | None:
    """A uniform model of the field: one such network, its bands at one speed, for about as much CPU time."""
    steps = round(FIELD_STEPS[profile] * CONTROL_STEPS)
    training = _field_training(steps)
    config = {"network": unet(*FIELD_CHANNELS), "ends": [1.0, 1.0, 1.0], "training": training, "weighting": "edm"}
    return _trained(host, "nonuniform", config, _field(host, profile, seed), seed)


CONTROL_STEPS = 1.6
"""Steps of the uniform network for each of a scale's network's: as many as take equal CPU time."""


def _field_training(steps: int) -> dict[str, Any]:
    return {"steps": steps, "batch_size": 64, "learning_rate": 2e-3, "ema": 0.998, "validate_every": 10**6}


@cache
def _field(host: Any, profile: str, seed: int) -> GaussianField:
    settings = {"size": FIELD_SIZES[profile], "points": FIELD_POINTS if profile != "smoke" else 1000}
    made = host.create("data:gaussian-field", settings, generator=derive_generator(seed, "field"))
    assert isinstance(made, GaussianField)
    return made


@torch.no_grad()
def _loss_ratio(found: TrainedScore, scale: int) -> float:
    model, distribution = found.model, _distribution(found)
    process = model.coefficients
    ends = (process.t_min, *process.breakpoints, process.t_max)
    # The exact score comes from a distribution on the CPU.
    place = next(model.parameters()).device
    model.cpu()
    x = found.data.load("test").tensor(FIELD_TEST).cpu()
    t = torch.linspace(ends[scale], ends[scale + 1], len(x), dtype=torch.float64)
    bands, process = model.bands.double(), process.double()
    z0 = bands.transform(x.double())
    signal, noise_scale = process.coefficients(z0, t)
    generator = derive_generator(0, "loss")
    noise = torch.randn(z0.shape, generator=generator, dtype=torch.float64)
    z = signal * z0 + noise_scale * noise
    exact = noise_scale * gaussian_score(distribution, bands, process, scale)(z, t)
    smallest = least_noise_loss(distribution, bands, process, t, scale)
    model.float()
    found_score = model.coefficient_score(z.float(), t.float()).double()
    active = model.bands.index >= scale
    model.to(place)
    excess = ((noise_scale * found_score - exact)[:, active] ** 2).sum(1)
    return float(1 + excess.mean() / smallest.mean())


def _distribution(found: TrainedScore) -> Any:
    assert isinstance(found.data, GaussianField)
    return found.data.distribution()


@cache
def _field_samples(found: TrainedScore, seed: int) -> tuple[Tensor, Tensor]:
    """The flattened coefficients of samples (N, D), and their covariance in the field (D, D), in float64."""
    x = found.model.sample(FIELD_SAMPLES, generator=derive_generator(seed, "samples"), **FIELD_SAMPLING)
    bands = copy.deepcopy(found.model.bands).cpu()
    _, covariance = coefficient_moments(_distribution(found), bands)
    return bands.transform(x.cpu()).flatten(1).double(), covariance.double()


def _trained(host: Any, name: str, config: dict[str, Any], data: DataSource, seed: int) -> TrainedScore | None:
    if find_spec("diffusers") is None:
        return None
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(seed, "weights"))
        model = host.create(f"score:{name}", config, data=data)
    report = fit(model, data.load("train"), model.training_config, seed=seed, precision=host.precision)
    return TrainedScore(model, data, report.cpu_seconds)


PATCHES = {"smoke": 300, "quick": 6000, "long": 20_000}
PATCH_SAMPLES = {"smoke": 40, "quick": 1000, "long": 5000}
SEEDS = {"smoke": 1, "quick": 3, "long": 3}
PATCH_STEPS = {"smoke": 2, "quick": 600, "long": 20_000}
"""Steps of the uniform network."""
UNIFORM = unet(32, 64, 64)
SCALES = (unet(16, 24, 32), unet(24, 48), unet(48, blocks=2))
SHARES = (1.55, 1.55, 1.55)
"""Steps of each scale's network, the finest first, for each of the uniform one's: together as much CPU time."""
SAMPLING: dict[str, dict[str, Any]] = {
    "uniform": {"steps": 24, "sampler": "dpmpp-2m", "spacing": "log-snr", "to_zero": False},
    "banded": {"steps": 24, "sampler": "dpmpp-2m", "spacing": "uniform", "to_zero": False},
    "multiscale": {"steps": (12, 12, 12), "sampler": "dpmpp-2m", "spacing": "uniform", "to_zero": False},
}
"""The uniform model's is the best of three that were tried; the multi-scale model's takes less CPU time."""
ONE_SEED = ("banded",)
"""A control that is trained once: one network and one speed, and otherwise all that the multi-scale model has."""


def quality(host: Any, profile: str, seed: int, model: str) -> float | None:
    """The Frechet distance of samples to the training patches, on fixed random convolutions: mean of the seeds."""
    found = _patch_models(host, profile, seed, model)
    truth = _features(_patches(host, profile, 0).load("train").x)
    samples = [_patch_samples(each, profile, model)[0] for each in found if each is not None]
    return _mean([frechet_distance(_features(x), truth) for x in samples])


def quality_floor(host: Any, profile: str, seed: int) -> float:
    """The same for as many of the patches themselves, left out of what they are held to."""
    x = _patches(host, profile, 0).load("train").x
    count = min(PATCH_SAMPLES[profile], len(x) // 2)
    order = torch.randperm(len(x), generator=derive_generator(seed, "floor"))
    return frechet_distance(_features(x[order[:count]]), _features(x[order[count:]]))


def quality_cpu(host: Any, profile: str, seed: int, model: str) -> float | None:
    """CPU seconds of a training, mean of the seeds."""
    found = _patch_models(host, profile, seed, model)
    return _mean([each.seconds for each in found if each is not None])


def quality_sampling(host: Any, profile: str, seed: int, model: str) -> float | None:
    """CPU seconds of a sample, mean of the seeds."""
    found = _patch_models(host, profile, seed, model)
    return _mean([_patch_samples(each, profile, model)[1] for each in found if each is not None])


def quality_size(host: Any, profile: str, seed: int) -> float | None:
    """The multi-scale model's parameters over the uniform one's."""
    sizes = [patch_model(host, profile, seed, model) for model in ("multiscale", "uniform")]
    if sizes[0] is None or sizes[1] is None:
        return None
    scales, uniform = (_parameters(each) for each in sizes if each is not None)
    return scales / uniform


def _parameters(found: TrainedScore) -> int:
    return sum(parameter.numel() for parameter in found.model.parameters())


def _patch_models(host: Any, profile: str, seed: int, model: str) -> list[TrainedScore | None]:
    """The trainings of a model that are averaged."""
    return [patch_model(host, profile, seed + k, model) for k in range(1 if model in ONE_SEED else SEEDS[profile])]


@cache
def patch_model(host: Any, profile: str, seed: int, model: str) -> TrainedScore | None:
    """A model of the patches, trained from a seed."""
    steps = PATCH_STEPS[profile]
    if model == "uniform":
        config: dict[str, Any] = {"network": UNIFORM, "process": "cosine", "training": _patch_training(steps), **SIMPLE}
        return _trained(host, "denoising", config, _patches(host, profile, 0), seed)
    if model == "banded":
        config = {"network": UNIFORM, "ends": [1.0, 1.0, 1.0], "training": _patch_training(steps), **SIMPLE}
        return _trained(host, "nonuniform", config, _patches(host, profile, 0), seed)
    shares = [round(share * steps) for share in SHARES]
    config = {
        "networks": list(SCALES),
        "boundary_kl": 0.5,
        "scale_steps": shares,
        "training": _patch_training(sum(shares)),
        **SIMPLE,
    }
    return _trained(host, "multiscale", config, _patches(host, profile, 0), seed)


def _patch_training(steps: int) -> dict[str, Any]:
    return {"steps": steps, "batch_size": 32, "learning_rate": 1e-3, "ema": 0.995, "validate_every": 10**6}


@cache
def _patches(host: Any, profile: str, seed: int) -> DataSource:
    settings = {"size": 32, "points": PATCHES[profile], "fractions": [0.9, 0.05, 0.05]}
    made: DataSource = host.create("data:photographs", settings, generator=derive_generator(seed, "patches"))
    return made


@cache
def _patch_samples(found: TrainedScore, profile: str, model: str) -> tuple[Tensor, float]:
    """Samples (N, 3, 32, 32) and the CPU seconds of one."""
    generator = derive_generator(0, "samples")
    count = PATCH_SAMPLES[profile]
    score: ScoreModel = found.model
    batches = [min(250, count - start) for start in range(0, count, 250)]
    started = time.process_time()
    x = torch.cat([score.sample(size, generator=generator, **SAMPLING[model]) for size in batches])
    return x, (time.process_time() - started) / count


@torch.no_grad()
def _features(x: Tensor) -> Tensor:
    """Features of images as they would be read from 8-bit files."""
    network = RandomConv(x.shape[1]).to(x.device)
    rounded = (x.clamp(0, 1) * 255).round() / 255
    return torch.cat([network(batch) for batch in rounded.split(250)])


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
