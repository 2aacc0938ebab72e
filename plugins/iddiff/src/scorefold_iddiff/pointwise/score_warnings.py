"""Warnings about a dimension: the score, the noise level, and the data.

The page "Reading a dimension" of the documentation says what each means and what to do about it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from scorefold.interfaces import ScoreModel
from scorefold_iddiff.pointwise.plateaus import LEAST_LEVELS, DimensionPlateau, slack
from scorefold_iddiff.pointwise.readings import NoiseLevelReading
from scorefold_iddiff.pointwise.support import CURVATURE, Corrected, DataSurvey, LevelCheck, relative_gap

EXCESS_LOSS = 0.25
"""Denoising loss above the dimension, as a part of it, from which a score counts as coarse; half of one is free."""

SLANT = 0.25
"""E g . (g - z), of guesses g of noises z, as a part of the dimension, from which it counts; half of one is free."""

_LINEAR = 0.5
"""Directions by which the loss is below the best linear denoiser's loss, if the score knows more than a linear one."""

_FOR_MANIFOLDS = "ManifoldNetwork"
_ASYMMETRY = 0.3
_FEW_POINTS = 10


def curvature(found: Corrected) -> float:
    """``parted`` of FLIPD and the trace of P, without the share of noise."""
    return relative_gap(found.flipd, found.trace)


def excess_loss(reading: NoiseLevelReading, found: Corrected) -> float | None:
    """The mean denoising loss, without the share of noise, less the mean dimension; None where it was not read. A
    score's error adds to it."""
    return None if found.loss is None else float((found.loss - reading.dimensions).mean())


def of_score(reading: NoiseLevelReading, clean: Corrected, ambient: int) -> list[str]:
    """Warnings about the score at the level that is read."""
    whole = bool((reading.dimensions == ambient).all())
    found = [_whole(ambient)] if whole else []
    excess, dimension = excess_loss(reading, clean), float(reading.dimensions.mean())
    if excess is not None and excess > 0.5 + EXCESS_LOSS * dimension:
        found.append(
            f"the denoising loss is {excess:.3g} above the dimension: the score is too coarse at this noise level, or "
            "was trained on other data"
        )
    found += bent_by(curvature(clean))
    if reading.asymmetry is not None and not whole and float(reading.asymmetry.median()) > _ASYMMETRY:
        found.append(
            f"the score's Jacobian is not symmetric (a defect of {float(reading.asymmetry.median()):.2g}); the "
            "Jacobian of a gradient is symmetric"
        )
    return found


def of_values(value: float, interval: tuple[float, float] | None, ambient: int) -> list[str]:
    """Warnings about a real-valued dimension in ``ambient`` coordinates."""
    low, high = interval or (value, value)
    if impossible(value, ambient):
        return [
            f"the dimension is read as {value:.3g}, and the data have {ambient} coordinate{'s' * (ambient > 1)}: the "
            "model is too coarse at this noise level, or was trained on other data"
        ]
    return [_whole(ambient)] if fills(value, (low, high), ambient) else []


def impossible(value: float, ambient: int) -> bool:
    """True if a real-valued dimension is one that no data in ``ambient`` coordinates have, by more than its error."""
    return not -0.5 - 0.05 * ambient <= value <= 1.05 * ambient + 0.5


def fills(value: float, interval: tuple[float, float], ambient: int) -> bool:
    """True if a real-valued dimension can't be held apart from all ``ambient`` coordinates."""
    return abs(value - ambient) < 0.05 or interval[0] <= ambient <= interval[1]


def _whole(ambient: int) -> str:
    every = f"all {ambient} directions count" if ambient > 1 else "the one direction counts"
    return f"{every} as tangent: the data fill the space at this scale, or the model was not trained"


def bent_by(difference: float) -> list[str]:
    """Warnings where FLIPD and the projector's trace differ by this part of the dimension."""
    if difference <= CURVATURE:
        return []
    said = f"{difference:.0%} of" if difference < 10 else f"{difference:.2g} times"
    return [
        f"FLIPD and the projector's trace differ by {said} the dimension: the data are curved at this noise level, "
        "or the score is coarse"
    ]


def slant_warnings(slant: float, dimension: float) -> list[str]:
    """Warnings about guesses g of noises z, with E g . (g - z) = ``slant``: exact scores give posterior means, whose
    errors are orthogonal to them."""
    if abs(slant) <= 0.5 + SLANT * max(dimension, 0.0):
        return []
    return [
        f"the guessed noise g of a noise z has E g (g - z) = {slant:.3g}, where an exact score has 0: the score is too "
        "coarse at this noise level, or was trained on other data"
    ]


def of_level(
    dimensions: Tensor, points: Sequence[Sequence[DimensionPlateau]], pooled: Sequence[Mapping[str, Any]], levels: int
) -> list[str]:
    """Warnings about the noise level, at which points have ``dimensions`` (M,), given their plateaus."""
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
        longest = next(row for row in pooled if row["kind"] == "manifold")
        return [
            f"the longest plateau is elsewhere: {longest['dimension']:g} from sigma {longest['least_sigma']:.2g} to "
            f"{longest['greatest_sigma']:.2g}"
        ]
    return []


def of_checks(levels: Sequence[float], checks: Sequence[LevelCheck]) -> list[str]:
    """Warnings about the levels at which a score is no better than a linear denoiser."""
    bad = [(level, check) for level, check in zip(levels, checks, strict=True) if not check.sound]
    if not bad:
        return []
    where = f"at all {len(levels)} noise levels" if len(levels) > 1 else "at this noise level"
    if len(bad) < len(levels):
        ends = f"{bad[0][0]:.2g}" if len(bad) == 1 else f"{bad[0][0]:.2g} to {bad[-1][0]:.2g}"
        where = f"at {len(bad)} of {len(levels)} noise levels, sigma {ends},"
    reasons = "; ".join(dict.fromkeys(check.reason for _, check in bad))
    return [
        f"{where} the score is no better than the best linear denoiser, or contradicts itself, and is not read "
        f"({reasons}): it was trained too little, or on other data"
    ]


def of_linear(value: float | None, check: LevelCheck, principal: int | None) -> list[str]:
    """Warnings about a value that is the number of ``principal`` directions wider than the noise, from a score that is
    no better than the best linear denoiser: right for flat data, and what an undertrained network says of curved
    ones."""
    if value is None or check.loss is None or check.linear is None or value != principal:
        return []
    if check.loss < check.linear - _LINEAR:
        return []
    return [
        f"the score is no better here than the best linear denoiser, and {value:g} is the number of principal "
        "directions: right where the data are flat, too high where they are curved and the score has not learned it"
    ]


def of_curved(value: float | None, why: str) -> str:
    """Reason to withhold a value of data that are not flat, where a linear denoiser would give it, too."""
    return (
        f"withheld, since {value:g} is the number of principal directions, and in these {why}: the score is no better "
        "here than the best linear denoiser and has not learned it"
    )


def of_network(value: float | None, score: ScoreModel) -> list[str]:
    """Advice if there is no value for vectors, and the score has the settings to take the network for manifolds."""
    settable = all(hasattr(getattr(score, "config", None), name) for name in ("network", "prediction", "weighting"))
    names = {type(module).__name__ for module in score.modules()}
    if value is not None or len(score.event_shape) > 1 or not settable or _FOR_MANIFOLDS in names:
        return []
    return [
        "network:manifold-mlp may find a dimension where this network does not: it learns the last normal directions "
        "of vectors sooner (set network: {use: network:manifold-mlp}, prediction: eps, weighting: simple of the score)"
    ]


def of_bent(dimensions: Sequence[int]) -> list[str]:
    """Warnings about plateaus whose readings differ by as much as curvature explains."""
    if not dimensions:
        return []
    which = ", ".join(map(str, dimensions))
    return [
        f"count, FLIPD and denoising loss agree at no level of the plateau of {which}: the data are curved at the "
        "scale of their noise, or the score is coarse"
    ]


def of_mixture(mixture: Sequence[dict[str, float]]) -> list[str]:
    """Warnings about one number for data of several dimensions, each with its share of the points."""
    if len(mixture) < 2:
        return []
    parts = ", ".join(f"{row['dimension']:g} ({row['share']:.0%})" for row in mixture)
    return [f"the data have parts of different dimensions, {parts}: no one number is theirs, so read each point's own"]


def too_few_agree(share: float) -> str:
    """The warning about a plateau that holds for this share of the points, too small a one."""
    return (
        f"only {share:.0%} of the points have a plateau at this noise level: the others vary along another number of "
        "directions, or the score is too coarse for them"
    )


def of_data(look: DataSurvey, sigma: float, points: int, ambient: int) -> list[str]:
    """Warnings about the data."""
    if look.constant == ambient:
        return ["all rows are equal"]
    found = []
    if sigma < look.spacing / 2:
        found.append(
            f"the data are discrete, in steps of {look.spacing:.3g}: at a sigma below half of that each value is an "
            "island"
        )
    if look.copies >= 0.01:
        found.append(f"{look.copies:.0%} of the rows are copies of others, which a score memorises")
    if look.constant:
        held = "are constant and count as no direction"
        if look.step > 0:
            held = f"hold one number each, as far as float32 goes (steps of {look.step:.2g} there): they are constant"
            held += ", or vary by less and were rounded; they count as no direction"
        found.append(f"{look.constant} of {ambient} coordinates {held}")
    if points < _FEW_POINTS:
        found.append(f"only {points} points were read, too few for an interval over points")
    return found
