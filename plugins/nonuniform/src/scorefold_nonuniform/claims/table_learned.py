"""What trained multi-scale models learn, as claims: declarations, strings only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from scorefold.plugin import Claim
from scorefold_nonuniform.claims.table_cost import DIFFUSERS

_HERE = "scorefold_nonuniform.claims.learned"
_EXACT = "exact: a periodic Gaussian field, whose score is known at any speed"
_TRAINED = ("quick", "full")
_ALL = ("smoke", *_TRAINED)
_PAPER = "Batzolis et al. 2022, arXiv 2207.09786, abstract: better FID than uniform diffusion in equal or less time"
_PATCHES = (
    "32-pixel patches of two photographs, colour, samples held to the training patches on fixed random convolutions "
    "(quick: 1,000 to 5,400, mean of three seeds)"
)

_MODELS = ("multiscale", "uniform")
_DISTANCE = "squared distance"


def learned_claims() -> Iterable[Claim]:
    for scale, pixels in ((1, 16), (2, 8), (3, 4)):
        yield _claim(
            f"field-loss-{scale}",
            f"The denoising loss of the network at {pixels} pixels over the least there is, on a 16-pixel Gaussian "
            "field",
            "field_loss",
            role="gate",
            tolerance=("max", 1.02),
            options={"scale": scale},
        )
    for band, name in ((1, "d1"), (2, "d2"), (3, "a2")):
        yield _claim(
            f"field-variance-{name}",
            f"The variance of the band {name} of 4,000 samples over that of the field",
            "field_variance",
            # Bands have unit size where the network is, so an untrained one gives these variances too.
            tolerance=("range", (0.9, 1.1)),
            options={"band": band},
        )
    yield _claim(
        "field-correlation",
        "How much of the finest band of samples follows what the coarser ones say of it, over how much of "
        "the field does",
        "field_correlation",
        role="gate",
        tolerance=("range", (0.9, 1.1)),
    )
    yield _claim(
        "field-correlation-published",
        "The same of a model trained with the published weighting, of the error of the noise",
        "field_correlation",
        tolerance=("range", (0.9, 1.1)),
        options={"model": "published"},
    )
    yield from _control()
    yield from _quality()


def _claim(name: str, statement: str, function: str, **fields: Any) -> Claim:
    """A claim of what training gives: a ratio on the field that is reported, unless something else is said."""
    usual: dict[str, Any] = {"source": _EXACT, "role": "report", "tolerance": ("min", 0.0), "unit": "ratio"}
    fields = {"needs": DIFFUSERS, **fields}
    return Claim(name, statement, target=f"{_HERE}:{function}", **{**usual, "profiles": _TRAINED, **fields})


def _control() -> Iterable[Claim]:
    """The uniform model of the field, trained for as much CPU time."""
    yield _claim(
        "field-control-loss",
        "The same loss of a uniform model, one such network for all times, trained for as much CPU time",
        "field_control_loss",
        tolerance=("max", 1.05),
    )
    for band, name in ((1, "d1"), (2, "d2"), (3, "a2")):
        yield _claim(
            f"field-control-variance-{name}",
            f"The variance of the band {name} of the uniform model's samples over that of the field",
            "field_variance",
            tolerance=("range", (0.9, 1.1)),
            options={"band": band, "model": "uniform"},
        )
    yield _claim(
        "field-control-correlation",
        "How much of the finest band of the uniform model's samples follows the coarser, over how much of "
        "the field does",
        "field_correlation",
        tolerance=("range", (0.9, 1.1)),
        options={"model": "uniform"},
    )
    for model in _MODELS:
        yield _seconds(
            f"field-cpu-{model}", f"CPU time that the {model} model of the field was trained for", "field_cpu", model
        )


def _quality() -> Iterable[Claim]:
    """Photographs at equal size and equal CPU time: reports, whichever is better."""
    for model in _MODELS:
        yield _claim(
            f"patches-frechet-{model}",
            f"Frechet distance of the {model} model's samples, trained for as much CPU time as the other: " + _PATCHES,
            "quality",
            source=_PAPER,
            options={"model": model},
            unit=_DISTANCE,
            profiles=_ALL,
        )
        trained = f"CPU time that a {model} model of the patches was trained for, mean of the seeds"
        yield _seconds(f"patches-cpu-{model}", trained, "quality_cpu", model)
        drawn = f"CPU time of a sample of the {model} model of the patches"
        yield _seconds(f"patches-sampling-{model}", drawn, "quality_sampling", model)
    yield _claim(
        "patches-frechet-banded",
        "The same of one network at one speed with what else the multi-scale model has: bands centred and of "
        "unit size, boundaries of the data's moments; one seed",
        "quality",
        source=_PATCHES,
        options={"model": "banded"},
        unit=_DISTANCE,
    )
    yield _claim(
        "patches-frechet-floor",
        "The same distance of as many of the training patches to the others",
        "quality_floor",
        source=_PATCHES,
        unit=_DISTANCE,
    )
    yield _claim(
        "patches-size",
        "The multi-scale model's parameters over the uniform one's",
        "quality_size",
        source="by construction",
        tolerance=("range", (0.9, 1.1)),
    )


def _seconds(name: str, statement: str, function: str, model: str) -> Claim:
    return _claim(name, statement, function, source="measured on this machine", unit="s", options={"model": model})
