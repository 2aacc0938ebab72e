"""Auto-encoders of images with a trained prior, by one protocol. Functions of claims take a host, a profile and a seed.

One prior is trained and serves all; the rest is trained from several seeds. Encoders have one trunk and as many codes.
The VAE's decoder has at least as many parameters as the prior, and its beta is moved until its codes hold as many nats
as the ScoreVAE's. Test images are the same for all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from scorefold.interfaces import DataSource
from scorefold.seeds import derive_generator, derive_seed
from scorefold_scorevae.claims.training import (
    DECODING,
    REDUCTIONS,
    cosine_training,
    decoder_samples,
    held_out_parts,
    likeness,
    mean_kl,
    similarity,
    trained_component,
)
from scorefold_toolkit.score_matching.losses import denoising_score_matching

SEEDS = {"quick": 3, "long": 3}
DRAWS = 4
PROCESS = {"name": "vp", "t_min": 1e-3}
BETA = 0.01
ONCE = ("prior", "floor", "floor-train")
"""Claims that do not change with several seeds."""
UNET = {"use": "network:unet", "config": {"channels": [16, 32]}}
"""The networks of the prior, of the corrector and of DiffDecoder."""
MLP = {"use": "network:mlp", "config": {"width": 256, "blocks": 2}}
"""The encoders' trunk, and the VAE's decoder."""
LATENT = 16


@dataclass(frozen=True)
class ImageSetting:
    """A source of images, the steps of each training, and what test images are for.

    The first ``images`` of the test split are reconstructed; their Frechet distances are to the other ones, or to the
    training images where ``held_to_train``.
    """

    source: str
    config: Mapping[str, Any]
    steps: Mapping[str, int]
    images: int
    held_to_train: bool
    prior_draws: int = 700
    ema: float = 0.998


SETTINGS = {
    "digits": ImageSetting(
        source="data:digits",
        config={"range": [-1, 1], "fractions": [0.8, 0, 0.2], "seed": 0},
        steps={"prior": 3000, "encoder": 3000, "corrector": 2000, "vae": 3000, "diff-decoder": 1500},
        images=359,
        held_to_train=True,
    ),
    "photographs": ImageSetting(
        source="data:photographs",
        config={
            "range": [-1, 1],
            "size": 16,
            "grey": True,
            "points": 16_000,
            "fractions": [0.7, 0.05, 0.25],
            "seed": 0,
        },
        steps={"prior": 3000, "encoder": 2000, "corrector": 1000, "vae": 3000, "diff-decoder": 800},
        images=200,
        held_to_train=False,
    ),
}
MORE = {"quick": 1, "long": 10}
"""Factor of the number of steps."""


def image_measure(
    host: Any,
    profile: str,
    seed: int,
    *,
    task: str,
    model: str,
    measure: str,
    over: str = "mean",
    ratio: str | None = None,
) -> float | None:
    """A measure of a model, over trainings from several seeds (see ``REDUCTIONS``); None without diffusers or the data.

    Models are ``scorevae`` and ``scorevae-plus`` (a draw for a drawn z, with the mean L2 of 4), ``scorevae-mean`` and
    ``scorevae-plus-mean`` (the mean of 4 such draws), ``vae`` (its mean for the mean of z), ``vae-noise`` (with its
    isotropic noise, for a drawn z), ``diff-decoder`` and ``diff-decoder-plain`` (a draw; beta 0.01 and 0), ``prior``,
    ``floor`` (the images themselves) and ``floor-train`` (training images, held to others). Measures are ``l2`` (of
    pixels in [0, 1]), ``sharp``, ``frechet``, ``kl`` of the codes in nats, and ``data``, the data term on test images.
    ``ratio`` names a model whose measure divides it.
    """
    if not _at_hand():
        return None
    values = []
    for n in range(SEEDS[profile] if model not in ONCE else 1):
        run = derive_seed(seed, task, n)
        value = _measured(host, profile, task, seed, run, model)[measure]
        below = 1.0 if ratio is None else _measured(host, profile, task, seed, run, ratio)[measure]
        values.append(value / below)
    return REDUCTIONS[over](values)


def prior_loss(host: Any, profile: str, seed: int, *, task: str) -> float | None:
    """The prior's loss on test images divided by the loss of the Gaussian with the moments of training images."""
    if not _at_hand():
        return None
    data = _source(host, task)
    gaussian = host.create("score:analytic", {"process": PROCESS, "gaussian": True}, data=data)
    test = data.load("test").x
    losses = [_denoising_loss(model, test, seed) for model in (_prior(host, profile, task, seed), gaussian)]
    print(f"{task}: denoising loss of the prior {losses[0]:.3f}, of the Gaussian {losses[1]:.3f}", flush=True)
    return losses[0] / losses[1]


def _at_hand() -> bool:
    return find_spec("diffusers") is not None


def _steps(profile: str, task: str, part: str, **settings: Any) -> dict[str, Any]:
    steps = max(2, round(MORE[profile] * SETTINGS[task].steps[part]))
    return cosine_training(steps, batch_size=64, ema=SETTINGS[task].ema, **settings)


@cache
def _source(host: Any, task: str) -> DataSource:
    setting = SETTINGS[task]
    made: DataSource = host.create(setting.source, dict(setting.config))
    return made


@cache
def _prior(host: Any, profile: str, task: str, seed: int) -> Any:
    config = {
        "process": PROCESS,
        "weighting": "sigma2",
        "network": UNET,
        "training": _steps(profile, task, "prior", learning_rate=2e-3),
    }
    data = _source(host, task)
    return trained_component(host, "score:denoising", config, data, derive_seed(seed, "prior"), data=data)


@cache
def _scorevae(host: Any, profile: str, task: str, seed: int, run: int) -> Any:
    config = {
        "latent": LATENT,
        "encoder": MLP,
        "beta": BETA,
        "decoding": DECODING,
        "training": _steps(profile, task, "encoder"),
    }
    data, prior = _source(host, task), _prior(host, profile, task, seed)
    return trained_component(host, "score:scorevae", config, data, run, prior=prior, data=data)


@cache
def _plus(host: Any, profile: str, task: str, seed: int, run: int) -> Any:
    config = {
        "network": UNET,
        "decoding": DECODING,
        "training": _steps(profile, task, "corrector", learning_rate=2e-3),
    }
    code = _scorevae(host, profile, task, seed, run)
    return trained_component(host, "score:scorevae-plus", config, _source(host, task), run, code=code)


@cache
def _vae(host: Any, profile: str, task: str, seed: int, run: int) -> Any:
    """The VAE whose codes of the test images hold as many nats as the ScoreVAE's, to 5 %, in three trainings at most.

    Each aims at a divergence on the training images, which is moved by what came out on the test images.
    """
    data, code = _source(host, task), _scorevae(host, profile, task, seed, run)
    real = data.load("test").x[: SETTINGS[task].images]
    wanted, target = mean_kl(code, real), mean_kl(code, data.load("train").tensor(2000))
    config = {"latent": LATENT, "encoder": MLP, "decoder": MLP, "beta": 0.1, "training": _steps(profile, task, "vae")}
    for _ in range(3):
        made = trained_component(host, "autoencoder:vae", {**config, "target_kl": target}, data, run, data=data)
        found = mean_kl(made, real)
        if abs(found / wanted - 1) < 0.05:
            break
        target *= wanted / max(found, wanted / 4)
    return made


@cache
def _diff_decoder(host: Any, profile: str, task: str, run: int, beta: float) -> Any:
    config = {
        "latent": LATENT,
        "encoder": MLP,
        "network": UNET,
        "process": PROCESS,
        "beta": beta,
        "decoding": DECODING,
        "training": _steps(profile, task, "diff-decoder"),
    }
    data = _source(host, task)
    return trained_component(host, "score:diff-decoder", config, data, run, data=data)


def _model(host: Any, profile: str, task: str, seed: int, run: int, name: str) -> Any:
    if name.startswith("diff-decoder"):
        return _diff_decoder(host, profile, task, run, 0.0 if name.endswith("plain") else BETA)
    if name.startswith("vae"):
        return _vae(host, profile, task, seed, run)
    if name.startswith("scorevae-plus"):
        return _plus(host, profile, task, seed, run)
    return _scorevae(host, profile, task, seed, run)


@cache
def _measured(host: Any, profile: str, task: str, seed: int, run: int, model: str) -> Mapping[str, float]:
    setting, data = SETTINGS[task], _source(host, task)
    real, train = data.load("test").x[: setting.images], data.load("train").x
    others = train if setting.held_to_train else data.load("test").x[setting.images :]
    if model == "prior":
        generator = derive_generator(run, "prior")
        drawn = _prior(host, profile, task, seed).sample(setting.prior_draws, generator=generator, **DECODING)
        shown, others = drawn.clamp(-1, 1), train
        found = likeness(shown, train)
    elif model in ONCE:
        count = setting.prior_draws
        shown, others = (real, others) if model == "floor" else (train[:count], train[count:])
        found = likeness(shown, others)
    else:
        drawn = _reconstructions(host, profile, task, seed, run, model)
        shown = drawn[0]
        found = similarity(shown, real, others)
        found["l2"] = float(torch.linalg.vector_norm((drawn - real).flatten(2), dim=2).mean()) / 2
        made = _model(host, profile, task, seed, run, model)
        if model in ("scorevae", "vae", "diff-decoder"):
            found["kl"] = mean_kl(made, real)
        if model in ("scorevae", "scorevae-plus"):
            parts = held_out_parts(made, data.load("test").take(torch.arange(setting.images)), run)
            found["data"] = parts.get("data", parts["loss"])
    print(f"{task}, {model}: " + ", ".join(f"{name} {value:.3f}" for name, value in found.items()), flush=True)
    return found


@cache
def _reconstructions(host: Any, profile: str, task: str, seed: int, run: int, model: str) -> Tensor:
    """Reconstructions (n, N, *E) within the images' bounds: 4 draws of a ScoreVAE, one of others, or one mean.

    The noises of one run are the same for all models, so that what differs is the model.
    """
    if model.endswith("-mean"):
        return _reconstructions(host, profile, task, seed, run, model.removesuffix("-mean")).mean(0, keepdim=True)
    real = _source(host, task).load("test").x[: SETTINGS[task].images]
    made = _model(host, profile, task, seed, run, model)
    if model == "vae":
        mean: Tensor = made.decode(made.encode(real)).detach()
        return mean[None].clamp(-1, 1)
    generator = derive_generator(run, "draws")
    options = {"noise_scale": 1.0} if model == "vae-noise" else {}
    count = DRAWS if model.startswith("scorevae") else 1
    return torch.stack([decoder_samples(made, real, generator, **options) for _ in range(count)]).clamp(-1, 1)


@torch.no_grad()
def _denoising_loss(model: Any, x: Tensor, seed: int) -> float:
    """1/2 E ||eps-hat - eps||^2 over images, times and noise."""
    generator = derive_generator(seed, "denoising")
    draws = [
        denoising_score_matching(
            model.noise, model.process, x, weighting="sigma2", stratified=True, generator=generator
        ).mean()
        for _ in range(5)
    ]
    return float(torch.stack(draws).mean()) / 2
