"""Fashion-MNIST with the score that comes along as prior: a ScoreVAE with a corrector next to a VAE of equal nats.

Functions of claims take a host, a profile and a seed, and answer None without the data or the model. Both codes have
as many numbers and nats, and equal encoders. The VAE's decoder has as many parameters as the corrector, and it trains
about as long. Codes are means of q(z | x) for both.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scorefold.interfaces import DataSource
from scorefold.seeds import derive_generator
from scorefold_scorevae.claims.training import cosine_training, mean_kl, trained_component
from scorefold_toolkit.data.images import fashion_mnist
from scorefold_toolkit.drawing import draw_opposite
from scorefold_toolkit.metrics import frechet_distance, sharpness, ssim
from scorefold_toolkit.metrics.features import RandomConv

IMAGES, DRAWS, HELD_TO = 400, 8, 10_000
"""Test images, draws for each, and training images that Frechet distances are to."""
FIRST = 5000
"""The first of these test images. Settings below were chosen on the first 256."""
PRIOR = "fashion-score"
DECODING: Mapping[str, Any] = {"sampler": "dpmpp-2m", "steps": 18}
GUIDANCE = 1.7
COMPONENTS, FEW = 50, 10
ENCODER = {"use": "network:mlp", "config": {"width": 256, "blocks": 2}}
SCOREVAE: Mapping[str, Any] = {
    "encoder": ENCODER,
    "weighting": "edm",
    "noise_levels": {"name": "lognormal", "mean": 1.45, "std": 1.2},
    "beta": 0.1,
    "beta_warmup": 0.5,
    "training": cosine_training(9400, batch_size=64, learning_rate=2e-3, ema=0.995),
}
CORRECTOR = {"use": "network:mlp", "config": {"width": 512, "blocks": 3}}
VAE: Mapping[str, Any] = {
    "encoder": ENCODER,
    "decoder": {"use": "network:mlp", "config": {"width": 512, "blocks": 5}},
    "training": cosine_training(20_000, ema=0.995),
}
CORRECTED = ("scorevae", "scorevae-mean", "scorevae-opposite")


def fashion(
    host: Any, profile: str, seed: int, *, latent: int, model: str, measure: str, ratio: str | None = None
) -> float | None:
    """A measure of a model with codes of ``latent`` numbers, divided by the measure of the model ``ratio``, if given.

    Models are ``scorevae`` (a draw), ``scorevae-mean`` (the mean of 8), ``scorevae-opposite`` (the mean of 8, half of
    them from the opposite noise of the others), ``plain`` and ``plain-mean`` (without a corrector), ``vae`` (its mean),
    ``pca`` (of 10 axes), ``rival`` (the VAE, or the PCA before a training), ``prior`` (draws of it) and ``real`` (the
    images). Measures are ``l2``, ``ssim``, ``sharp`` (over real), ``kl`` (nats in the code), and the Frechet distances
    ``convolutions`` and ``components``. ``frechet`` is the larger ratio of the two.
    """
    source, prior = fashion_mnist(host), _shipped(host)
    if source is None or prior is None:
        return None
    if measure == "frechet":
        pair = [
            fashion(host, profile, seed, latent=latent, model=model, measure=each, ratio=ratio)
            for each in ("convolutions", "components")
        ]
        return None if pair[0] is None or pair[1] is None else max(pair[0], pair[1])
    value = _measured(host, seed, latent, model)[measure]
    return value if ratio is None else value / _measured(host, seed, latent, ratio)[measure]


@cache
def _source(host: Any) -> DataSource:
    source = fashion_mnist(host)
    assert source is not None
    return source


@cache
def _shipped(host: Any) -> Any:
    """The score that a plugin brings, or None where no plugin does."""
    for record in host.plugins:
        for model in record.models:
            if model.name == PRIOR:
                return host.load(Path(str(record.file)).parent / model.folder)
    return None


@cache
def _scorevae(host: Any, seed: int, latent: int, corrected: bool) -> Any:
    config = {**SCOREVAE, "latent": latent, "corrector": CORRECTOR if corrected else None}
    data = _source(host)
    return trained_component(host, "score:scorevae", config, data, seed, prior=_shipped(host), data=data)


@cache
def _vae(host: Any, seed: int, latent: int) -> Any:
    """The VAE whose codes of test images hold as many nats as the ScoreVAE's, to 5 %, in two trainings at most."""
    data, code = _source(host), _scorevae(host, seed, latent, True)
    wanted = target = mean_kl(code, _real(host))
    for _ in range(2):
        made = trained_component(
            host, "autoencoder:vae", {**VAE, "latent": latent, "target_kl": target}, data, seed, data=data
        )
        found = mean_kl(made, _real(host))
        if abs(found / wanted - 1) < 0.05:
            break
        target *= wanted / max(found, wanted / 4)
    return made


def _real(host: Any) -> Tensor:
    return _source(host).load("test").take(torch.arange(FIRST, FIRST + IMAGES)).x


@cache
def _measured(host: Any, seed: int, latent: int, model: str) -> Mapping[str, float]:
    if model == "rival":
        pair = [_measured(host, seed, latent, each) for each in ("vae", "pca")]
        return min(pair, key=lambda found: found["l2"])
    real, shown = _real(host), _shown(host, seed, latent, model)
    found = {
        "l2": float(torch.linalg.vector_norm((shown - real).flatten(2), dim=2).mean()),
        "ssim": float(torch.stack([ssim(part, real).mean() for part in shown]).mean()),
        "sharp": float(sharpness(shown[0]).mean() / sharpness(real).mean()),
    }
    for name in ("convolutions", "components"):
        found[name] = frechet_distance(_features(host, shown[0], name), _training_features(host, name))
    if model in ("scorevae", "plain", "vae"):
        made = _vae(host, seed, latent) if model == "vae" else _scorevae(host, seed, latent, model == "scorevae")
        found["kl"] = mean_kl(made, real)
    print(
        f"{latent} numbers, {model}: " + ", ".join(f"{name} {value:.4f}" for name, value in found.items()), flush=True
    )
    return found


@cache
def _shown(host: Any, seed: int, latent: int, model: str) -> Tensor:
    """Answers of a model to the images, (n, N, 1, 28, 28) in [0, 1]: 8 draws, or one."""
    real = _real(host)
    if model.endswith("-mean"):
        return _shown(host, seed, latent, model.removesuffix("-mean")).mean(0, keepdim=True)
    if model == "real":
        return real[None]
    if model == "pca":
        return _projected(host, real, FEW).clamp(0, 1)[None]
    if model == "vae":
        vae = _vae(host, seed, latent)
        mean: Tensor = vae.decode(vae.encode(real)).detach()
        return mean.clamp(0, 1)[None]
    generator = derive_generator(seed, "draws")
    if model == "prior":
        drawn: Tensor = _shipped(host).sample(IMAGES, generator=generator, **DECODING)
        return drawn.clamp(0, 1)[None]
    code = _scorevae(host, seed, latent, model in CORRECTED)
    codes = code.encode(real).detach().split(50)  # small batches stay in the cache of a CPU

    def draw(source: torch.Generator) -> Tensor:
        events = [code.decode(z, generator=source, guidance=GUIDANCE, **DECODING) for z in codes]
        return torch.cat(events).clamp(0, 1)

    if model.endswith("-opposite"):
        return draw_opposite(draw, DRAWS, generator).mean(0, keepdim=True)
    return torch.stack([draw(generator) for _ in range(DRAWS)])


@cache
def _axes(host: Any, count: int) -> tuple[Tensor, Tensor]:
    """The mean of the training images, and their first axes (784, count)."""
    train = _source(host).load("train").tensor().flatten(1)
    mean = train.mean(0)
    return mean, torch.linalg.eigh(torch.cov((train - mean).mT)).eigenvectors[:, -count:]


def _projected(host: Any, x: Tensor, count: int) -> Tensor:
    mean, axes = _axes(host, count)
    return ((x.flatten(1) - mean) @ axes @ axes.mT + mean).reshape(x.shape)


@torch.no_grad()
def _features(host: Any, x: Tensor, name: str) -> Tensor:
    """64 features of fixed random convolutions, or 50 principal components of the pixels."""
    if name == "components":
        mean, axes = _axes(host, COMPONENTS)
        return (x.flatten(1) - mean) @ axes
    network = RandomConv(1)
    return torch.cat([network(part) for part in x.split(500)])


@cache
def _training_features(host: Any, name: str) -> Tensor:
    return _features(host, _source(host).load("train").tensor(HELD_TO), name)
