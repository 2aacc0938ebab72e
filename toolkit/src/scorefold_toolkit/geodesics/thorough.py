"""Diagnostics of geodesics that take more solves: ``thorough: true``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from scorefold.errors import DataError
from scorefold_toolkit.geodesics.metric import GeodesicMetric, least_eigenvalue
from scorefold_toolkit.geodesics.solve import Geodesics

Found = tuple[dict[str, float], list[str]]

_CORNERS = 5
_TIMES = 9
_SADDLE = -1e-3
_ROUNDING = 1e-6
_CHANGED = 0.1
_COPIES = 0.7
_KNOWN = 1.01


class Solves(Protocol):
    """The parts of a solved geometry that are asked here, all of rows (B, D)."""

    @property
    def dimension(self) -> int: ...

    def path_metric(self) -> GeodesicMetric: ...

    def varied(self) -> Sequence[Solves]: ...

    def thorough_diagnosis(self, found: Geodesics) -> Found: ...

    def _solve(self, a: Tensor, b: Tensor) -> Geodesics: ...


def way_round(lengths: Tensor) -> Tensor:
    """The shortest way between points over any others, (N, N), from their distances (N, N): Floyd and Warshall's.

    >>> way_round(torch.tensor([[0.0, 1.0, 5.0], [1.0, 0.0, 2.0], [5.0, 2.0, 0.0]]))[0].tolist()
    [0.0, 1.0, 3.0]
    """
    found = lengths.clone()
    for middle in range(len(found)):
        found = torch.minimum(found, found[:, middle, None] + found[None, middle])
    return found


def geodesic_diagnosis(geometry: Solves, a: Tensor, b: Tensor, found: Geodesics) -> Found:
    """All numbers and warnings about the geodesics ``found`` of rows a and b (B, D), none of them withheld."""
    numbers: dict[str, float] = {}
    warnings: list[str] = []
    for more, texts in (
        _there_and_back(geometry, a, b, found),
        _triangles(geometry, torch.cat([a, b])),
        _saddles(geometry, found),
        _sensitivity(geometry, a, b, found),
        _curvature(geometry, a),
        geometry.thorough_diagnosis(found),
    ):
        numbers |= more
        warnings += texts
    return numbers, warnings


def _there_and_back(geometry: Solves, a: Tensor, b: Tensor, found: Geodesics) -> Found:
    back = geometry._solve(b, a)
    gap = (found.length - back.length).abs()
    off = ~back.withheld & (gap > found.error + back.error + _ROUNDING * found.length)
    share = torch.where(back.withheld, 0.0, gap / found.length.clamp_min(1e-300))
    text = (
        f"{int(off.sum())} of {len(off)} lengths differ there and back, by up to {float(share.max()):.2g} of them: "
        "there are other minima; set solver.starts: [noise, graph]"
    )
    return {"difference of lengths there and back": float(share.max())}, [text] if bool(off.any()) else []


def _triangles(geometry: Solves, rows: Tensor) -> Found:
    some = rows[:_CORNERS]
    left, right = torch.triu_indices(len(some), len(some), 1)
    found = geometry._solve(some[left], some[right])
    lengths = some.new_zeros(len(some), len(some))
    lengths[left, right] = torch.where(found.withheld, torch.inf, found.length)
    lengths = lengths + lengths.mT
    way = way_round(lengths)[left, right]
    known = ~found.withheld
    if not bool(known.any()):
        return {}, []
    ratio = float((found.length / way.clamp_min(1e-300))[known].max())
    off = int((known & (found.length - found.error > way * (1 + _ROUNDING))).sum())
    text = f"{off} of {int(known.sum())} distances are longer than a way round by another point: no shortest paths"
    return {"longest distance over the way round": ratio}, [text] if off else []


def _saddles(geometry: Solves, found: Geodesics) -> Found:
    metric = geometry.path_metric()
    values = torch.cat([least_eigenvalue(metric, path[None]) for path in found.paths])
    off = int((values < _SADDLE).sum())
    text = f"{off} of {len(values)} geodesics are saddles of the energy, not shortest paths: a shorter one goes round"
    return {"least eigenvalue": float(values.min())}, [text] if off else []


def _sensitivity(geometry: Solves, a: Tensor, b: Tensor, found: Geodesics) -> Found:
    """Changes of paths and lengths at half and twice each setting."""
    times = torch.linspace(0, 1, _TIMES, dtype=torch.float64)
    own, spread = found.at(times), (a - b).norm(dim=1).clamp_min(1e-300)
    moved, ratios = a.new_zeros(()), [1.0]
    for other in geometry.varied():
        again = other._solve(a, b)
        given = ~again.withheld
        if bool(given.any()):
            change = (again.at(times) - own).norm(dim=2).mean(1) / spread
            moved = torch.maximum(moved, change[given].mean())
            ratios.append(float((again.length / found.length)[given].median()))
    if len(ratios) == 1:
        return {}, []
    numbers = {
        "change of paths at half and twice the settings": float(moved),
        "least length at half and twice the settings": min(ratios),
        "largest length at half and twice the settings": max(ratios),
    }
    text = (
        f"paths move by {float(moved):.2g} of the distance of their ends at half and twice the noise and the weight; "
        f"lengths are {min(ratios):.2g} to {max(ratios):.2g} times as long: give a range of distances, not one"
    )
    return numbers, [text] if float(moved) > _CHANGED else []


def _curvature(geometry: Solves, rows: Tensor) -> Found:
    if geometry.dimension < 2:
        return {}, []
    generator = torch.Generator().manual_seed(0)
    u, w = torch.randn(2, *rows.shape, generator=generator, dtype=torch.float64)
    try:
        found = geometry.path_metric().curvature(rows, u, w)
    except DataError:
        return {}, []
    positive = float((found > 0).double().mean())
    return {"median curvature": float(found.median()), "share of planes of positive curvature": positive}, []


def beside_the_graph(geometry: Solves, found: Geodesics, graph: Tensor) -> Found:
    """Lengths over the lengths of paths (B, M + 1, D) over training points."""
    metric = geometry.path_metric()
    known = metric.known(graph[:, 0], graph[:, -1])
    ratio = float((found.length / metric.length(graph, known).clamp_min(1e-300)).max())
    text = f"a path over training points is shorter than a geodesic, by {ratio:.3g}: set solver.starts: [graph]"
    return {"length over the neighbour graph's": ratio}, [text] if ratio > _KNOWN else []


def beside_copies(middles: Tensor, training: Tensor, held_out: Tensor) -> Found:
    """Distances of middles (B, D) to the nearest training and held-out point, over held-out points' own."""
    apart = torch.cdist(held_out, held_out).fill_diagonal_(float("inf")).amin(1).median()
    own = torch.cdist(held_out, training).amin(1).median().clamp_min(1e-300)
    seen = float(torch.cdist(middles, training).amin(1).median() / own)
    unseen = float(torch.cdist(middles, held_out).amin(1).median() / apart.clamp_min(1e-300))
    text = (
        f"middles are {seen:.2g} times as far from the nearest training point as held-out points are, and {unseen:.2g} "
        "times from the nearest held-out one: the paths go through copies of training points"
    )
    numbers = {"nearest training point of middles": seen, "nearest held-out point of middles": unseen}
    return numbers, [text] if seen < _COPIES <= unseen else []
