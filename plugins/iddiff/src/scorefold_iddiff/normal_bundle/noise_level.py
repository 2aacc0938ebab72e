"""The dimension over noise levels, and which of its plateaus is the manifold's.

A plateau may show the manifold, or noise that fills the space at smaller levels, or data that fill the space. It may
also show a scale at which the data are curved. And it may lie at levels that the score does not support. There the
data are memorised, or the score is no better than a linear one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor

from scorefold_iddiff.pointwise import score_warnings as warn
from scorefold_iddiff.pointwise.plateaus import (
    LEAST_DECADES,
    DimensionPlateau,
    decades,
    memorised_levels,
    plateaus_of,
    pooled,
    slack,
)
from scorefold_iddiff.pointwise.readings import NoiseLevelReading
from scorefold_iddiff.pointwise.support import (
    CURVATURE,
    FIRM,
    Corrected,
    LevelCheck,
    LinearDenoiser,
    check_level,
    corrected,
    loss_agreement,
    losses_of,
    noise_size,
    relative_gap,
    steady,
)

_AGREEING = 2
"""Levels of a plateau at which its readings have to agree."""

_RISE = 1.5
"""Ratio of the dimension at the smallest level to a plateau's from which the plateau is a coarse view."""

_NEAR = 2
"""By how much the dimensions of neighbouring levels differ where a plateau may be too narrow for these levels."""

_FINEST = 0.1
"""Decades between neighbouring levels that need no more between them."""

_LASTS = 0.3
"""The share of the data's largest standard deviation up to which data that fill the space do."""


@dataclass(frozen=True)
class DimensionCurve:
    """Readings of M shown points at increasing noise levels, and what they support.

    ``plateaus`` has for each point those that may be the manifold's, the best supported first. ``found`` are all
    plateaus over the points with their kind; ``noise`` is the size of the data's own noise, None where there is none,
    and ``filled`` says that it fills the space at the least levels; ``straight`` are the levels at which curvature does
    not show; ``reasons`` are warnings: which levels can't be read and why.
    """

    levels: list[float]
    readings: list[NoiseLevelReading]
    checks: list[LevelCheck]
    corrected: list[Corrected]
    usable: list[bool]
    straight: list[bool]
    plateaus: list[list[DimensionPlateau]]
    found: list[dict[str, Any]]
    noise: float | None
    filled: bool
    reasons: list[str]

    @property
    def dimensions(self) -> Tensor:
        """k (L, M) at levels and points."""
        return torch.stack([reading.dimensions for reading in self.readings])


@dataclass(frozen=True)
class DataContext:
    """Facts about the data: the median distance of neighbours, the standard deviation along the direction in which they
    vary most, the coordinates that are not constant, and the best linear denoiser, None for too few rows.
    """

    nearest: float
    extent: float
    coordinates: int
    linear: LinearDenoiser | None


def select_plateaus(
    levels: Sequence[float], readings: Sequence[NoiseLevelReading], scene: DataContext
) -> DimensionCurve:
    """Judge readings at increasing levels."""
    dimensions = torch.stack([reading.dimensions for reading in readings])
    # By the trace, since rules that take the widest gap read large dimensions where there is none.
    memorised, reasons = memorised_levels(levels, torch.stack([each.trace for each in readings]), scene.nearest)
    checks = [check_level(reading, scene.linear, at) for at, reading in zip(levels, readings, strict=True)]
    usable = [check.sound and not hit for check, hit in zip(checks, memorised, strict=True)]
    reasons += warn.of_checks(levels, checks)
    columns = [[int(k) for k in column] for column in dimensions.T]
    points = [_wide(plateaus_of(column, usable), levels) for column in columns]
    upper = _common([plateau for own in points for plateau in own if not _full(plateau, scene)])
    rises, below = _rises(dimensions, usable, scene)
    noise = noise_size(levels, readings, upper or below, scene.coordinates) if upper or rises else None
    clean = [corrected(reading, at, noise, scene.coordinates) for at, reading in zip(levels, readings, strict=True)]
    straight = _straight([relative_gap(found.flipd, found.trace) for found in clean])
    kinds: dict[str, list[list[DimensionPlateau]]] = {}
    points = _without_ambient(points, levels, usable, noise, scene, kinds)
    points, bent, firm = _agreeing(points, levels, clean, kinds)
    reasons += warn.of_bent(bent)
    filled = "noise" in kinds or (noise is not None and rises)
    if not filled:
        points = _without_coarse(points, dimensions[usable], firm, kinds)
    points = [sorted(own, key=lambda plateau: _rank(plateau, straight)) for own in points]
    other = [_wide(plateaus_of(column, [not fine for fine in usable]), levels) for column in columns]
    unread = "memorised" if any(memorised) else "undertrained"
    rows = [
        *({**row, "kind": "manifold"} for row in pooled(levels, points)),
        *({**row, "kind": kind} for kind, own in kinds.items() for row in pooled(levels, own)),
        *({**row, "kind": unread} for row in pooled(levels, other)),
    ]
    return DimensionCurve(
        levels=list(levels),
        readings=list(readings),
        checks=checks,
        corrected=clean,
        usable=usable,
        straight=straight,
        plateaus=points,
        found=rows,
        noise=noise,
        filled=filled,
        reasons=reasons,
    )


def levels_between(curve: DimensionCurve, coordinates: int, most: int) -> list[float]:
    """Levels inside and next to runs of neighbouring ones with about one dimension, where a narrow plateau may be; at
    most ``most`` of them, around the runs that are most level first; increasing.

    A run is two levels or more whose medians over points differ by at most ``_NEAR``. Where levels are so far apart
    that a plateau may hold a single one, a level below all coordinates is a run by itself.
    """
    typical = curve.dimensions.double().median(1).values.tolist()
    logs = [math.log10(level) for level in curve.levels]
    inner = [0 < k < coordinates - slack(coordinates) for k in typical]
    fit = [fine and usable for fine, usable in zip(inner, curve.usable, strict=True)]
    seeds: list[tuple[float, int, int]] = []
    for first, k in enumerate(typical[:-1]):
        difference = abs(k - typical[first + 1])
        if fit[first] and fit[first + 1] and difference <= max(slack(int(k)), _NEAR):
            seeds.append((difference / k, first, first + 1))
        if fit[first] and logs[first + 1] - logs[first] > LEAST_DECADES / 2:
            seeds.append((1.0, first, first))
    wanted: dict[float, None] = {}
    for _, first, last in sorted(seeds):
        ends = range(max(0, first - 1), min(len(logs) - 1, last + 1))
        added = [10 ** ((logs[at] + logs[at + 1]) / 2) for at in ends if logs[at + 1] - logs[at] > _FINEST]
        wanted |= dict.fromkeys(added)
    return sorted(list(wanted)[:most])


def _wide(found: Sequence[DimensionPlateau], levels: Sequence[float]) -> list[DimensionPlateau]:
    return [plateau for plateau in found if decades(plateau, levels) >= LEAST_DECADES - 1e-3]


def _full(plateau: DimensionPlateau, scene: DataContext) -> bool:
    return plateau.dimension >= scene.coordinates - slack(scene.coordinates)


def _common(plateaus: Sequence[DimensionPlateau]) -> int | None:
    """The dimension of most plateaus, the lowest of as frequent ones; None for none."""
    known = [plateau.dimension for plateau in plateaus if plateau.dimension > 0]
    return min(set(known), key=lambda k: (-known.count(k), k)) if known else None


def _rises(dimensions: Tensor, usable: Sequence[bool], scene: DataContext) -> tuple[bool, int]:
    """Test that all coordinates count from the least usable level on and fewer above, by medians over points, and the
    greatest number above, 0 for none. ``dimensions`` (L, M).
    """
    typical = dimensions.double().median(1).values[torch.tensor(usable, dtype=torch.bool)].tolist()
    full = scene.coordinates - slack(scene.coordinates)
    above = [int(k) for k in typical if k < full]
    return bool(typical) and typical[0] >= full and max(above, default=0) > 0, max(above, default=0)


def _straight(curvatures: Sequence[float]) -> list[bool]:
    """The levels up to the last at which curvature does not show; all where it does everywhere, which a coarse score
    does."""
    last = max((number for number, value in enumerate(curvatures) if value <= CURVATURE), default=len(curvatures))
    return [number <= last for number in range(len(curvatures))]


def _rank(plateau: DimensionPlateau, straight: Sequence[bool]) -> tuple[int, int, int]:
    levels = range(plateau.start, plateau.end + 1)
    return -sum(straight[level] for level in levels), -len(levels), plateau.start


def _without_ambient(
    points: list[list[DimensionPlateau]],
    levels: Sequence[float],
    usable: Sequence[bool],
    noise: float | None,
    scene: DataContext,
    kinds: dict[str, list[list[DimensionPlateau]]],
) -> list[list[DimensionPlateau]]:
    """The plateaus without those that fill the space, which go to ``kinds``.

    One from the least level on is noise where most points have a lower one above it, since noise is common to all
    points; or a network's errors, where noise of no one size explains it.
    With none above, data fill the space only where that lasts from the least level to a good part of their extent. One
    that begins higher is a scale at which the data are too curved to be seen as thin.
    """
    least = next((number for number, fine in enumerate(usable) if fine), 0)
    ambient = [[each for each in own if _full(each, scene) and each.start == least] for own in points]
    above = [
        bool(low) and any(0 < each.dimension < low[0].dimension - slack(low[0].dimension) for each in own)
        for own, low in zip(points, ambient, strict=True)
    ]
    noisy = 2 * sum(above) >= max(1, sum(bool(low) for low in ambient))
    lasting = _LASTS * scene.extent
    kept = []
    for own, low in zip(points, ambient, strict=True):
        stay = []
        for each in own:
            every = each.dimension >= scene.coordinates - scene.coordinates // 100
            if each in low and noisy:
                kind = "undertrained" if noise is None else "noise"
            elif each in low and every and (least > 0 or levels[each.end] < lasting):
                kind = "space"
            elif each not in low and every and each.start > least and scene.coordinates > 1:
                kind = "curvature"
            else:
                stay.append(each)
                continue
            kinds.setdefault(kind, []).append([each])
        kept.append(stay)
    return kept


def _agreeing(
    points: list[list[DimensionPlateau]],
    levels: Sequence[float],
    clean: Sequence[Corrected],
    kinds: dict[str, list[list[DimensionPlateau]]],
) -> tuple[list[list[DimensionPlateau]], list[int], dict[int, float]]:
    """The plateaus at two of whose levels count, FLIPD and denoising loss agree, or where there are none, those for
    which curvature explains that they don't; the dimensions of the latter; and of each dimension over how many decades
    of sigma the loss is close to it. Other plateaus go to ``kinds``."""
    verdicts: dict[int, str] = {}
    firm: dict[int, float] = {}
    for dimension in {each.dimension for own in points for each in own}:
        having = {number: each for number, own in enumerate(points) for each in own if each.dimension == dimension}
        mask = torch.tensor([number in having for number in range(len(points))])
        start = int(median(each.start for each in having.values()))
        end = int(median(each.end for each in having.values()))
        said = [loss_agreement(dimension, clean[level], mask) for level in range(start, end + 1)]
        # By chance one level agrees where the readings cross.
        agree, bent = said.count("agree"), said.count("bent")
        losses = losses_of(clean[start : end + 1], mask)
        firm[dimension] = math.fsum(
            decades(DimensionPlateau(dimension, start + place, start + place), levels)
            for place, loss in enumerate(losses)
            if abs(loss - dimension) <= FIRM * max(1, dimension)
        )
        if not steady(dimension, losses):
            verdicts[dimension] = "apart"
        else:
            verdicts[dimension] = "agree" if agree >= _AGREEING else "bent" if agree + bent >= _AGREEING else "apart"
    if not any(word == "agree" for word in verdicts.values()):
        accepted = {dimension for dimension, word in verdicts.items() if word == "bent"}
    else:
        accepted = {dimension for dimension, word in verdicts.items() if word == "agree"}
    dropped = [[each for each in own if each.dimension not in accepted] for own in points]
    if any(dropped):
        kinds.setdefault("curvature", []).extend([[each] for own in dropped for each in own])
    kept = [[each for each in own if each.dimension in accepted] for own in points]
    curved = sorted(dimension for dimension in accepted if verdicts[dimension] == "bent")
    return kept, curved, {dimension: firm[dimension] for dimension in accepted}


def _without_coarse(
    points: list[list[DimensionPlateau]],
    dimensions: Tensor,
    firm: Mapping[int, float],
    kinds: dict[str, list[list[DimensionPlateau]]],
) -> list[list[DimensionPlateau]]:
    """The plateaus that are not a coarse view of data with more dimensions.

    A plateau is left out if the dimension below it rises to the least level that can be read, does not settle at
    another plateau, and no noise explains the rise. A plateau that the loss is close to over half a decade is a scale
    of its own, and stays. ``dimensions`` (L, M) are the dimensions at the levels that can be read.
    """
    if not len(dimensions):
        return points
    finest = dimensions[0]
    coarse = set()
    # Where a network's errors fill the space below, any rise is theirs or unexplained, and a decade is needed.
    errors = "undertrained" in kinds
    for dimension in [own for own, length in firm.items() if length < (2 if errors else 1) * LEAST_DECADES]:
        having = [number for number, own in enumerate(points) if any(each.dimension == dimension for each in own)]
        below = any(each.dimension > dimension + slack(dimension) for number in having for each in points[number])
        there = float(finest[having].mean())
        most = dimension + slack(dimension) if errors else _RISE * dimension
        if not below and there >= most + 0.5:
            coarse.add(dimension)
    dropped = [[each] for own in points for each in own if each.dimension in coarse]
    if dropped:
        kinds.setdefault("coarse", []).extend(dropped)
    return [[each for each in own if each.dimension not in coarse] for own in points]


def dimension_rows(curve: DimensionCurve, reduce: Callable[[Tensor], Tensor]) -> list[dict[str, Any]]:
    """A row a level over the shown points: the aggregate of k with the least and the greatest; medians of the trace,
    FLIPD and the denoising loss, which bounds the dimension at this scale from above; the loss of the best linear
    denoiser; and whether the score supports the level."""
    rows = []
    for level, reading, clean, check, usable in zip(
        curve.levels, curve.readings, curve.corrected, curve.checks, curve.usable, strict=True
    ):
        rows.append(
            {
                "sigma": level,
                "value": float(reduce(reading.dimensions)),
                "least": float(reading.dimensions.min()),
                "greatest": float(reading.dimensions.max()),
                "trace": _median(reading.trace),
                "flipd": _median(reading.flipd),
                "denoising_loss": _median(reading.loss),
                "curvature": relative_gap(clean.flipd, clean.trace),
                "mean_loss": check.loss,
                "linear_loss": check.linear,
                "supported": usable,
            }
        )
    return rows


def over_scales(curve: DimensionCurve, value: float) -> tuple[float, float] | None:
    """The least and the greatest mean over points of count, FLIPD and denoising loss, where the three agree, at the
    levels of the plateaus of about this value; None where they agree at none."""
    found = []
    for row in curve.found:
        if row["kind"] != "manifold" or abs(row["dimension"] - value) > slack(round(value)):
            continue
        for level, dimensions, clean in zip(curve.levels, curve.dimensions, curve.corrected, strict=True):
            every = torch.ones(len(dimensions), dtype=torch.bool)
            inside = row["least_sigma"] * 0.999 <= level <= row["greatest_sigma"] * 1.001
            if inside and loss_agreement(row["dimension"], clean, every) == "agree":
                loss = clean.trace if clean.loss is None else clean.loss
                found += [float(values.double().mean()) for values in (dimensions, clean.flipd, loss)]
    return (min(found), max(found)) if found else None


def _median(values: Tensor | None) -> float | None:
    return None if values is None else float(torch.as_tensor(values).median())


def scales_read(rows: Sequence[Mapping[str, Any]]) -> str:
    """The noise levels that the score supports, as text; all where it supports none."""
    shown = [row["sigma"] for row in rows if row["supported"]] or [row["sigma"] for row in rows]
    return f"noise of sigma {shown[0]:.2g} to {shown[-1]:.2g}"


def headline(rows: Sequence[dict[str, Any]], coordinates: int) -> str:
    """Headline if no scale supports one dimension: the range with the scales."""
    supported = [row for row in rows if row["supported"]]
    shown = [row for row in supported or rows if row["value"] > 0] or list(rows)
    least, most = min(row["value"] for row in shown), max(row["value"] for row in shown)
    where = f"sigma {shown[0]['sigma']:.2g} to {shown[-1]['sigma']:.2g}"
    if most == 0:
        return f"no direction shows at sigma {rows[0]['sigma']:.2g} and above; no single dimension"
    if not supported:
        return f"the score supports no scale: it reads {least:.0f} to {most:.0f} over {where}; no single dimension"
    if least >= coordinates - coordinates // 100:
        return f"the data fill the space at every scale reached, {where}; no single dimension"
    if least == most:
        only = f"sigma {shown[0]['sigma']:.2g}" if len(shown) == 1 else where
        return f"{least:.0f} at {only} alone; no single dimension"
    if (shown[0]["value"], shown[-1]["value"]) == (most, least):
        return f"{most:.0f} at the finest scale to {least:.0f} at the coarsest ({where}); no single dimension"
    return f"{least:.0f} to {most:.0f}, depending on the scale ({where}); no single dimension"
