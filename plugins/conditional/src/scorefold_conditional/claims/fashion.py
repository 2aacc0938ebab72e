"""The estimators and DPS on inverse problems of Fashion-MNIST at 28 pixels, one training each.

Each function of a claim takes a host, a profile and a seed, and answers None where the data set is not installed.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from scorefold.interfaces import DataSource
from scorefold.seeds import derive_generator
from scorefold_conditional.claims.digits import measures, trained_conditional
from scorefold_toolkit.data.images import fashion_mnist
from scorefold_toolkit.metrics import frechet_distance, ssim
from scorefold_toolkit.metrics.features import LPIPS, RandomConv
from scorefold_toolkit.operators import HasOperator
from scorefold_toolkit.training import fit

IMAGES, DRAWS, DPS_STEPS = 64, 4, 40
REFERENCE = 5000
"""Training images that draws are compared with by their Frechet distance."""
SETTINGS: Mapping[str, Any] = {
    "process": {"name": "edm"},
    "weighting": "edm",
    "network": {"use": "network:conv-unet", "config": {"channels": [16, 32, 64]}},
    "training": {"steps": 1000, "batch_size": 64, "learning_rate": 2e-3, "warmup": 100},
}
"""The settings of the score that comes along, for the conditional scores and for the prior of DPS."""
LEVELS: Mapping[str, float] = {"estimator": 1.2, "prior": 0.5}
"""Means of the log-normal noise levels that each is trained at, chosen on 192 other test images."""
TASKS: Mapping[str, Mapping[str, Any]] = {
    "inpainting": {"name": "mask", "region": "square", "fraction": 0.25, "each": True},
    "super-resolution": {"name": "box-downsample", "factor": 4},
}
"""A random hole of 14 x 14 pixels for every image, with its mask as a channel; images of 7 x 7 pixels."""
SPEEDS = {"cde": 0.0, "cmde": 0.05, "vs-cmde": 0.05, "cdiffe": 80.0}
"""sigma_max of the condition, where the event's is 80."""
SOLVERS: Mapping[str, Mapping[str, Any]] = {"dps": {}, "pigdm": {"variant": "pigdm"}}
"""Variants of ``score:dps``, which solve both tasks by one prior."""
WEIGHTS = (Path("weights/alexnet-owt-7be5be79.pth"), Path("weights/alex.pth"))
"""AlexNet's and LPIPS's published weights, where the command runs."""


def fashion_measure(host: Any, profile: str, seed: int, *, task: str, method: str, measure: str) -> float | None:
    """A measure of an estimator or of one of ``SOLVERS`` on a task: a measure of ``digits.digits_row``, or one of three
    more.

    ``ssim`` is the mean structural similarity of draws and truths. ``lpips`` is their mean distance, on images with two
    black pixels more on each side; None without the weights. ``frechet`` is the squared Frechet distance of the draws
    to training images, on the 64 features of fixed random convolutions. It is large for so few images: with the method
    ``truth`` it is the distance of the true images.
    """
    source = _source(host)
    if source is None or (measure == "lpips" and not all(path.is_file() for path in WEIGHTS)):
        return None
    if method == "truth":
        return _frechet(source, source.load("test").x[:IMAGES])
    return _measured(host, source, seed, task, method)[measure]


def lead_over_solvers(host: Any, profile: str, seed: int, *, task: str, method: str, measure: str) -> float | None:
    """The measure of a method less the larger one of ``SOLVERS``, above 0 where the method is better."""
    if (source := _source(host)) is None:
        return None
    own, *others = (_measured(host, source, seed, task, each)[measure] for each in (method, *SOLVERS))
    return own - max(others)


@cache
def _source(host: Any) -> DataSource | None:
    return fashion_mnist(host)


@cache
def _measured(host: Any, source: DataSource, seed: int, task: str, method: str) -> Mapping[str, float]:
    drawn = draws(host, source, seed, task, method)
    paired = _pairs(host, source, task)
    test = paired.load("test").take(torch.arange(IMAGES))
    assert isinstance(paired, HasOperator)
    found = measures(drawn, test, paired.operator.at(test.index))
    found["ssim"] = float(torch.cat([ssim(one, test.x) for one in drawn]).mean())
    found["frechet"] = _frechet(source, drawn.flatten(0, 1))
    if all(path.is_file() for path in WEIGHTS):
        network = LPIPS(*WEIGHTS)
        found["lpips"] = float(torch.cat([network(_padded(one), _padded(test.x.cpu())) for one in drawn.cpu()]).mean())
    print(f"{task} by {method}: " + ", ".join(f"{name} {value:.3f}" for name, value in found.items()), flush=True)
    return found


@cache
def draws(host: Any, source: DataSource, seed: int, task: str, method: str) -> Tensor:
    """Draws (DRAWS, IMAGES, 1, 28, 28) in [0, 1] for the first test images."""
    generator = derive_generator(seed, "draws")
    paired = _pairs(host, source, task)
    if method in SOLVERS:
        config = {"operator": TASKS[task], **SOLVERS[method]}
        model, steps = host.create("score:dps", config, prior=_prior(host, source, seed)), {"steps": DPS_STEPS}
    else:
        clean = ["mask"] if task == "inpainting" else []
        own = {"estimator": method, "condition_speed": SPEEDS[method] / 80, "clean": clean}
        config = {**_settings("estimator"), **own}
        model, steps = trained_conditional(host, paired, config, seed).eval(), {}
    condition = paired.load("test").take(torch.arange(IMAGES)).condition
    found: Tensor = model.sample(DRAWS, condition, generator=generator, **steps)
    return found.clamp(0, 1)


def _settings(of: str) -> dict[str, Any]:
    return {**SETTINGS, "noise_levels": {"name": "lognormal", "mean": LEVELS[of], "std": 1.2}}


@cache
def _pairs(host: Any, source: DataSource, task: str) -> DataSource:
    config = {"operator": TASKS[task], "seed": 0, "mask": task == "inpainting"}
    made: DataSource = host.create("data:paired", config, data=source)
    return made


@cache
def _prior(host: Any, source: DataSource, seed: int) -> Any:
    """A score of images alone, with the settings of the conditional ones."""
    prior = host.create("score:denoising", _settings("prior"), generator=derive_generator(seed, "weights"), data=source)
    fit(prior, source.load("train"), prior.training_config, seed=seed, precision=host.precision)
    return prior.eval()


@torch.no_grad()
def _frechet(source: DataSource, x: Tensor) -> float:
    network, known = RandomConv(1), source.load("train").tensor(REFERENCE)
    return frechet_distance(network(x.cpu()), network(known.cpu()))


def _padded(x: Tensor) -> Tensor:
    """Images (N, 1, 28, 28) with a black border of two pixels, since LPIPS needs 31."""
    return functional.pad(x, (2, 2, 2, 2))
