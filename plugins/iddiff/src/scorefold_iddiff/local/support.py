"""Which noise levels a score supports, and what the readings there are without the data's own noise.

Data that lie on a manifold up to noise of size eta are, seen at sigma, data on it seen at tau, tau^2 = eta^2 + sigma^2.
With m = eta^2 / tau^2 the projector is m I + (1 - m) P_clean: normal directions have the eigenvalue m, the trace is D m
+ (1 - m) tr P_clean and FLIPD is D (1 - (1 - m)^2) + (1 - m)^2 k. Below eta all directions count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from torch import Tensor

from scorefold_iddiff.local.linear import LinearDenoiser
from scorefold_iddiff.local.readings import Reading

CURVATURE = 0.05
"""The relative difference of FLIPD and tr P from which curvature is taken to show."""

_SHARE = 0.05
"""By how much of itself a loss may exceed what it is compared with, beyond two standard errors."""

_FREE = 0.5
"""Directions by which a loss or trace may be off whatever its size: half of one counts as none."""

_QUARTER = 0.25
"""Directions by which readings may differ whatever their size."""

_AGREE, _BENT = 0.1, 0.25
"""The share of a dimension within which its readings agree, and within which curvature explains that they don't."""

FIRM = 0.1
"""The share of a dimension within which its loss is at levels that are beyond question."""

_SLOPE = 0.2
"""The share of a dimension by which the loss may change between neighbouring levels of a plateau."""

_CONSTANT, _NOISE_LEVELS, _SEEN, _REACH = 1.2, 4, 2.0, 5.0
"""Noise has one size up to this ratio at this many neighbouring levels or more, the last between so many times it."""

_NOISE_DECADES = 0.7
"""Decades of sigma that these levels span at least, since close ones say much the same."""


@dataclass(frozen=True)
class Corrected:
    """The trace, FLIPD and the denoising loss (M,) of a level without the share that the data's noise adds."""

    trace: Tensor
    flipd: Tensor
    loss: Tensor | None


@dataclass(frozen=True)
class Check:
    """A noise level: the mean ``loss`` there, the least one of a ``linear`` denoiser (None where it is not known), and
    why the score can't be read (empty where it can)."""

    loss: float | None
    linear: float | None
    reason: str

    @property
    def sound(self) -> bool:
        return not self.reason


def check_level(reading: Reading, linear: LinearDenoiser | None, sigma: float) -> Check:
    """Whether a score is better than the best linear denoiser at a level, and its trace the same as its loss.

    E tr P is the least mean denoising loss of any denoiser. A loss above that of a linear one, or a trace that differs
    from the loss, is that of a network which does not know the data at this level.
    """
    if reading.loss is None:
        return Check(None, None, "")
    loss, trace = reading.loss.double(), reading.trace.double()
    bound = None if linear is None else linear.errors(sigma)
    mean, least = float(loss.mean()), None if bound is None else float(bound.mean())
    reason = ""
    if bound is not None and not _within(loss - bound, float(bound.mean()), above_only=True):
        reason = "its denoising loss is above that of the best linear denoiser"
    elif not _within(loss - trace, mean, above_only=False):
        reason = "its trace differs from its denoising loss"
    return Check(mean, least, reason)


def _within(difference: Tensor, size: float, *, above_only: bool) -> bool:
    mean = float(difference.mean())
    error = float(difference.std(correction=1)) / math.sqrt(len(difference)) if len(difference) > 1 else 0.0
    return (mean if above_only else abs(mean)) <= 2 * error + _SHARE * abs(size) + _FREE


def noise_size(levels: Sequence[float], readings: Sequence[Reading], dimension: int, coordinates: int) -> float | None:
    """The size of the noise around a manifold of this dimension, in units of the data; None where there is none.

    The median m of the eigenvalues of directions normal to it gives eta = sigma sqrt(m / (1 - m)) at each level. It is
    noise where that is the same over several levels, among them one at which little of it is left: a network's errors
    leave about one m at all levels instead, or fall off faster where it smooths small noise away, and curvature leaves
    one that grows with sigma.
    """
    sizes: list[float] = []
    for sigma, reading in zip(levels, readings, strict=True):
        size = math.nan
        if reading.eigenvalues is not None and coordinates > dimension:
            share = float(reading.eigenvalues[:, dimension:coordinates].median(1).values.median())
            size = sigma * math.sqrt(share / (1 - share)) if 1e-4 < share < 1 - 1e-4 else math.nan
        sizes.append(size if sigma <= _REACH * size else math.nan)
    best: list[float] = []
    for start in range(len(sizes)):
        run: list[float] = []
        for size in sizes[start:]:
            if math.isnan(size) or max([*run, size]) > _CONSTANT * min([*run, size]):
                break
            run.append(size)
        last = start + len(run) - 1
        long = bool(run) and levels[last] >= max(_SEEN * median(run), 10**_NOISE_DECADES * levels[start])
        if long and len(run) > len(best):
            best = run
    return median(best) if len(best) >= _NOISE_LEVELS else None


def corrected(reading: Reading, sigma: float, noise: float | None, coordinates: int) -> Corrected:
    """What a reading says without noise of this size in all ``coordinates``; as it is below the noise, where the noise
    is most of what is read."""
    assert reading.flipd is not None
    rest = 1 - _share(sigma, noise)
    return Corrected(
        trace=without_noise(reading.trace, sigma, noise, coordinates),
        flipd=(reading.flipd - coordinates * (1 - rest**2)) / rest**2,
        loss=None if reading.loss is None else without_noise(reading.loss, sigma, noise, coordinates),
    )


def without_noise(trace: Tensor, sigma: float, noise: float | None, coordinates: int) -> Tensor:
    """Traces or denoising losses (N,) less what noise of this size in all ``coordinates`` adds; as they are below the
    noise."""
    share = _share(sigma, noise)
    return (trace - coordinates * share) / (1 - share)


def _share(sigma: float, noise: float | None) -> float:
    """m = eta^2 / (eta^2 + sigma^2), 0 where it is half or more and for no noise."""
    share = 0.0 if noise is None else noise**2 / (noise**2 + sigma**2)
    return share if share < 0.5 else 0.0


def parted(flipd: Tensor, trace: Tensor) -> float:
    """|FLIPD - tr P| over tr P, or over 5 below that, where a quarter of a direction is nothing: of the median over
    points, whose own noise averages out. Both are k where the manifold is flat at this noise level, and differ by
    ||eps-hat(x)||^2."""
    return abs(float(((flipd - trace) / trace.clamp_min(5)).median()))


def agreement(dimension: float, found: Corrected, points: Tensor) -> str:
    """How the count and the corrected FLIPD and loss agree at some points, a mask (M,), up to two standard errors:
    ``agree``, ``bent`` where curvature explains the difference, or ``apart``.

    The trace is left out: an exact score's has twice FLIPD's bias on curved data, and the loss stands for it.
    """
    other = found.trace if found.loss is None else found.loss
    said, error = [dimension], 0.0
    for values in (found.flipd[points], other[points]):
        said.append(float(values.mean()))
        if len(values) > 1:
            error = max(error, 2 * float(values.std(correction=1)) / math.sqrt(len(values)))
    spread = max(said) - min(said) - error
    if spread <= max(_QUARTER, _AGREE * dimension):
        return "agree"
    return "bent" if spread <= max(_QUARTER, _BENT * dimension) else "apart"


def losses_of(found: Sequence[Corrected], points: Tensor) -> list[float]:
    """The mean corrected loss of each level at some points, a mask (M,); the trace where no loss was read."""
    return [float((each.trace if each.loss is None else each.loss)[points].mean()) for each in found]


def steady(dimension: float, losses: Sequence[float]) -> bool:
    """Whether the loss changes little between two neighbouring levels.

    Where a spectrum slopes, a count may stay the same while the loss, its smooth version, falls through it.
    """
    return any(abs(after - before) <= _SLOPE * max(1.0, dimension) for before, after in pairwise(losses))
