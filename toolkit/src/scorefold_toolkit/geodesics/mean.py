"""Barycentres: a point and all paths to it are moved at once, as one path of many nodes."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from scorefold.errors import DataError
from scorefold_toolkit.geodesics.metric import GeodesicMetric, State
from scorefold_toolkit.geodesics.minimise import minimise
from scorefold_toolkit.geodesics.paths import bent_lines, interpolated, straight
from scorefold_toolkit.geodesics.solve import Geodesics

_TOLERANCE, _INEXACT = 1e-12, 1e-8
_STEPS = 100
_ROUNDS = 3
_PULL = 2e-3
"""The most that geodesics may pull at a mean: the mean velocity over the root of the mean squared distance."""

_APART, _ALIKE = 1e-2, 2e-3
"""From which distance on, as a share of the largest between rows, and up to which excess of the mean squared distance
another end is another mean."""

_OWN = "path "


def barycentre(
    metric: GeodesicMetric, rows: Tensor, shares: Tensor, points: int, solved: Callable[[Tensor, Tensor], Geodesics]
) -> Tensor:
    """The point (D,) of the least sum of squared distances to rows (N, D), weighted by ``shares`` (N,).

    The point and its paths are found together on half of ``points`` steps and on all, and extrapolated by Richardson's
    rule. ``solved`` returns the geodesics of pairs, or raises. Those from the point to the rows must not pull, on
    average. Where they do, they are shorter than the paths, or the grids are too coarse. All is done again from them on
    twice as many steps. Starts are the row nearest to the others and the row farthest from it, with paths bent to
    either side, of which the better end counts. A warning says where both are as good and apart. Raises ``DataError``
    where three rounds find no such point.
    """
    rows, shares = rows[shares > 0], shares[shares > 0]
    squares = torch.cdist(rows, rows).square()
    if not bool(squares.any()):
        return rows[0]
    nearest, half = int((squares @ shares).argmin()), max(2, points // 2)
    found = [
        _settled(metric, bent_lines(straight(rows, rows[row].expand_as(rows), half), side), shares)
        for row, side in ((nearest, 1.0), (int(squares[nearest].argmax()), -1.0))
    ]
    (coarse, least), (other, more) = sorted(found, key=lambda one: one[1])
    apart = float((coarse[0, -1] - other[0, -1]).norm())
    for _ in range(_ROUNDS):
        fine, _ = _settled(metric, interpolated(coarse, _times(2 * half, rows)), shares)
        mean = (4 * fine[:1, -1] - coarse[:1, -1]) / 3
        geodesics = solved(mean.expand_as(rows).contiguous(), rows)
        pull = (shares @ geodesics.velocity())[None]
        if float(metric.inner(mean, pull, pull)) <= _PULL**2 * float(shares @ geodesics.length.square()):
            break
        half *= 2
        coarse, _ = _settled(metric, geodesics.at(_times(half, rows)).flip(1), shares)
    else:
        raise DataError(
            f"no barycentre was found in {_ROUNDS} rounds",
            hint="take points nearer to one another, or more solver.points",
        )
    if apart > _APART * float(squares.max().sqrt()) and more <= (1 + _ALIKE) * least:
        warnings.warn(
            f"the mean may not be unique: another start ends {apart:.3g} away from it, with a mean squared distance of "
            f"{more:.4g} ({least:.4g} here)",
            stacklevel=3,
        )
    return mean[0]


def _times(steps: int, like: Tensor) -> Tensor:
    return torch.linspace(0, 1, steps + 1, dtype=like.dtype, device=like.device)


def _settled(metric: GeodesicMetric, paths: Tensor, shares: Tensor) -> tuple[Tensor, float]:
    """Paths (N, M + 1, D) to one free point whose weighted sum of energies is least, and this sum."""
    star = Star(metric, paths, shares)
    found = minimise(star, star.start, tolerance=_TOLERANCE if metric.exact else _INEXACT, steps=_STEPS)
    return star.paths(found.path), float(found.state["energy"])


class Star(GeodesicMetric):
    """The weighted sum of energies of paths (K, N + 1, D) from K points to one free point, as the energy of one path.

    Its inner nodes are the inner nodes of all paths, each less t times the free point, and then the free point itself.
    So a move of the free point moves the paths in proportion to time t. In flat space the two kinds of node do not
    depend on one another. The first and the last node, which ``minimise`` holds, are 0.
    """

    jumps = False

    def __init__(self, metric: GeodesicMetric, paths: Tensor, shares: Tensor) -> None:
        self.metric, self.shares, self.rows = metric, shares, paths[:, 0]
        self.exact, self.models = metric.exact, metric.models
        self.steps = paths.shape[1] - 1
        self.share = torch.linspace(0, 1, self.steps + 1, dtype=paths.dtype, device=paths.device)[:, None]
        self.at_rows = metric.known(self.rows, self.rows)
        centre = paths[0, -1]
        inner = (paths - self.share * centre)[:, 1:-1].flatten(0, 1)
        self.start = torch.nn.functional.pad(torch.cat([inner, centre[None]]), (0, 0, 1, 1))[None]

    def paths(self, path: Tensor) -> Tensor:
        """The paths (K, N + 1, D) of a star (1, M, D)."""
        centre, inner = path[0, -2], path[0, 1:-2].unflatten(0, (len(self.rows), -1))
        moved = inner + self.share[1:-1] * centre
        return torch.cat([self.rows[:, None], moved, centre.expand(len(self.rows), 1, -1)], 1)

    def apply(self, x: Tensor, v: Tensor) -> Tensor:
        """The metric of the paths."""
        return self.metric.apply(x, v)

    def evaluate(self, path: Tensor, known: State) -> State:
        """The states of the paths, and their weighted energy."""
        paths = self.paths(path)
        own = self.metric.evaluate(paths, self._known(paths[:1, -1]))
        kept = {_OWN + name: each[None] for name, each in own.items()}
        return {"energy": (self.shares @ own["energy"])[None], **kept}

    def gradient(self, path: Tensor, state: State) -> Tensor:
        """Gradient by the nodes of the star: the free point drags all nodes."""
        whole = self.metric.gradient(self.paths(path), self._own(state)) * self.shares[:, None, None]
        centre = (self.share * whole).sum((0, 1))
        nodes = torch.cat([whole[:, 1:-1].flatten(0, 1), centre[None]])
        return torch.nn.functional.pad(nodes, (0, 0, 1, 1))[None]

    def precondition(self, path: Tensor, state: State) -> Callable[[Tensor], Tensor]:
        """The preconditioner of each path, and of the free point the mean stretch of all."""
        paths, own = self.paths(path), self._own(state)
        inverse = self.metric.precondition(paths, own)
        flat = self.shares @ (paths[:, -1] - paths[:, 0]).square().sum(1)
        compliance = flat / (2 * state["energy"]).clamp_min(1e-300)

        def moves(g: Tensor) -> Tensor:
            inner = g[0, :-1].unflatten(0, (len(self.rows), -1)) / self.shares[:, None, None]
            return torch.cat([inverse(inner).flatten(0, 1), compliance * g[0, -1:]])[None]

        return moves

    def _known(self, centre: Tensor) -> State:
        """Values at the ends of the paths, of which one has moved."""
        there = self.metric.known(centre, centre) if self.at_rows else {}
        return {
            name: torch.stack([each[:, 0], there[name][:, 1].expand_as(each[:, 1])], 1)
            for name, each in self.at_rows.items()
        }

    def _own(self, state: State) -> State:
        return {name.removeprefix(_OWN): each[0] for name, each in state.items() if name.startswith(_OWN)}
