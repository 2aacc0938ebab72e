"""Verdicts of verbs: an answer next to its baseline as sentences, and what to do next.

Each function returns entries of the ``answer`` of a result: ``verdict``, ``sure`` where warnings don't say it, and
``advice``. A difference counts where its p-value is at most ``LEVEL``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from scorefold.interfaces import DataSource
from scorefold_toolkit.metrics import sharpness
from scorefold_verbs.config import COST_LIMIT
from scorefold_verbs.inputs import nearness

if TYPE_CHECKING:
    from scorefold_verbs.references import EnergyDistances

BITS = "bits per dimension"
"""The name of the cost of discrete points under a model."""

_UNITS = ("dB", "nats per dimension")
"""What stands in brackets behind a quantity and is a unit."""

TRAINING = "training points"
"""The name of a baseline: training points in the place of samples."""

LEVEL = 0.05
"""The p-value from which on two things are not held to differ."""

FEWEST = 6
"""The fewest pairs whose differences can be significant: of 5 of one sign the p-value is 1/16."""

SHARPER = 1.3
"""The ratio of sharpness from which on paths are sharper than straight lines. Far above the points', it is noise."""

_TRAIN = "train the model longer, or with 'patience' where its loss of held-out points rose"

_ALL = 12
"""The most pairs of which all 2^n signs are tried."""

_FLIPS = 4096


def value_with_interval(value: float, interval: Sequence[float] | None = None) -> str:
    """A value with its interval, to the decimals that give the interval's width two digits.

    >>> value_with_interval(0.9512, (0.6873, 1.2151))
    '0.95 (95% interval 0.69 to 1.22)'
    >>> value_with_interval(-0.004, (-1.5, 1.5))
    '0.0 (95% interval -1.5 to 1.5)'
    """
    form = _form(interval)
    return f"{value:{form}}" + (
        "" if interval is None else f" (95% interval {interval[0]:{form}} to {interval[1]:{form}})"
    )


def _form(interval: Sequence[float] | None) -> str:
    """The format of numbers next to an interval: the decimals that give its width two digits."""
    width = 0.0 if interval is None else interval[1] - interval[0]
    decimals = 1 - math.floor(math.log10(width)) if math.isfinite(width) and width > 0 else -1
    return f"z.{decimals}f" if 0 <= decimals <= 6 else "z.3g"  # z: no -0


def _measured(quantity: str, value: float, interval: Sequence[float] | None) -> str:
    """A quantity with its value, its unit behind the number.

    >>> _measured("PSNR (dB)", 17.9, None), _measured("bits per dimension", 3.5, None)
    ('PSNR 17.9 dB', '3.5 bits per dimension')
    """
    number, opened, rest = value_with_interval(value, interval).partition(" (")
    name, _, unit = quantity.removesuffix(")").partition(" (")
    if quantity == BITS:
        return f"{number} {BITS}{opened}{rest}"
    return f"{name} {number} {unit}{opened}{rest}" if unit in _UNITS else f"{quantity} {number}{opened}{rest}"


def sign_flip(differences: Tensor) -> float:
    """The p-value that paired differences (n,) have no sign, both sides: the share of all flips of their signs whose
    sum is as far from 0 (Fisher 1935); of more than 12 pairs, of 4,096 random flips.

    >>> sign_flip(torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, 9.0]))
    0.03125
    """
    count, values = len(differences), differences.double().cpu()
    if count <= _ALL:
        bits = torch.arange(2**count)[:, None] >> torch.arange(count) & 1
    else:
        bits = torch.randint(2, (_FLIPS, count), generator=torch.Generator().manual_seed(0))
        bits[0] = 0
    sums = ((1 - 2 * bits).double() @ values).abs()
    whole = float(values.sum().abs())
    return float((sums >= whole * (1 - 1e-12)).double().mean())


def of_paths(
    what: str,
    near: Tensor,
    lines: Sequence[Tensor],
    interval: Sequence[float],
    *,
    straight: bool,
    sharp: tuple[float, float] | None = None,
) -> dict[str, Any]:
    """Compare the middles of paths with the middles of straight lines: their distances from the data.

    ``near`` (B,) is how far the middle of each path is from the data, in distances of held-out points, and ``lines``
    are the straight lines' (B,), and the denoised ones' where there are some; ``sharp`` the sharpness of middles of
    paths and of straight lines.
    """
    name = {"geodesic": "Geodesics", "decoded": "Decoded paths"}.get(what, f"{what.capitalize()} paths")
    value, line = float(near.mean()), float(lines[0].mean())
    times, form = value_with_interval(value, interval), _form(interval)
    at = "Distance of midpoints from the training data, where a held-out point has 1"
    if straight:
        return {"verdict": f"These paths are straight lines. {at}: {times}.", "minor": True}
    both = f"{at}: {name.lower()} {times}, straight lines {line:{form}}"
    order = _order(near, lines[0])
    found: dict[str, Any] = {}
    if order < 0:
        said = f"{name} stay closer to the data than straight lines. {both}."
    elif order > 0:
        said = f"{name} lie farther from the data than straight lines. {both}."
        found = {"sure": "with caution", "advice": "train the model longer, or take another geometry"}
    elif len(near) < FEWEST:
        said = f"Too few pairs to compare {name.lower()} with straight lines. {both}."
        found = {"sure": "with caution", "advice": "take more pairs: options: {pairs: 16}"}
    elif sharp is not None and SHARPER * sharp[1] < sharp[0] < SHARPER:
        said = f"{name} are sharper than straight lines, and as close to the data. {both}."
    elif sharp is not None and sharp[0] > SHARPER * sharp[1]:
        sharper = "sharper than the points, maybe by noise"
        said = f"{name} are as close to the data as straight lines, and {sharper}. {both}."
        found = {"sure": "with caution", "advice": "look at the pictures, or train the model longer"}
    else:
        said = f"{name} are no better than straight lines here. {both}."
        found = {"advice": "take pairs whose straight line leaves the data, or train the model longer"}
    if len(lines) > 1 and order <= 0:
        closer = _order(near, lines[1]) < 0
        end = "too" if order < 0 else "though"
        rank = f"closer than denoised straight lines {end}" if closer else "no closer than denoised straight lines"
        said += f" They lie {rank} ({float(lines[1].mean()):{form}})."
    if sharp is not None:
        kept = f"{name.lower()} {sharp[0]:.0%}, straight lines {sharp[1]:.0%}"
        said += f" Sharpness of midpoints, where a data point has 100%: {kept}."
    return {"verdict": said, **found}


def _order(first: Tensor, second: Tensor) -> int:
    """-1 where the first of paired numbers (B,) are lower, 1 where they are higher, 0 where chance may explain it."""
    difference = (first - second.to(first)).double()
    if not bool(torch.isfinite(difference).all()) or sign_flip(difference) > LEVEL:
        return 0
    return -1 if float(difference.mean()) < 0 else 1


def of_samples(distances: EnergyDistances, split: str, speckle: float | None = None) -> dict[str, Any]:
    """Compare samples with training points by their energy distances from held-out points; and images with these by
    their ``speckle``, which is 1 where it is alike."""
    found = _of_distances(distances, split)
    if speckle is None or speckle == 1:
        return found
    how = "Single pixels stand out" if speckle > 1 else "Samples are too smooth"
    times = f"samples have {speckle:.2g} times the speckle of the {split} points"
    none = f"samples have speckle, and the {split} points have none"
    said = f"{found['verdict']} {how}: {none if math.isinf(speckle) else times}."
    return {**found, "verdict": said, "sure": "with caution", "advice": _MORE_STEPS}


_MORE_STEPS = "train the model longer, or take more sampling steps"


def _of_distances(distances: EnergyDistances, split: str) -> dict[str, Any]:
    distance, training, chance = distances.samples, distances.training, distances.chance
    if training is None:
        return {"verdict": f"The energy distance of the samples from the {split} points is {distance:.3g}; 0 is best."}
    numbers = f"energy distance {distance:.2g} vs {training:.2g}"
    found: dict[str, Any] = {"baselines": {TRAINING: training}}
    if distance <= training:
        said = f"Samples are as close to the {split} points as training points are ({numbers})."
    elif distance <= training + chance:
        alike = f"Samples and training points do not differ significantly in distance from the {split} points"
        said = f"{alike} ({numbers}; a difference of {chance:.2g} can be chance)."
    else:
        farther = f"Samples lie farther from the {split} points than training points do"
        said = f"{farther} ({numbers}; a difference of {chance:.2g} can be chance)."
        found["advice"] = _MORE_STEPS
    return {"verdict": said, **found}


def of_assessment(
    quantity: str, value: float, interval: Sequence[float] | None, training: float | None
) -> dict[str, Any]:
    """The quality of samples, compared with training points in their place.

    Of a quantity that compares each sample with the truth of its condition, training points know nothing of the
    condition, and are to be beaten. Of one that compares distributions they are as good as samples can be.
    """
    number = _measured(quantity, value, interval)
    if training is None:
        return {"verdict": f"The samples have {number}."}
    found: dict[str, Any] = {"baselines": {TRAINING: training}}
    if "distance" in quantity:
        closer = (value if interval is None else interval[0]) <= training
        than = "are as close to held-out points as" if closer else "lie farther from held-out points than"
        verb = "are" if closer else "do"
        return {
            "verdict": f"Samples {than} training points {verb}: {number} vs {training:.3g}.",
            **found,
        }
    low, high = (value, value) if interval is None else interval
    better, worse = high < training, low > training
    if quantity.startswith("PSNR"):  # more is better
        better, worse = worse, better
    numbers = f"{number} vs {training:.3g}"
    if better:
        return {"verdict": f"Samples are closer to the truth than random training points: {numbers}.", **found}
    found["advice"] = "train the model longer, or check that it reads its condition"
    if worse:
        said = f"Samples are farther from the truth than random training points: {numbers}."
        return {"verdict": said, "sure": "with caution", **found}
    return {"verdict": f"Samples are no better than random training points: {numbers}.", **found}


def of_likelihood(
    quantity: str,
    value: float,
    interval: Sequence[float] | None,
    normal: float | None,
    exact: float | None,
    *,
    levels: int | None = None,
    impossible: str = "",
) -> dict[str, Any]:
    """Compare a model with a normal distribution by the fit to held-out points; less is better. Bits of points of so
    many ``levels`` are compared with the bits of any level. ``impossible`` counts points of density 0, which the value
    leaves out."""
    number = _measured(quantity, value, interval)
    low, high = (value, value) if interval is None else interval
    found: dict[str, Any] = {} if normal is None else {"baselines": {"normal distribution": normal}}
    if quantity == BITS and levels is not None:
        stored = math.log2(levels)
        found = {"baselines": {"without a model": stored}}
        said = f"The model stores held-out points in {number}, where {stored:.3g} are needed without a model."
        if low >= stored:
            found["advice"] = _TRAIN
    elif normal is None:
        said = f"Held-out points have {number}; lower is better."
    elif high < normal:
        said = f"The model fits held-out points better than a normal distribution does: {number} vs {normal:.3g}."
    elif low > normal:
        said = f"The model fits held-out points worse than a normal distribution does: {number} vs {normal:.3g}."
        found["advice"] = _TRAIN
    else:
        said = f"The model is no better than a normal distribution on held-out points: {number} vs {normal:.3g}."
        found["advice"] = f"{_TRAIN}, unless the data are normal"
    if exact is not None:
        off = f"{abs(value - exact):.2g} {'higher' if exact > value else 'lower'}"
        place = "inside the interval" if low <= exact <= high else off
        said += f" The exact value is {exact:.4g}, {place}."
    if impossible:
        said = f"{impossible}. Without such points, {said[0].lower()}{said[1:]}"
        found |= {"sure": "with caution", "advice": "check the points of density 0 and the limits of the model"}
    return {"verdict": said, **found}


def of_auroc(name: str, value: float, unusual: int, usual: int) -> dict[str, Any]:
    """Measure how well a score separates unusual points from usual ones, with the error of Hanley and McNeil (1982)."""
    first, second = value / (2 - value), 2 * value**2 / (1 + value)
    variance = value * (1 - value) + (unusual - 1) * (first - value**2) + (usual - 1) * (second - value**2)
    error = 1.96 * math.sqrt(max(variance, 0.0) / (unusual * usual))
    low, high = max(0.0, value - error), min(1.0, value + error)
    numbers = f"AUROC {value:.3g} (95% interval {low:.2f} to {high:.2f}) by {name}, where 0.5 is chance"
    interval = {"interval": [low, high]}
    if low > 0.5:
        return {"verdict": f"Unusual points are separated from usual ones: {numbers}.", **interval}
    advice = {"advice": "train the model longer, or score the points by another model"}
    if high < 0.5:
        said = f"Unusual points look more usual than usual ones: {numbers}."
        return {"verdict": said, "sure": "with caution", **interval, **advice}
    said = f"The score is no better than chance at separating unusual points from usual ones: {numbers}."
    return {"verdict": said, **interval, **advice}


UNLIKE = 0.01
"""The share of points like the data that may cost more than the limit."""


def cost_limit(costs: Tensor) -> float | None:
    """The cost that a new point of the same distribution exceeds with a probability of ``UNLIKE`` at most.

    ``costs`` (N,) are the costs of points of the distribution. The rank among exchangeable points is uniform (Vovk et
    al. 2005). Points of density 0 cost inf. Returns None for too few points of another cost.

    >>> cost_limit(torch.arange(199.0)), cost_limit(torch.arange(98.0))
    (197.0, None)
    """
    rank = math.ceil((1 - UNLIKE) * (len(costs) + 1))
    return None if rank > int(costs.isfinite().sum()) else float(costs.sort().values[rank - 1])


def of_costs(costs: Tensor, names: Sequence[str], limit: float | None, split: str) -> dict[str, Any]:
    """State the ``limit`` of ``costs`` (N,) in bits a dimension, and the point of a finite cost that costs the most.

    Points of the training ``split`` cost less than others like them, and their limit is too low.
    """
    top = int(costs.where(costs.isfinite(), -math.inf).argmax())
    none, among = int(costs.isinf().sum()), f"Of {len(costs):,} points"
    if none:
        among = f"{none:,} of {len(costs):,} points {'has' if none == 1 else 'have'} density 0. Of the others,"
    most = f"{among} {names[top]} costs the most, {float(costs[top]) + 0.0:.3g} bits a dimension"
    if limit is None:
        needed = f"There are too few points for a limit, which needs {math.ceil((none + 1) / UNLIKE) - 1:,}"
        if none > UNLIKE * len(costs):
            needed = f"There is no limit where more than {UNLIKE:.0%} of points have density 0"
        said = f"{most}. {needed}"
        return {"quantity": "largest cost (bits a dimension)", "value": float(costs[top]), "verdict": f"{said}."}
    said = f"A point that costs more than {limit:.3g} bits a dimension is unlike the data"
    verdict = f"{said}. By chance {UNLIKE:.0%} of points like the data cost as much. {most}."
    found = {"quantity": COST_LIMIT, "value": limit, "verdict": verdict}
    if split != "train":
        return found
    return {**found, "sure": "with caution", "advice": "take the limit from held-out points: split: test"}


UNLIKE_SHARE = "share of points unlike the data"


def of_costs_above(limit: float, costs: Tensor, names: Sequence[str]) -> dict[str, Any]:
    """State the share of ``costs`` (N,) above a ``limit`` that other points gave."""
    said = above_limit(limit, costs, names).strip()
    return {"quantity": UNLIKE_SHARE, "value": float((costs > limit).double().mean()), "verdict": said}


def above_limit(limit: float | None, unusual: Tensor, names: Sequence[str]) -> str:
    """Name the ``unusual`` points (M,) that cost more than the ``limit``, as a sentence; empty without a limit."""
    if limit is None:
        return ""
    above = (unusual > limit).nonzero()[:, 0].tolist()
    which = ", ".join(names[place] for place in above[:_LISTED])
    which = f": {which}" if above else ""
    rest = f" and {len(above) - _LISTED} more" if len(above) > _LISTED else ""
    return f" {len(above)} of {len(unusual)} cost more than all but {UNLIKE:.0%} of usual points{which}{rest}."


_LISTED = 5


def of_generated(quantity: str, value: float, real: float | None) -> dict[str, Any]:
    """Compare generated events with other real events by their closeness to real events."""
    if real is None:
        return {"verdict": f"The {quantity} is {value:.3g}; 0 is best."}
    numbers = f"{quantity} {value:.3g} vs {real:.3g}"
    found: dict[str, Any] = {"baselines": {"other real events": real}}
    if value <= real:
        return {
            "verdict": f"Generated events are as close to real events as other real events are ({numbers}).",
            **found,
        }
    said = f"Generated events lie farther from real events than other real events do ({numbers})."
    return {"verdict": said, **found, "advice": "fit a mixture to the codes (codes: mixture), or train longer"}


def of_reconstruction(error: float) -> dict[str, Any]:
    """The error of reconstructions, compared with the mean of the data, whose relative error is 1."""
    number = f"relative error {error:.3g} vs 1"
    if error < 1:
        return {"verdict": f"Reconstructions are closer to the data points than the mean of the data is: {number}."}
    return {
        "verdict": f"Reconstructions are no better than the mean of the data: {number}.",
        "sure": "with caution",
        "advice": "train longer, or with a larger code",
    }


def of_lengths(lengths: Tensor, lines: Tensor) -> dict[str, Any]:
    """Compare the ``lengths`` of geodesics (B,) with the lengths of straight ``lines`` (B,) by one metric."""
    length, line = float(lengths.mean()), float(lines.mean())
    numbers = f"mean length of {len(lengths)} pairs {length:.3g} vs {line:.3g}"
    said = f"Geodesics are no shorter than straight lines by this geometry: {numbers}."
    if length < 0.99 * line:
        said = f"Geodesics are {1 - length / line:.0%} shorter than straight lines by this geometry: {numbers}."
    return {"quantity": "mean length", "value": length, "baselines": {"straight": line}, "verdict": said}


def withheld(answer: dict[str, Any], reason: str, advice: str) -> dict[str, Any]:
    """An answer whose number is not given, for a reason."""
    kept = {name: entry for name, entry in answer.items() if name != "sure"}
    return {**kept, "value": None, "interval": None, "verdict": f"No answer: {reason}.", "advice": advice}


LOST = 3.0
"""The largest distance of middles of paths from the data, as a multiple of the distance for straight lines."""

STRAIGHT = 1e-3
"""The share of the distance of its ends by which the middle of a straight line is off at most."""


def is_straight(middles: Tensor, start: Tensor, end: Tensor) -> bool:
    """Whether paths between ``start`` and ``end`` (B, *E) are straight lines, by their middles (B, *E)."""
    off = (middles - (start + end) / 2).flatten(1).norm(dim=1).mean()
    return bool(off <= STRAIGHT * (end - start).flatten(1).norm(dim=1).mean())


def of_path(
    middles: Tensor, start: Tensor, end: Tensor, source: DataSource, *, what: str, denoised: Tensor | None = None
) -> tuple[dict[str, float], dict[str, Any], list[str]]:
    """Metrics of the middles of paths between ``start`` and ``end`` (B, *E), the ``answer`` entry of a result, and
    warnings, of which there is one where the paths are lost: then there are no metrics, and the answer has no value.

    How far they are from the data, in the unit of ``nearness``, and of images their sharpness divided by the sharpness
    of the ends, next to straight lines: the mean of two images is blurred, and near to many. ``denoised`` (B, *E) are
    the denoised middles of straight lines, where something can denoise them: the baseline to beat. Paths that are
    straight lines are called so. The verdict is by ``of_paths``. No entry where nothing is compared.
    """
    held_out, straight = torch.cat([start, end]), (start + end) / 2
    image = start.dim() == 4 and min(start.shape[2:]) >= 3
    baselines = [straight] if denoised is None else [straight, denoised]
    sharp = [float(sharpness(x.double()).mean()) for x in (held_out, middles, *baselines)] if image else [0.0] * 4
    real = sharp[0]
    share, *of_others = (value / (real or 1) for value in sharp[1:])
    metrics = {"sharpness of the middles relative to the points": share} if real else {}
    near, *lines = (nearness(x, held_out, source) for x in (middles, *baselines))
    if near is None:
        return metrics, {}, []
    value, error = float(near.mean()), 1.96 * float(near.std(correction=0)) / math.sqrt(len(near))
    others = [line for line in lines if line is not None]
    known = [float(line.mean()) for line in others]
    sharpnesses = (share, of_others[0]) if real else None
    interval = [value - error, value + error]
    answer: dict[str, Any] = {
        "quantity": f"distance of {what} middles from the data, in distances of held-out points",
        "value": value,
        "interval": interval,
        "baselines": dict(zip(("straight", "straight, denoised"), known, strict=False)),
        **of_paths(what, near, others, interval, straight=is_straight(middles, start, end), sharp=sharpnesses),
    }
    if value <= LOST * max(1.0, known[0]):
        if denoised is not None:
            metrics |= {"sharpness of denoised straight lines": of_others[1]} if real else {}
            metrics["denoised straight lines from the data"] = known[1]
        return {**metrics, "middles from the data": value}, {"answer": answer}, []
    text = f"the middles of the paths lie at {value:.3g}, and middles of straight lines at {known[0]:.3g}"
    said = f"{text}: the model has not learned these data"
    return {}, {"answer": withheld(answer, said, "train the model longer, or take another")}, [said]
