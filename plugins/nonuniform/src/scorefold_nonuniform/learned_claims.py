"""What trained multi-scale models learn, as claims: declarations, strings only."""

from __future__ import annotations

from collections.abc import Iterable

from scorefold.plugin import Claim

_HERE = "scorefold_nonuniform.claims_learned"
_EXACT = "exact: a periodic Gaussian field, whose score is known at any speed"
_TRAINED = ("quick", "full")
_ALL = ("smoke", *_TRAINED)
_PAPER = "Batzolis et al. 2022, arXiv 2207.09786, abstract: better FID than uniform diffusion in equal or less time"
_PATCHES = (
    "32-pixel patches of two photographs, colour, samples held to the training patches on fixed random convolutions "
    "(quick: 1,000 to 5,400, mean of three seeds)"
)


def learned_claims() -> Iterable[Claim]:
    for scale, pixels in ((1, 16), (2, 8), (3, 4)):
        yield Claim(
            name=f"field-loss-{scale}",
            statement=f"The denoising loss of the network at {pixels} pixels over the least there is, on a 16-pixel "
            "Gaussian field",
            source=_EXACT,
            target=f"{_HERE}:field_loss",
            options={"scale": scale},
            tolerance=("max", 1.05),
            unit="ratio",
            profiles=_TRAINED,
        )
    for band, name in ((1, "d1"), (2, "d2"), (3, "a2")):
        yield Claim(
            name=f"field-variance-{name}",
            statement=f"The variance of the band {name} of 4,000 samples over that of the field",
            source=_EXACT,
            target=f"{_HERE}:field_variance",
            options={"band": band},
            tolerance=("range", (0.9, 1.1)),
            unit="ratio",
            profiles=_TRAINED,
        )
    yield Claim(
        name="field-correlation",
        statement="How much of the finest band of samples follows what the coarser ones say of it, over how much of "
        "the field does",
        source=_EXACT,
        target=f"{_HERE}:field_correlation",
        tolerance=("range", (0.75, 1.25)),
        unit="ratio",
        profiles=_TRAINED,
    )
    yield from _control()
    yield from _quality()


def _control() -> Iterable[Claim]:
    """The uniform model of the field, trained for as much CPU time."""
    yield Claim(
        name="field-control-loss",
        statement="The same loss of a uniform model, one such network for all times, trained for as much CPU time",
        source=_EXACT,
        target=f"{_HERE}:field_control_loss",
        role="report",
        tolerance=("max", 1.05),
        unit="ratio",
        profiles=_TRAINED,
    )
    for band, name in ((1, "d1"), (2, "d2"), (3, "a2")):
        yield Claim(
            name=f"field-control-variance-{name}",
            statement=f"The variance of the band {name} of the uniform model's samples over that of the field",
            source=_EXACT,
            target=f"{_HERE}:field_variance",
            options={"band": band, "model": "uniform"},
            role="report",
            tolerance=("range", (0.9, 1.1)),
            unit="ratio",
            profiles=_TRAINED,
        )
    yield Claim(
        name="field-control-correlation",
        statement="How much of the finest band of the uniform model's samples follows the coarser, over how much of "
        "the field does",
        source=_EXACT,
        target=f"{_HERE}:field_correlation",
        options={"model": "uniform"},
        role="report",
        tolerance=("range", (0.75, 1.25)),
        unit="ratio",
        profiles=_TRAINED,
    )
    for model in ("multiscale", "uniform"):
        yield Claim(
            name=f"field-cpu-{model}",
            statement=f"CPU time that the {model} model of the field was trained for",
            source="measured on this machine",
            target=f"{_HERE}:field_cpu",
            options={"model": model},
            role="report",
            tolerance=("min", 0.0),
            unit="s",
            profiles=_TRAINED,
        )


def _quality() -> Iterable[Claim]:
    """Photographs at equal size and equal CPU time: reports, whichever is better."""
    for model in ("multiscale", "uniform"):
        yield Claim(
            name=f"patches-frechet-{model}",
            statement=f"Frechet distance of the {model} model's samples, trained for as much CPU time as the other: "
            + _PATCHES,
            source=_PAPER,
            target=f"{_HERE}:quality",
            options={"model": model},
            role="report",
            tolerance=("min", 0.0),
            unit="squared distance",
            profiles=_ALL,
        )
        yield Claim(
            name=f"patches-cpu-{model}",
            statement=f"CPU time that a {model} model of the patches was trained for, mean of the seeds",
            source="measured on this machine",
            target=f"{_HERE}:quality_cpu",
            options={"model": model},
            role="report",
            tolerance=("min", 0.0),
            unit="s",
            profiles=_TRAINED,
        )
        yield Claim(
            name=f"patches-sampling-{model}",
            statement=f"CPU time of a sample of the {model} model of the patches",
            source="measured on this machine",
            target=f"{_HERE}:quality_sampling",
            options={"model": model},
            role="report",
            tolerance=("min", 0.0),
            unit="s",
            profiles=_TRAINED,
        )
    yield Claim(
        name="patches-frechet-banded",
        statement="The same of one network at one speed with what else the multi-scale model has: bands centred and of "
        "unit size, boundaries of the data's moments; one seed",
        source=_PATCHES,
        target=f"{_HERE}:quality",
        options={"model": "banded"},
        role="report",
        tolerance=("min", 0.0),
        unit="squared distance",
        profiles=_TRAINED,
    )
    yield Claim(
        name="patches-frechet-floor",
        statement="The same distance of as many of the training patches to the others",
        source=_PATCHES,
        target=f"{_HERE}:quality_floor",
        role="report",
        tolerance=("min", 0.0),
        unit="squared distance",
        profiles=_TRAINED,
    )
    yield Claim(
        name="patches-size",
        statement="The multi-scale model's parameters over the uniform one's",
        source="by construction",
        target=f"{_HERE}:quality_size",
        role="report",
        tolerance=("range", (0.9, 1.1)),
        unit="ratio",
        profiles=_TRAINED,
    )
