"""Distances between points: nearest neighbours, duplicates, and the dimension that neighbours see.

The dimension is the maximum likelihood of Levina and Bickel (2004) from the distances T_1 <= ... <= T_k of a point's
neighbours, with the correction of MacKay and Ghahramani (2005) that makes it unbiased:
m = (k - 2) / sum_{j<k} log(T_k / T_j).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextvars import copy_context
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor

from scorefold.stage import report, showing
from scorefold_explore.answers.scales import OWN, rows_in_scale
from scorefold_explore.explored import Explored

SECONDS = 40.0
"""Longest time for computing a colour of the map."""


class _TimeOver(Exception):  # noqa: N818 - it ends a batch, and nothing has gone wrong
    pass


def computed_in_time(
    count: int, compute: Callable[[Tensor], Tensor], text: str, *, seconds: float = SECONDS, batch: int = 32
) -> tuple[Tensor, int]:
    """``compute`` of rows (n,) for as many of ``count`` rows as there is time for: (count,), NaN for the rest, and how
    many are known. Batches grow while they are quick, and each is reported, so that it can be stopped between them; one
    that reports its own progress ends with the time.
    """
    values = torch.full((count,), math.nan)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    start, done, size, outside = time.monotonic(), 0, batch, copy_context()

    def inside(step: int, steps: int, what: str) -> None:
        outside.run(report, done, count, text)
        if done and time.monotonic() - start > seconds:
            raise _TimeOver

    while done < count:
        began = time.monotonic()
        rows = order[done : done + size]
        try:
            with showing(inside):
                values[rows] = compute(rows).detach().cpu().float()
        except _TimeOver:
            break
        done += len(rows)
        report(done, count, text)
        now = time.monotonic()
        if now - start > seconds:
            break
        size = min(4096, size * 2) if now - began < 0.25 else max(1, size // 2) if now - began > 1 else size
    return values, done


NEIGHBOURS = 20
SCALES = (5, 7, 10, 14, 20, 28, 40, 56, 80, 113, 160, 226, 320, 452, 640)
"""Numbers of neighbours at which the dimension at a point is read."""

ROWS = 8192
_PAIRS = 2**21
"""Pairs of points that are compared at once: more of them wait for the memory."""

NARROW = 64
"""Principal components that distances between all points are taken in, where events have more coordinates."""


def flat_points(explored: Explored, scale: str = OWN) -> Tensor:
    """Points as rows (N, D) in a scale, missing values 0."""
    kept: dict[str, Tensor] = explored.memory.setdefault("flat", {})
    if scale not in kept:
        whole = rows_in_scale(explored, explored.points, scale)
        kept[scale] = whole if bool(whole.isfinite().all()) else whole.nan_to_num(0.0)
    return kept[scale]


def distances_from(explored: Explored, x: Tensor, scale: str = OWN) -> Tensor:
    """The Euclidean distances of all points from one event (*E), (N,), by differences: exact for copies."""
    rows = flat_points(explored, scale)
    one = rows_in_scale(explored, x[None], scale).nan_to_num(0.0)
    return torch.cat([(part - one).square().sum(1) for part in rows.split(ROWS)]).sqrt()


def data_rows(explored: Explored) -> Tensor:
    """Mask (N,) of the points that are data, not samples. Only data are counted as neighbours."""
    mask = torch.zeros(len(explored.points), dtype=torch.bool)
    for group in explored.groups:
        mask[group.start : group.stop] = not group.samples
    return mask if bool(mask.any()) else ~mask


def levina_bickel(distances: Tensor) -> Tensor:
    """The dimension from the distances (B, k) of neighbours, nearest first, all above 0; NaN where there is none."""
    k = distances.shape[1]
    logs = (distances[:, -1:] / distances[:, :-1]).log().sum(1)
    return torch.where((logs > 0) & torch.isfinite(logs), (k - 2) / logs, torch.nan)


def dimension_curve(distances: Tensor) -> list[dict[str, float]]:
    """The dimension at one point against scale, from its distances (n,) to all others: rows of ``neighbours``, the
    ``distance`` of the farthest of them, and ``dimension``. Copies of the point are left out."""
    near = distances[distances > 0].double().sort().values[: max(SCALES)]
    rows = []
    for k in SCALES:
        if k > len(near):
            break
        value = float(levina_bickel(near[None, :k]))
        if math.isfinite(value):
            rows.append({"neighbours": k, "distance": float(near[k - 1]), "dimension": value})
    return rows


def local_spectrum(explored: Explored, distances: Tensor, count: int = 100, scale: str = OWN) -> Tensor:
    """The standard deviations of the nearest ``count`` points along their own principal axes, greatest first."""
    own = torch.where(data_rows(explored), distances, math.inf)
    nearest = own.topk(min(count, int(own.isfinite().sum())), largest=False).indices
    rows = flat_points(explored, scale)[nearest].double()
    values: Tensor = torch.linalg.svdvals(rows - rows.mean(0))
    return values / math.sqrt(max(1, len(rows) - 1))


def nearest_points(
    explored: Explored, point: int, distances: Tensor, count: int, *, samples: bool
) -> list[dict[str, Any]]:
    """The nearest other points among the data, or among samples: numbers and distances."""
    allowed = torch.zeros(len(distances), dtype=torch.bool)
    for group in explored.groups:
        if group.samples == samples:
            allowed[group.start : group.stop] = True
    allowed[point] = False
    rows = allowed.nonzero().flatten()
    order = distances[rows].argsort(stable=True)[:count]
    return [{"point": int(rows[one]), "distance": float(distances[rows[one]])} for one in order]


def narrow_points(explored: Explored, scale: str = OWN) -> Tensor:
    """Rows (N, at most NARROW) about 0 with the distances of the points, up to the variance that is left out.

    Distances between all points are differences of squares and products, which lose all digits at a mean far from 0.
    """
    kept: dict[str, Tensor] = explored.memory.setdefault("narrow", {})
    if scale not in kept:
        rows = flat_points(explored, scale)
        middle = rows.mean(0, dtype=torch.float64).float()
        if rows.shape[1] > NARROW:
            some = rows[torch.linspace(0, len(rows) - 1, min(len(rows), 3000)).long()].double()
            centred = some - some.mean(0)
            axes = torch.linalg.svd(centred[:2000], full_matrices=False)[2][:NARROW].T.float()
            rows = torch.cat([(part - middle) @ axes for part in rows.split(ROWS)])
        else:
            rows = rows - middle
        kept[scale] = rows
    return kept[scale]


def neighbour_dimensions(explored: Explored, seconds: float, scale: str = OWN) -> tuple[Tensor, int]:
    """The dimension at each point by its NEIGHBOURS nearest ones, (N,), and at how many it is known."""
    return _of_neighbours(explored, levina_bickel, seconds, scale)


def isolation(explored: Explored, seconds: float, scale: str = OWN) -> tuple[Tensor, int]:
    """An outlier score that needs no model: the mean distance of the five nearest other points, (N,)."""
    return _of_neighbours(explored, lambda near: near[:, :5].mean(1), seconds, scale)


def _of_neighbours(
    explored: Explored, compute: Callable[[Tensor], Tensor], seconds: float, scale: str
) -> tuple[Tensor, int]:
    """``compute`` of the distances (n, k) of points' neighbours, (N,), for as many as there is time for. Distances are
    kept, so that the next number of them takes no search."""
    rows, among = narrow_points(explored, scale), data_rows(explored)
    k = min(NEIGHBOURS, int(among.sum()) - 1)
    lists: dict[str, Tensor] = explored.memory.setdefault("neighbours", {})
    near = lists.setdefault(scale, torch.full((len(rows), k), math.nan))

    def found(index: Tensor) -> Tensor:
        new = index[near[index].isnan().all(1)]
        if len(new):
            near[new] = _nearest_distances(rows, among, new, k)
        return compute(near[index])

    return computed_in_time(len(rows), found, "points", seconds=seconds)


def duplicate_points(explored: Explored) -> list[list[int]]:
    """Points that are equal in every coordinate, as groups of their numbers, the largest first."""
    found: dict[bytes, list[int]] = {}
    for start in range(0, len(explored.points), ROWS):
        part = flat_points(explored)[start : start + ROWS] + 0.0  # one zero, whatever its sign
        for row, values in enumerate(part.numpy(), start):
            found.setdefault(blake2b(values.tobytes(), digest_size=16).digest(), []).append(row)
    repeated = [rows for rows in found.values() if len(rows) > 1]
    return sorted(repeated, key=len, reverse=True)[:200]


def _nearest_distances(rows: Tensor, among: Tensor, index: Tensor, k: int) -> Tensor:
    """The distances (n, k) of the nearest other points, nearest first; copies count as the smallest distance above 0
    that float32 can hold here."""
    squares = rows.square().sum(1)
    away = torch.where(among, squares, math.inf)
    parts = []
    for part in index.split(max(1, _PAIRS // len(rows))):
        found = torch.addmm(away, rows[part], rows.T, alpha=-2)
        found[torch.arange(len(part)), part] = math.inf
        parts.append(found.topk(k, largest=False).values + squares[part, None])
    floor = 1e-6 * float(squares.mean()) + 1e-30
    return torch.cat(parts).clamp_min(floor).sqrt()
