"""What should make one doubt a dimension, in words: the score, the noise level, and the data."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from scorefold_iddiff.plateaus import CURVATURE, LEAST_LEVELS, Plateau, slack
from scorefold_iddiff.readings import Reading
from scorefold_iddiff.survey import Survey

EXCESS_LOSS = 0.25
"""Denoising loss above the dimension, as a part of it, from which a score counts as coarse; half of one is free."""

_ASYMMETRY = 0.3
_FEW_POINTS = 10


def curvature(reading: Reading) -> float:
    """|FLIPD - tr P| over tr P (or over 1 below that), median over points: both are k where the manifold is flat at
    this noise level, and differ by ||eps-hat(x)||^2."""
    assert reading.flipd is not None
    return float(((reading.flipd - reading.trace).abs() / reading.trace.clamp_min(1)).median())


def excess_loss(reading: Reading) -> float | None:
    """The mean denoising loss less the mean dimension; None where no noises were laid. A score's error adds to it."""
    return None if reading.loss is None else float((reading.loss - reading.dimensions).mean())


def of_score(reading: Reading, ambient: int) -> list[str]:
    """Doubts about the score at the level that is read."""
    found = []
    if bool((reading.dimensions == ambient).all()):
        found.append(
            f"all {ambient} directions count as tangent: the data fill the space at this scale, or the score was not "
            "trained"
        )
    excess, dimension = excess_loss(reading), float(reading.dimensions.mean())
    if excess is not None and excess > 0.5 + EXCESS_LOSS * dimension:
        found.append(
            f"the denoising loss is {excess:.3g} above the dimension: the score is too coarse at this noise level, or "
            "was trained on other data"
        )
    bent = curvature(reading)
    if bent > CURVATURE:
        found.append(
            f"FLIPD and the projector's trace differ by {bent:.0%}: the data are curved at this noise level, or the "
            "score is coarse"
        )
    if reading.asymmetry is not None and float(reading.asymmetry.median()) > _ASYMMETRY:
        found.append(
            f"the score's Jacobian is not symmetric (a defect of {float(reading.asymmetry.median()):.2g}), as that of "
            "a gradient would be"
        )
    return found


def of_level(
    dimensions: Tensor, points: Sequence[Sequence[Plateau]], pooled: Sequence[dict[str, float]], levels: int
) -> list[str]:
    """Doubts about the noise level, at which points have ``dimensions`` (M,), given their plateaus."""
    if levels < LEAST_LEVELS:
        return []
    with_plateau = [(number, found[0]) for number, found in enumerate(points) if found]
    if 2 * len(with_plateau) < len(points):
        return [
            f"no clear plateau: at {len(points) - len(with_plateau)} of {len(points)} points the dimension stays "
            f"the same over no {LEAST_LEVELS} neighbouring noise levels"
        ]
    on = sum(
        abs(int(dimensions[number]) - plateau.dimension) <= slack(plateau.dimension) for number, plateau in with_plateau
    )
    if 2 * on < len(with_plateau):
        longest = pooled[0]
        return [
            f"the longest plateau is elsewhere: {longest['dimension']:g} from sigma {longest['least_sigma']:.2g} to "
            f"{longest['greatest_sigma']:.2g}"
        ]
    return []


def of_data(look: Survey, sigma: float, points: int, ambient: int) -> list[str]:
    """Doubts about the data."""
    found = []
    if sigma < look.spacing / 2:
        found.append(
            f"the data are discrete, in steps of {look.spacing:.3g}: at a sigma below half of that each value is an "
            "island"
        )
    if look.copies >= 0.01:
        found.append(f"{look.copies:.0%} of the rows are copies of others, which a score memorises")
    if look.constant:
        found.append(f"{look.constant} of {ambient} coordinates are constant and count as no direction")
    if points < _FEW_POINTS:
        found.append(f"only {points} points were read, too few for an interval over points")
    return found


def medians(reading: Reading) -> dict[str, float | None]:
    """The diagnostics of a level, medians over points."""

    def median(values: Tensor | None) -> float | None:
        return None if values is None else float(torch.as_tensor(values).median())

    return {
        "trace": median(reading.trace),
        "flipd": median(reading.flipd),
        "denoising_loss": median(reading.loss),
    }
