"""Auto-encoders of textured blobs, whose prior is exact. Each function takes a host, a profile and a seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from torch import Tensor

from scorefold.seeds import derive_generator, derive_seed
from scorefold_scorevae.claims.training import (
    DECODING,
    REDUCTIONS,
    cosine_training,
    decoder_samples,
    held_out_parts,
    likeness,
    mean_kl,
    mean_of_draws,
    similarity,
    trained_component,
)
from scorefold_scorevae.textured_blobs import TexturedBlobs

SEEDS = {"smoke": 1, "quick": 3, "long": 3}
STEPS = {"smoke": 1200, "quick": 3000, "long": 3000}
POINTS, REFERENCE, IMAGES, DRAWS = 94_000, 4000, 1000, 8
"""Training images; those that others are held to; those that are reconstructed; draws that are averaged."""
NETWORK = {"use": "network:mlp", "config": {"width": 160, "blocks": 2}}


def blob_measure(
    host: Any, profile: str, seed: int, *, model: str, measure: str, over: str = "mean", ratio: str | None = None
) -> float:
    """A measure of a model, over trainings from several seeds (see ``REDUCTIONS``).

    Models are ``scorevae`` (a draw), ``scorevae-guided`` (guidance 1.5, z the mean), ``scorevae-mean`` (the mean of 8
    draws), ``vae`` (its mean, z the mean), ``vae-noise`` (with its isotropic noise, z drawn), ``prior``, ``floor``
    (real images), and ``generated``, ``generated-vae`` and ``generated-vae-noise``, of codes from N(0, I). Measures are
    ``l2``, ``sharp``, ``frechet``, ``centre`` (the error of the likeliest centre in pixels), ``kl`` and ``loss``.
    ``ratio`` names a model whose measure divides it.
    """
    values = []
    for n in range(SEEDS[profile]):
        run = derive_seed(seed, "blobs", n)
        value = _measured(host, profile, run, model)[measure]
        values.append(value if ratio is None else value / _measured(host, profile, run, ratio)[measure])
    return REDUCTIONS[over](values)


def mean_distribution(host: Any, profile: str, seed: int) -> float:
    """The L2 of the mean of N draws over sqrt(R (1 + 1/N)), R the images' variance around their blobs."""
    values = []
    for n in range(SEEDS[profile]):
        run = derive_seed(seed, "blobs", n)
        expected = (_data(host, run).source.residual_variance() * (1 + 1 / DRAWS)) ** 0.5
        values.append(_measured(host, profile, run, "scorevae-mean")["l2"] / expected)
    return REDUCTIONS["furthest"](values)


@dataclass(frozen=True)
class Blobs:
    """Blobs to train on, those to reconstruct with their centres, and those to compare with."""

    source: TexturedBlobs
    real: Tensor
    centres: Tensor
    reference: Tensor


@cache
def _data(host: Any, seed: int) -> Blobs:
    count = POINTS + IMAGES + REFERENCE
    config = {"points": count, "fractions": [POINTS / count, 0, 1 - POINTS / count]}
    source = host.create("data:textured-blobs", config, generator=derive_generator(seed, "blobs"))
    test = source.load("test")
    return Blobs(source, test.x[:IMAGES], test.truth["centre"][:IMAGES], test.x[IMAGES:])


@cache
def _prior(host: Any, seed: int) -> Any:
    config = {"process": {"name": "vp", "t_min": 1e-3}}
    return host.create("score:analytic", config, data=_data(host, seed).source)


@cache
def _scorevae(host: Any, profile: str, seed: int) -> Any:
    config = {
        "latent": 2,
        "encoder": NETWORK,
        "beta": 0.01,
        "beta_warmup": 1 / 3,
        "decoding": DECODING,
        "training": cosine_training(STEPS[profile]),
    }
    source = _data(host, seed).source
    return trained_component(host, "score:scorevae", config, source, seed, prior=_prior(host, seed), data=source)


@cache
def _vae(host: Any, profile: str, seed: int) -> Any:
    config = {
        "latent": 2,
        "encoder": NETWORK,
        "decoder": NETWORK,
        "beta": 0.1,
        "training": cosine_training(STEPS[profile]),
    }
    source = _data(host, seed).source
    return trained_component(host, "autoencoder:vae", config, source, seed, data=source)


@cache
def _measured(host: Any, profile: str, seed: int, model: str) -> Mapping[str, float]:
    data = _data(host, seed)
    x, reference = _images(host, profile, seed, model).detach().cpu(), data.reference.cpu()
    made_up = model == "prior" or model.startswith("generated")
    found = likeness(x, reference) if made_up else similarity(x, data.real.cpu(), reference)
    found["centre"] = float((data.source.find_centres(x) - data.centres.cpu()).norm(dim=1).mean())
    if model in ("scorevae", "vae"):
        trained_model = (_scorevae if model == "scorevae" else _vae)(host, profile, seed)
        found["kl"] = mean_kl(trained_model, data.real)
        found["loss"] = held_out_parts(trained_model, data.source.load("test"), seed)["loss"]
    print(f"{model}: " + ", ".join(f"{name} {value:.3f}" for name, value in found.items()), flush=True)
    return found


def _images(host: Any, profile: str, seed: int, model: str) -> Tensor:
    """Reconstructions of the images by a model, or samples, (N, 1, 8, 8)."""
    real = _data(host, seed).real
    generator = derive_generator(seed, model)
    if model == "floor":
        return real
    if model == "prior":
        drawn: Tensor = _prior(host, seed).sample(IMAGES, generator=generator, **DECODING)
        return drawn
    if model.startswith("generated"):
        of = _vae(host, profile, seed) if "vae" in model.split("-") else _scorevae(host, profile, seed)
        options = {"noise_scale": 1.0} if model.endswith("noise") else {}
        decoded: Tensor = of.decode(of.draw_codes(IMAGES, generator=generator), generator=generator, **options)
        return decoded
    if model.startswith("vae"):
        vae = _vae(host, profile, seed)
        return (
            decoder_samples(vae, real, generator, noise_scale=1.0)
            if model == "vae-noise"
            else vae.decode(vae.encode(real))
        )
    scorevae = _scorevae(host, profile, seed)
    if model == "scorevae-guided":
        guided: Tensor = scorevae.decode(scorevae.encode(real), generator=generator, guidance=1.5)
        return guided
    if model == "scorevae-mean":
        return mean_of_draws(scorevae, real, generator, DRAWS)
    return decoder_samples(scorevae, real, generator)
