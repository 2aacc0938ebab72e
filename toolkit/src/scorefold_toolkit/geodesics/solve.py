"""Geodesics between pairs of points: starts, coarse to fine grids, extrapolation, and the checks of each length."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefold.stage import report
from scorefold_toolkit.geodesics.metric import GeodesicMetric, state_rows
from scorefold_toolkit.geodesics.minimise import minimise, unevenness
from scorefold_toolkit.geodesics.paths import (
    bent_lines,
    densified,
    evenly_spaced,
    extrapolated,
    interpolated,
    respaced,
    straight,
    subdivided,
)

_COARSE = 8
_FINER = 4
_KEPT = 2
_SAME = 1e-2
_RESOLVED = 0.02
_LONGEST = 4.0
_UNEVEN = 2.0
_DOUBLINGS = 2
_STRETCHED = 100.0
_SURE_PARTS = 16
_ROUNDED = 1e-11
_DIFFERENT = 1e-3
_ARCS_IN, _ARCS = (2, 3), (-600.0, -250.0, 250.0, 600.0)
_FURTHER = 1e-3
"""Of the tolerance, where the last steps cost little: the decrement bounds the square of a path's error."""

_AT_ONCE = 2**23
"""Numbers in the paths of one batch; its memory is some twenty times as much."""

NOT_CONVERGED = "not converged"
NOT_RESOLVED = "not resolved: the path jumps over a gap between its points"
COARSE = "not resolved: finer steps change its length by more than 2 %"
VARIES = "not resolved: the metric varies too much along the path"


class ChecksPaths(ABC):
    """A geometry that checks each of its paths: the verbs ``build`` and ``interpolate`` ask it which to leave out."""

    @abstractmethod
    def reasons(self, x: Tensor, y: Tensor) -> list[str]:
        """Reasons why the path of each pair (B, *E) is left out, "" for the other paths."""

    @abstractmethod
    def lengths(self, points: Tensor) -> Tensor:
        """Distances between some of the points (N, *E), NaN where they are withheld: for a first look."""

    @abstractmethod
    def diagnose_paths(self, points: Tensor, x: Tensor, y: Tensor) -> tuple[Mapping[str, float], Sequence[str]]:
        """``Geometry.diagnose`` of points (N, *E), with the paths of pairs (B, *E) that are already solved."""


@dataclass(frozen=True)
class SolverSettings:
    """``points`` N of the finest grid at first, ``tolerance`` of the decrement, most ``steps`` a grid, and whether
    lengths are extrapolated from the two finest grids (``richardson``)."""

    points: int = 32
    tolerance: float = 1e-6
    steps: int = 100
    richardson: bool = True


@dataclass(frozen=True)
class Geodesics:
    """Geodesics of B pairs, one row each.

    ``paths`` are a list of (N + 1, D), N a path's own. ``length`` is the extrapolated length. ``error`` is the larger
    of its differences from the finest grid's, and from the length of the returned curve on four times the points. Paths
    are extrapolated too, where that makes them no longer. ``decrement`` is the share of the energy
    still to gain, ``resolution`` the length of the polyline on four times the points over its own, less 1. ``gain`` is
    the energy over the straight line's energy. ``starts`` counts the starts, and ``agree`` those that end at the
    returned path. ``excess`` is how much longer than it the longest other path is that a start ends at, as a share.
    ``calls`` counts evaluations of points. ``reasons`` say why a length is withheld, "" where it is
    given.
    """

    paths: list[Tensor]
    length: Tensor
    error: Tensor
    decrement: Tensor
    resolution: Tensor
    gain: Tensor
    starts: int
    agree: Tensor
    excess: Tensor
    calls: Tensor
    reasons: list[str]

    @property
    def withheld(self) -> Tensor:
        """Mask of withheld lengths, (B,) bool."""
        return torch.tensor([bool(reason) for reason in self.reasons], dtype=torch.bool)

    def take(self, index: Tensor) -> Geodesics:
        """Some of the pairs."""
        places = index.tolist()
        lengths = (self.length, self.error, self.decrement, self.resolution, self.gain)
        length, error, decrement, resolution, gain = (each[index] for each in lengths)
        paths, reasons = [self.paths[k] for k in places], [self.reasons[k] for k in places]
        agree, excess, calls = self.agree[index], self.excess[index], self.calls[index]
        return Geodesics(paths, length, error, decrement, resolution, gain, self.starts, agree, excess, calls, reasons)

    def velocity(self) -> Tensor:
        """The velocities at the starts, (B, D), by a one-sided difference of five points: of fourth order."""
        weights = self.length.new_tensor([-25 / 12, 4, -3, 4 / 3, -1 / 4])[:, None]
        return torch.stack([(len(path) - 1) * (weights * path[:5]).sum(0) for path in self.paths])

    def at(self, times: Tensor) -> Tensor:
        """Points of the paths at times (T,) in [0, 1], (B, T, D), by cubic interpolation."""
        return torch.stack([interpolated(path, times) for path in self.paths])


def _finer(path: Tensor, smooth: Tensor, uneven: float) -> Tensor:
    """Starts on twice as many steps (B, 2N + 1, D): the curve through ``smooth``, which is near the answer; where steps
    are uneven, the path in equal Euclidean steps, since points leave steep places and a path would jump over them."""
    steps = path.shape[1] - 1
    times = torch.linspace(0, 1, 2 * steps + 1, dtype=path.dtype, device=path.device)
    curve = interpolated(smooth, times)
    curve[:, 0], curve[:, -1] = path[:, 0], path[:, -1]
    return torch.where((unevenness(path) > uneven)[:, None, None], respaced(path, 2 * steps), curve)


def solve(
    metric: GeodesicMetric,
    start: Tensor,
    end: Tensor,
    settings: SolverSettings | None = None,
    starts: Sequence[Tensor] = (),
) -> Geodesics:
    """The geodesics between ends (B, D) in float64, in batches of pairs.

    Starts are the straight line with a slight bend to either side, and those given, each (B, M + 1, D). All are solved
    on about 8 steps. The best two of each pair go on to twice as many, and so on up to ``points``. A grid starts from
    the path before, cut into equal Euclidean steps: points leave steep places, and the path would jump over them. The
    length is recomputed on four times the points. Where the two differ by more than 2 % each step is measured at more
    points, if the metric can, or else the grid is doubled, twice at most, and then begun again in steps of equal length
    in the metric. A length that is still not resolved, or not converged, is withheld.

    >>> import torch
    >>> from scorefold_toolkit.geodesics import Field, GraphChord
    >>> normal = GraphChord(Field(lambda x: -x, lambda x: -0.5 * x.square().sum(1)), weight=1.0)
    >>> a, b = torch.tensor([[2.0, 0.0]], dtype=torch.float64), torch.tensor([[0.0, 2.0]], dtype=torch.float64)
    >>> found = solve(normal, a, b)
    >>> round(float(found.length), 4), found.reasons
    (3.0747, [''])
    """
    settings = settings or SolverSettings()
    each = (2 + len(starts)) * (settings.points + 1) * max(1, start.shape[1])
    size = max(1, _AT_ONCE // each)
    parts = []
    for first in range(0, max(1, len(start)), size):
        part = slice(first, first + size)
        parts.append(_surely(metric, start[part], end[part], settings, [each[part] for each in starts]))
        report(min(first + size, len(start)), len(start), "geodesics")
    if len(parts) == 1:
        return parts[0]
    joined = {
        name: torch.cat([getattr(one, name) for one in parts])
        for name in ("length", "error", "decrement", "resolution", "gain", "agree", "excess", "calls")
    }
    paths = [path for one in parts for path in one.paths]
    return Geodesics(paths, starts=parts[0].starts, reasons=[text for one in parts for text in one.reasons], **joined)


def _surely(
    metric: GeodesicMetric, start: Tensor, end: Tensor, settings: SolverSettings, starts: Sequence[Tensor]
) -> Geodesics:
    """The geodesics of pairs. Those that do not converge are solved again with a metric whose gradient is exact, and
    those that are still withheld with one that measures more points of each step, or on steps of equal length in the
    metric."""
    found = _solved(metric, start, end, settings, starts)
    finer = metric.finer()
    again_by = [(metric.sure(), NOT_CONVERGED, False), (finer, "", False), (None if finer else metric, "", True)]
    for other, only, even in again_by:
        left = [row for row, reason in enumerate(found.reasons) if reason and only in reason]
        if other is None or not left:
            continue
        index = torch.tensor(left)
        again = _solved(other, start[index], end[index], settings, [each[index] for each in starts], even)
        found.calls[index] += again.calls
        for row, part in enumerate(left):
            if again.reasons[row]:
                continue
            _replace(found, part, again, row)
    if start.shape[1] in _ARCS_IN:
        _try_arcs(metric, start, end, settings, found)
    return found


def _try_arcs(metric: GeodesicMetric, start: Tensor, end: Tensor, settings: SolverSettings, found: Geodesics) -> None:
    """Starts pairs whose starts end at different paths from arcs to either side too, and keeps what is shorter."""
    several = (found.excess > _DIFFERENT) & ~found.withheld
    if not bool(several.any()):
        return
    index = several.nonzero()[:, 0]
    line = straight(start[index], end[index], settings.points)
    again = _solved(metric, start[index], end[index], settings, [bent_lines(line, bend) for bend in _ARCS])
    found.calls[index] += again.calls
    for row, part in enumerate(index.tolist()):
        before = float(found.length[part])
        if not again.reasons[row] and float(again.length[row]) < before * (1 - _DIFFERENT):
            _replace(found, part, again, row)
            found.agree[part] = 1
            found.excess[part] = max(float(again.excess[row]), before / float(again.length[row]) - 1)


def _replace(found: Geodesics, part: int, again: Geodesics, row: int) -> None:
    for name in ("length", "error", "decrement", "resolution", "gain", "agree", "excess"):
        getattr(found, name)[part] = getattr(again, name)[row]
    found.paths[part], found.reasons[part] = again.paths[row], again.reasons[row]


def _solved(
    metric: GeodesicMetric,
    start: Tensor,
    end: Tensor,
    settings: SolverSettings,
    starts: Sequence[Tensor],
    even: bool = False,
) -> Geodesics:
    batch = len(start)
    zeros, none = [start.new_zeros(batch) for _ in range(6)], torch.zeros(batch, dtype=torch.long)
    length, error, decrement, resolution, gain, excess = zeros
    lines, reasons = list(straight(start, end, settings.points)), [""] * batch
    count = 2 + len(starts)
    answer = Geodesics(lines, length, error, decrement, resolution, gain, count, none, excess, none.clone(), reasons)
    # Points nearer than rounding: by the metric between them, which a path of so short steps can't measure.
    size = (start - end).norm(dim=1)
    near = (size <= _ROUNDED * torch.maximum(start.norm(dim=1), end.norm(dim=1))) & (size > 0)
    if bool(near.any()):
        span = (end - start)[near]
        length[near] = metric.inner((start[near] + end[near]) / 2, span, span).clamp_min(0).sqrt()
    apart = (~near & (size > 0)).nonzero()[:, 0]
    if len(apart) == 0:
        return answer
    a, b = start[apart], end[apart]
    known = metric.known(a, b)
    line = straight(a, b, _coarsest(settings.points))
    if even:
        line = evenly_spaced(metric, line, known, line.shape[1] - 1)
    first = [
        bent_lines(line, 1.0),
        bent_lines(line, -1.0),
        *(respaced(each[apart], line.shape[1] - 1) for each in starts),
    ]
    flat = metric.evaluate(straight(a, b, settings.points), known)["energy"]
    pair = torch.arange(len(apart)).repeat(len(first))
    _climb(metric, torch.cat(first), pair, known, settings, apart, flat, answer, even)
    return answer


def _coarsest(points: int) -> int:
    """The least number of steps, 8 or more, that halves of ``points`` lead to."""
    while points % 2 == 0 and points // 2 >= _COARSE:
        points //= 2
    return points


def _climb(
    metric: GeodesicMetric,
    path: Tensor,
    pair: Tensor,
    known: dict[str, Tensor],
    settings: SolverSettings,
    apart: Tensor,
    flat: Tensor,
    answer: Geodesics,
    even: bool,
) -> None:
    """Solves candidates (C, N + 1, D) of pairs (C,) on finer and finer grids, and writes what is found of each pair.

    ``even`` paths have steps of equal length in the metric, which may be as long as it likes, and are checked on more
    points."""
    bounded, parts = metric.jumps and not even, _SURE_PARTS if even else _FINER
    total, batch = len(path), len(apart)
    calls = torch.zeros(batch, dtype=torch.long)
    before = path.new_full((total,), float("nan"))
    coarse: Tensor | None = None
    agreed = torch.ones(batch, dtype=torch.long)
    while True:
        steps = path.shape[1] - 1
        last = steps >= settings.points
        # Coarser grids only lead to the next, but the length of the last but one is extrapolated from.
        loose = steps * 2 < settings.points
        found = minimise(
            metric,
            path,
            state_rows(known, pair),
            tolerance=settings.tolerance**0.5 if loose else settings.tolerance * (_FURTHER if metric.exact else 1),
            steps=settings.steps,
            longest=_LONGEST if bounded else float("inf"),
        )
        calls.index_add_(0, pair, found.calls * (steps + 1))
        finer = found.state["energy"].clamp_min(0).sqrt()
        if last or len(path) > _KEPT * batch:
            # What jumps over a gap is short on its own points alone.
            finer = metric.length(subdivided(found.path, parts), state_rows(known, pair))
            calls.index_add_(0, pair, torch.full_like(pair, parts * steps + 1))
        kept = _best(found.path, finer, pair, 1 if last else _KEPT, agreed)
        if last:
            _note_excess(answer.excess, finer, finer[kept], apart[pair], apart[pair[kept]])
        path, pair, before, finer = found.path[kept], pair[kept], before[kept], finer[kept]
        smooth = path if coarse is None else extrapolated(path, coarse[kept])
        length = found.state["energy"][kept].clamp_min(0).sqrt()
        if last:
            pieces = found.state["pieces"][kept].clamp_min(0).sqrt()
            own, units = pieces.sum(1), pieces / path.diff(dim=1).norm(dim=2).clamp_min(1e-300)
            resolution = (finer / own.clamp_min(1e-300) - 1).nan_to_num(nan=float("inf"))
            given = _extrapolated_lengths(
                metric, path, smooth, length, before, finer, state_rows(known, pair), settings, parts
            )
            calls.index_add_(0, pair, torch.full_like(pair, parts * steps + 1))
            sure = (resolution.abs() <= _RESOLVED) & (given.error <= _RESOLVED * given.length)
            converged = found.decrement[kept] <= settings.tolerance
            ends = steps >= settings.points * 2 ** (_DOUBLINGS if metric.finer() is None else 0)
            out = (sure & converged) | ends
            _write(answer, apart[pair], given, resolution, found.decrement[kept], sure, converged, out, units)
            answer.gain[apart[pair]] = length**2 / flat[pair].clamp_min(1e-300)
            rest = ~out
            path, pair, length = path[rest], pair[rest], length[rest]
        before, coarse = length, path
        if len(path) == 0:
            break
        path = _finer(path, smooth[rest] if last else smooth, _UNEVEN if bounded else float("inf"))
    answer.calls[apart] = calls
    answer.agree[apart] = agreed


def _note_excess(excess: Tensor, lengths: Tensor, best: Tensor, place: Tensor, best_place: Tensor) -> None:
    """Writes how much longer candidates of pairs ``place`` are than the best one of each."""
    least = excess.new_ones(len(excess)).index_put((best_place,), best.clamp_min(1e-300))
    share = (lengths / least[place] - 1).nan_to_num(0.0, 0.0, 0.0)
    excess.scatter_reduce_(0, place, share, "amax")


def _best(path: Tensor, length: Tensor, pair: Tensor, most: int, agreed: Tensor) -> Tensor:
    """Positions of the best candidates of each pair by their length on the finer polyline; twins count once."""
    order = length.nan_to_num(nan=float("inf")).argsort(stable=True)
    chosen: dict[int, list[int]] = {}
    for place in order.tolist():
        own = chosen.setdefault(int(pair[place]), [])
        span = float((path[place][1:] - path[place][:-1]).norm(dim=1).sum())
        twin = [one for one in own if float((path[place] - path[one]).norm(dim=1).max()) <= _SAME * span]
        if twin:
            agreed[pair[place]] += int(twin[0] == own[0])
        elif len(own) < most:
            own.append(place)
    return torch.tensor([place for key in sorted(chosen) for place in chosen[key]], dtype=torch.long)


@dataclass(frozen=True)
class _Given:
    """Paths with their lengths and errors, as they are returned."""

    path: Tensor
    length: Tensor
    error: Tensor


def _extrapolated_lengths(
    metric: GeodesicMetric,
    path: Tensor,
    smooth: Tensor,
    length: Tensor,
    before: Tensor,
    finer: Tensor,
    known: dict[str, Tensor],
    settings: SolverSettings,
    parts: int,
) -> _Given:
    """Richardson's rule where both grids hold the same path; where extrapolation makes a path longer, or the two are
    not alike, the finest grid's own path and length."""
    if not settings.richardson:
        return _Given(path, length, (finer - length).abs())
    dense = metric.length(densified(smooth, parts), known).nan_to_num(nan=float("inf"))
    rise = (length - before).abs() / 3
    taken = (smooth != path).flatten(1).any(1) & before.isfinite() & (dense <= finer * (1 + _RESOLVED))
    alone = torch.maximum(torch.where(before.isfinite(), rise, 0.0), (finer - length).abs())
    best = torch.where(taken, (4 * length - before) / 3, length)
    error = torch.where(taken, torch.maximum(rise, (dense - best).abs()), alone)
    if not metric.exact:
        # A line integral of few steps is off where extrapolation moves a length less than four times the points do.
        best = torch.where(taken & ((dense - best).abs() > rise), dense, best)
    if not metric.jumps:
        # Squares of a step's parts sum to more than its length where they are uneven: the curve's own length is nearer.
        curve = torch.where(taken, dense, finer)
        best, error = curve, torch.maximum(error, (best - curve).abs())
    return _Given(torch.where(taken[:, None, None], smooth, path), best, error)


def _write(
    answer: Geodesics,
    place: Tensor,
    given: _Given,
    resolution: Tensor,
    decrement: Tensor,
    sure: Tensor,
    converged: Tensor,
    out: Tensor,
    units: Tensor,
) -> None:
    answer.length[place], answer.error[place] = given.length, given.error
    answer.resolution[place], answer.decrement[place] = resolution, decrement
    for row, where in enumerate(place.tolist()):
        answer.paths[where] = given.path[row]
        reason = "" if bool(converged[row]) else NOT_CONVERGED
        answer.reasons[where] = reason if bool(sure[row]) else _unresolved(float(resolution[row]), units[row])
    for row in (~out).nonzero()[:, 0].tolist():
        answer.reasons[int(place[row])] = ""


def _unresolved(resolution: float, units: Tensor) -> str:
    """Reason that a path is not resolved, from the metric's units of length along its steps (N,)."""
    ratio = float(units.amax() / units.amin().clamp_min(1e-300))
    if not ratio <= _STRETCHED:
        return f"{VARIES}: its unit of length changes by a factor of {ratio:.2g}"
    return NOT_RESOLVED if not abs(resolution) <= _RESOLVED else COARSE
