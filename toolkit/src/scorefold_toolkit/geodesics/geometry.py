"""A geometry by its metric: products in closed form, geodesics solved by numbers and checked before they are given."""

from __future__ import annotations

import math
import warnings
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from scorefold.errors import ConfigError, DataError
from scorefold.interfaces import Geometry, Transports
from scorefold.interfaces.geometry import barycentre_weights, check_times
from scorefold_toolkit.checks import equal_batches
from scorefold_toolkit.config.common import SolvedConfig
from scorefold_toolkit.geodesics.mean import barycentre
from scorefold_toolkit.geodesics.metric import GeodesicMetric
from scorefold_toolkit.geodesics.minimise import minimise
from scorefold_toolkit.geodesics.motion import exponential, shooting_velocities, transported
from scorefold_toolkit.geodesics.paths import interpolated, straight
from scorefold_toolkit.geodesics.solve import VARIES, ChecksPaths, Geodesics, SolverSettings, solve
from scorefold_toolkit.geodesics.thorough import geodesic_diagnosis, way_round

_SHOT = 64
"""The most coordinates in which a logarithm is corrected by shooting."""

_NEARER = "take nearer points, or coordinates in which the metric varies less"
_OTHER = 1e-3
_MOTION = 1e-7
_DIAGNOSED = 8
_LOOKED_AT = 12
_SKETCHED = 8
_ROUGH = 1e-2


class _Same:
    """A reference to a tensor, equal to references to this tensor; a copy is equal to none.

    An id would return for another tensor, after this one is deleted.
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, value: Tensor | None = None) -> None:
        self.value = weakref.ref(value) if value is not None else lambda: None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and (value := self.value()) is not None and value is other.value()

    def __reduce__(self) -> Any:
        return _Same, ()


Version = tuple[tuple[_Same, int, torch.device, torch.dtype], ...]


def version(module: nn.Module) -> Version:
    """A mark that changes with the parameters and buffers of a module, and with their device and dtype."""
    values = (*module.parameters(), *module.buffers())
    return tuple((_Same(value), value._version, value.device, value.dtype) for value in values)


class SolvedGeometry(nn.Module, Geometry, Transports, ChecksPaths):
    """The interface of a geometry on a ``scorefold_toolkit.geodesics.GeodesicMetric``.

    Must: ``path_metric``. May: ``own_diagnosis``, ``extra_starts``. Points are (B, *E) in any floating-point dtype and
    answers come in it. The arithmetic of paths is in float64, on the CPU. No gradient passes through a solved geodesic.

    A length is given only where the solver converged and the path is resolved: ``distance``, ``log``, ``geodesic`` and
    ``transport`` raise ``DataError`` otherwise, and ``solve`` returns the reason of each pair. Equal points are at
    distance 0. A distance has the error of ``solve``: how much extrapolation changed it. A warning says where starts of
    the solver end at different paths: the shortest is given, and a shorter one may exist.
    """

    remedy = "set more solver.points and solver.steps"
    """Advice for a withheld geodesic."""
    aim = 1e-8
    """Error at the end of a logarithm's geodesic, relative to the size of the coordinates."""
    bends = ""
    """Advice for geodesics that equal straight lines."""
    words = ("geometry", "this geometry takes")
    """Name of this geometry in errors about points, and the start of its points' shape."""

    def __init__(self, config: SolvedConfig, event_shape: tuple[int, ...]) -> None:
        super().__init__()
        other = [name for name in config.solver.starts if name != "straight"]
        if other and type(self).extra_starts is SolvedGeometry.extra_starts:
            raise ConfigError(
                f"solver.starts names {other[0]}, and this geometry has no model: it starts from straight lines alone",
                hint="leave solver.starts out",
            )
        self.config = config
        self.event_shape = tuple(event_shape)
        self._last: tuple[Tensor, Version, Geodesics] | None = None

    def path_metric(self) -> GeodesicMetric:
        """The metric on rows (R, D) in float64."""
        raise NotImplementedError

    def extra_starts(self, x: Tensor, y: Tensor) -> Sequence[Tensor]:
        """Paths (B, M + 1, D) between rows (B, D) that the solver starts from, besides straight lines."""
        return ()

    def some_points(self, count: int) -> Tensor:
        """At most so many points to show geodesics between, (N, *E)."""
        draws = torch.randn(count, self.dimension, generator=torch.Generator().manual_seed(0))
        answer: Tensor = draws.unflatten(1, self.event_shape)
        return answer

    def own_diagnosis(self, points: Tensor) -> tuple[dict[str, float], list[str]]:
        """Numbers and warnings of a metric about rows (N, D), in addition to the solver's numbers and warnings."""
        return {}, []

    def path_diagnosis(self, found: Geodesics) -> tuple[dict[str, float], list[str]]:
        """Numbers and warnings of a metric about geodesics, none of them withheld."""
        return {}, []

    def thorough_diagnosis(self, found: Geodesics) -> tuple[dict[str, float], list[str]]:
        """Numbers and warnings of a metric with ``thorough``, about geodesics that are not withheld."""
        return {}, []

    def varied(self) -> Sequence[SolvedGeometry]:
        """This geometry at half and at twice each of its settings, for the sensitivity of its paths to them."""
        return ()

    def path_reasons(self, found: Geodesics) -> list[str]:
        """Reasons why geodesics, none of them withheld, do not interpolate data; "" if they do."""
        return [""] * len(found.reasons)

    @property
    def dimension(self) -> int:
        """D."""
        return math.prod(self.event_shape)

    def metric(self, x: Tensor) -> Tensor:
        """G at x (B, *E), (B, D, D): for few coordinates, since it has D^2 numbers a point."""
        (rows,) = self._rows(x=x)
        return self.path_metric().matrix(rows).to(x)

    def inner(self, x: Tensor, v: Tensor, w: Tensor) -> Tensor:
        """v^T G(x) w, (B,), without the matrix."""
        return self.path_metric().inner(*self._rows(x=x, v=v, w=w)).to(x)

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        """The point after unit time along the geodesic with velocity v, (B, *E), by Dormand and Prince's method. Raises
        ``DataError`` for a geodesic that can't be followed."""
        return self._events(exponential(self.path_metric(), *self._rows(x=x, v=v), tolerance=_MOTION)[0], x)

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """The velocity at x of the geodesic to y, (B, *E): from the path, and up to 64 coordinates corrected by
        shooting. Raises ``DataError`` for pairs whose geodesic is withheld."""
        a, b = self._rows(x=x, y=y)
        return self._events(self._log(a, b), x)

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """The length of the geodesic, (B,). Raises ``DataError`` for pairs whose geodesic is withheld."""
        a, b = self._rows(x=x, y=y)
        return self._strict(self._solve(a, b)).length.to(x)

    def geodesic(self, x: Tensor, y: Tensor, s: Tensor) -> Tensor:
        """The geodesics at times s (T,) in [0, 1], (B, T, *E). Raises as ``distance``, and for times outside."""
        check_times(s)
        if s.numel() and not bool(((s >= 0) & (s <= 1)).all()):
            raise DataError(f"s goes from {float(s.min()):g} to {float(s.max()):g}; expected times from 0 to 1")
        a, b = self._rows(x=x, y=y)
        if len(a) == 0 or len(s) == 0:
            return x.new_empty(len(a), len(s), *self.event_shape)
        found = self._strict(self._solve(a, b))
        answer: Tensor = found.at(s.to(a)).to(x).unflatten(2, self.event_shape)
        return answer

    def sketch(self, x: Tensor, y: Tensor, s: Tensor) -> Tensor:
        """A first look at the geodesics at times s (T,) in [0, 1], (B, T, *E), before they are solved: eight steps, few
        iterations, and no check. It is no answer: ``geodesic`` may withhold the path. Raises ``ConfigError`` for other
        times."""
        check_times(s)
        a, b = self._rows(x=x, y=y)
        path, apart = straight(a, b, _SKETCHED), (a != b).any(1)
        if bool(apart.any()):
            metric, line = self.path_metric(), path[apart]
            with torch.no_grad():
                known = metric.known(a[apart], b[apart])
                path[apart] = minimise(metric, line, known, tolerance=_ROUGH, steps=_SKETCHED).path
        answer: Tensor = interpolated(path, s.to(a)).to(x).unflatten(2, self.event_shape)
        return answer

    def transport(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """v (B, *E) carried along the geodesic from x to y, by the equation of transport. Raises as ``distance``."""
        a, b, vectors = self._rows(x=x, y=y, v=v)
        moved = transported(self.path_metric(), a, self._log(a, b), vectors, tolerance=_MOTION)[1]
        return self._events(moved, x)

    def distance_matrix(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """All distances between x (B1, *E) and y (B2, *E), or between the points of x, each pair of these once and all
        in one batch. Raises as ``distance``.

        Between the points of x no distance is longer than the way over others: where a path was, beyond its error, the
        way round is given with a warning.
        """
        if y is None:
            left, right = torch.triu_indices(len(x), len(x), 1, device=x.device)
            whole = torch.zeros(len(x), len(x), dtype=torch.float64)
            if len(left):
                found = self._strict(self._solve(*self._rows(x=x[left], y=x[right])))
                whole[left, right] = found.length
                whole = whole + whole.mT
                way = way_round(whole)[left, right]
                off = way < found.length - found.error
                if bool(off.any()):
                    excess = float((found.length / way)[off].max()) - 1
                    whole[left, right] = whole[right, left] = torch.where(off, way, found.length)
                    warnings.warn(
                        f"{int(off.sum())} of {len(off)} distances were longer than the way over other points, by up "
                        f"to {excess:.2%}: the way round is given for them, and their paths are not the shortest",
                        stacklevel=2,
                    )
            return whole.to(x)
        if len(x) == 0 or len(y) == 0:
            return x.new_zeros(len(x), len(y))
        pairs = x.repeat_interleave(len(y), 0), y.repeat(len(x), *[1] * (y.dim() - 1))
        return self.distance(*pairs).reshape(len(x), len(y))

    def mean(self, points: Tensor, weights: Tensor | None = None) -> Tensor:
        """The weighted barycentre of points (N, *E), (*E), found together with its paths and checked by its geodesics.

        Its geodesics pull it by at most 0.2 % of the root of their mean squared length. A warning says where another
        start ends elsewhere and is as good. Of points with many means, such as antipodes, it may find one alone. Raises
        ``DataError`` where no barycentre is found, and as ``distance``.
        """
        (rows,) = self._rows(points=points)
        shares, steps = barycentre_weights(points, weights).detach().cpu().double(), self.config.solver.points
        with torch.no_grad():
            found = barycentre(self.path_metric(), rows, shares, steps, lambda a, b: self._strict(self._solve(a, b), 0))
        return self._events(found[None], points)[0]

    def curvature(self, x: Tensor, u: Tensor, w: Tensor) -> Tensor:
        """The sectional curvature of the plane of u and w at x (B, *E), (B,), in inverse squared units of length.

        Raises ``DataError`` for parallel vectors, and for a metric whose curvature has no closed form here.
        """
        found = self.path_metric().curvature(*self._rows(x=x, u=u, w=w))
        flat = found.isnan()
        if bool(flat.any()):
            raise DataError(
                f"u and w are parallel, or 0, at {int(flat.sum())} of {len(flat)} points: they span no plane",
                hint="take two independent vectors at each point",
            )
        return found.to(x)

    def solve(self, x: Tensor, y: Tensor) -> Geodesics:
        """The geodesics of pairs (B, *E), with lengths, errors, and the reason of each that is withheld, whose length
        is NaN. Paths are of flattened events in float64."""
        found = self._solve(*self._rows(x=x, y=y))
        return replace(found, length=torch.where(found.withheld, torch.nan, found.length))

    def lengths(self, points: Tensor) -> Tensor:
        """Distances between the first 12 points (N, *E) at most, NaN where they are withheld: for a first look."""
        some = points[:_LOOKED_AT]
        left, right = torch.triu_indices(len(some), len(some), 1)
        found = points.new_zeros(len(some), len(some))
        if len(left):
            found[left, right] = self.solve(some[left], some[right]).length.to(points)
        return found + found.mT

    def reasons(self, x: Tensor, y: Tensor) -> list[str]:
        """Reasons why the path of each pair (B, *E) does not interpolate data: withheld, or outside the support; "" for
        the others. ``do: interpolate`` leaves those with a reason out.
        """
        found = self._solve(*self._rows(x=x, y=y))
        given = (~found.withheld).nonzero()[:, 0]
        texts = list(found.reasons)
        if len(given):
            for place, text in zip(given.tolist(), self.path_reasons(found.take(given)), strict=True):
                texts[place] = text
        return texts

    def diagnose(self, points: Tensor) -> tuple[Mapping[str, float], Sequence[str]]:
        """Diagnostics of the solver and the metric for geodesics between some of the points (N, *E)."""
        half = min(len(points) // 2, _DIAGNOSED)
        return self.diagnose_paths(points, points[:half], points[half : 2 * half])

    @torch.no_grad()
    def diagnose_paths(self, points: Tensor, x: Tensor, y: Tensor) -> tuple[Mapping[str, float], Sequence[str]]:
        """Diagnostics of the metric at points (N, *E), and of the geodesics of the first eight pairs (B, *E)."""
        (rows,) = self._rows(points=points)
        a, b = (part[(x != y).flatten(1).any(1)][:_DIAGNOSED] for part in (x, y))
        numbers, texts = self.own_diagnosis(rows)
        texts, count = list(texts), len(a)
        if count == 0:
            return numbers, texts
        a, b = self._rows(x=a, y=b)
        found = self._solve(a, b)
        given = ~found.withheld
        numbers |= {
            "pairs": float(count),
            "pairs withheld": float(count - int(given.sum())),
            "calls of a pair": float(found.calls.double().mean()),
        }
        for reason in sorted({reason for reason in found.reasons if reason}):
            texts.append(f"{found.reasons.count(reason)} of {count} geodesics between these points: {reason}")
        if bool(given.any()):
            gain, error = found.gain[given], (found.error / found.length.clamp_min(1e-300))[given]
            numbers |= {
                "energy over the straight lines' energy": float(gain.median()),
                "relative error of lengths": float(error.max()),
                "share of starts that agree": float((found.agree[given] / found.starts).clamp(max=1).mean()),
            }
            more, said = self.path_diagnosis(found.take(given.nonzero()[:, 0]))
            numbers |= more
            texts += said
            if self.config.thorough:
                more, said = geodesic_diagnosis(self, a[given], b[given], found.take(given.nonzero()[:, 0]))
                numbers |= more
                texts += said
            if float(gain.median()) > 0.98:
                texts.append(
                    "geodesics are no different from straight lines: the energy is "
                    f"{float(gain.median()):.3g} of theirs{self.bends}"
                )
        return numbers, texts

    def _log(self, a: Tensor, b: Tensor) -> Tensor:
        if len(a) == 0:
            return torch.zeros_like(a)
        velocity = self._strict(self._solve(a, b), 4).velocity()
        if self.dimension > _SHOT:
            return velocity
        return shooting_velocities(self.path_metric(), a, b, velocity, tolerance=self.aim)

    def _solve(self, a: Tensor, b: Tensor) -> Geodesics:
        """The geodesics of rows (B, D). Returns geodesics of the last call where nothing changed and all are there."""
        versions, ends = version(self), torch.cat([a, b], 1)
        if self._last is not None and self._last[1] == versions:
            known, _, found = self._last
            places = {row.numpy().tobytes(): place for place, row in enumerate(known)}
            some = [places.get(row.numpy().tobytes(), -1) for row in ends]
            if min(some, default=0) >= 0:
                return found.take(torch.tensor(some, dtype=torch.long))
        solver = self.config.solver
        settings = SolverSettings(solver.points, solver.tolerance, solver.steps, solver.richardson)
        with torch.no_grad():
            starts = self.extra_starts(a, b) if len(a) else ()
            found = solve(self.path_metric(), a, b, settings, starts)
        self._last = (ends, versions, found)
        return found

    def _strict(self, found: Geodesics, level: int = 3) -> Geodesics:
        """Geodesics of which none is withheld. A warning names pairs with other minima, ``level`` calls up; 0: none."""
        lost = [reason for reason in found.reasons if reason]
        if lost:
            raise DataError(
                f"{len(lost)} of {len(found.reasons)} geodesics are withheld: {lost[0]}",
                hint=f"{_NEARER if lost[0].startswith(VARIES) else self.remedy}; solve(x, y) has all reasons",
            )
        several = found.excess > torch.maximum(
            found.error / found.length.clamp_min(1e-300), found.error.new_tensor(_OTHER)
        )
        if level and bool(several.any()):
            agree = found.agree[several].tolist()
            warnings.warn(
                f"{len(agree)} of {len(several)} geodesics are the shortest of several paths that starts end at: "
                f"{min(agree)} of {found.starts} starts agree, and the others are up to "
                f"{float(found.excess[several].max()):.2%} longer. A shorter path may exist; solve(x, y) has the "
                "excess of each pair",
                stacklevel=level,
            )
        return found

    def _events(self, rows: Tensor, like: Tensor) -> Tensor:
        return rows.to(like).reshape(len(rows), *self.event_shape)

    def _like(self, default: Tensor) -> Tensor:
        """A tensor with the device and dtype of the points."""
        return next((t for t in (*self.parameters(), *self.buffers()) if t.is_floating_point()), default)

    def _rows(self, **given: Tensor) -> list[Tensor]:
        """Batches of one length as rows (B, D) in float64, a batch of 1 repeated. Raises ``ShapeError`` for others and
        ``DataError`` for NaN."""
        batches = equal_batches(self, *self.words, self.event_shape, given)
        return [value.detach().cpu().double().flatten(1).contiguous() for value in batches]
