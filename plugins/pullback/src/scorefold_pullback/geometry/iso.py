"""Iso-Riemannian geometry: the geodesics of a pullback geometry, followed at constant Euclidean speed.

Diepeveen and Needell, "Manifold learning with normalizing flows" (arXiv 2505.08087). A pullback geometry measures a
step by what the flow makes of it, so that its geodesics run fast where the flow contracts. Here the same curves are run
by arc length: the distance is a curve's length, logarithms are as long as their curve, and tangent vectors are measured
as in Euclidean space.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor, nn

from scorefold.errors import DataError
from scorefold.interfaces import Flow, Geometry
from scorefold.interfaces.geometry import barycentre_weights, check_times, flatten
from scorefold_pullback.config import IsoPullbackConfig
from scorefold_pullback.geometry.chart import Chart, compared_with, row_lengths
from scorefold_pullback.geometry.pullback import Pullback
from scorefold_toolkit.potential import Potential

SEARCH = 60
POLISH = 2


@lru_cache
def gauss_legendre(nodes: int) -> tuple[Tensor, Tensor]:
    """The nodes in (0, 1) and weights of Gauss-Legendre quadrature, each (nodes,) in float64 (Golub and Welsch)."""
    k = torch.arange(1, nodes, dtype=torch.float64)
    off = k / (4 * k.square() - 1).sqrt()
    values, vectors = torch.linalg.eigh(off.diag(1) + off.diag(-1))
    return (values + 1) / 2, vectors[0].square()


@dataclass(frozen=True, eq=False)
class Arc:
    """The curves of t in [0, 1] that are start + t direction in a chart, ``start`` and ``direction`` (B, *E).

    Lengths are integrals of the speed over ``panels`` equal pieces of [0, 1], by ``nodes`` Gauss-Legendre nodes each.
    """

    chart: Chart
    start: Tensor
    direction: Tensor
    panels: int
    nodes: int

    def points(self, t: Tensor) -> Tensor:
        """The points at times t (B, T): (B, T, *E)."""
        w = self._line(t)
        return self.chart.inverse(w.flatten(0, 1)).reshape(w.shape)

    def speeds(self, t: Tensor) -> Tensor:
        """|c'(t)| at times t (B, T): (B, T)."""
        w = self._line(t)
        along = self.direction[:, None].expand_as(w).flatten(0, 1)
        velocity = self.chart.push_inverse(w.flatten(0, 1), along)[1]
        return row_lengths(velocity).reshape(t.shape)

    @cached_property
    def lengths(self) -> Tensor:
        """The lengths up to each edge of the panels, (B, panels + 1), the first 0."""
        edges = self._edges()[:-1]
        pieces = self._between(edges.expand(len(self.start), -1), edges.new_tensor(1 / self.panels))
        return torch.cat([pieces.new_zeros(len(pieces), 1), pieces.cumsum(1)], dim=1)

    def length(self) -> Tensor:
        """The whole lengths, (B,)."""
        return self.lengths[:, -1]

    def times(self, shares: Tensor) -> Tensor:
        """The times (B, T) at which shares (B, T) in [0, 1] of the length are reached; on a curve that stands, shares.

        They are sought by Newton steps kept inside a bracket, until one leaves half of the digits alone. The last steps
        are taken with gradients, each of which doubles the digits and the orders of derivative that are right.
        """
        lengths = self.lengths  # here, as the graph is lost of what is first asked for below
        targets = shares * lengths[:, -1:]
        with torch.no_grad():
            inside = torch.searchsorted(lengths.contiguous(), targets.contiguous(), right=True) - 1
            panel = inside.clamp(0, self.panels - 1)
            low = self._edges()[panel]
            high = low + 1 / self.panels
            t, near = (low + high) / 2, torch.finfo(lengths.dtype).eps ** 0.5
            for _ in range(SEARCH):
                error = self._up_to(t, panel, lengths) - targets
                low, high = torch.where(error < 0, t, low), torch.where(error < 0, high, t)
                moved = t - _over(error, self.speeds(t))
                moved = torch.where((moved < low - near) | (moved > high + near), (low + high) / 2, moved)
                settled = bool(((moved - t).abs() <= near).all())
                t = moved
                if settled:
                    break
        for _ in range(POLISH):
            t = t - _over(self._up_to(t, panel, lengths) - targets, self.speeds(t))
        return torch.where(lengths[:, -1:] == 0, shares, t.clamp(0, 1))

    def _up_to(self, t: Tensor, panel: Tensor, lengths: Tensor) -> Tensor:
        """The lengths up to times t (B, T) in known panels."""
        edge = self._edges()[panel]
        return lengths.gather(1, panel) + self._between(edge, t - edge)

    def _between(self, start: Tensor, width: Tensor) -> Tensor:
        """The lengths from times ``start`` (B, T) over ``width``, (B, T)."""
        nodes, weights = (value.to(self.start) for value in gauss_legendre(self.nodes))
        width = width.expand_as(start)
        t = start[..., None] + width[..., None] * nodes
        return width * (self.speeds(t.flatten(1)).reshape(t.shape) * weights).sum(-1)

    def _edges(self) -> Tensor:
        return torch.linspace(0, 1, self.panels + 1, dtype=self.start.dtype, device=self.start.device)

    def _line(self, t: Tensor) -> Tensor:
        """start + t direction, (B, T, *E)."""
        shaped = t.reshape(*t.shape, *[1] * (self.start.dim() - 1))
        return self.start[:, None] + shaped * self.direction[:, None]


def _over(error: Tensor, speed: Tensor) -> Tensor:
    """error / speed, and 0 where nothing moves."""
    still = speed == 0
    return torch.where(still, 0.0, error / torch.where(still, 1.0, speed))


DOUBLINGS = 60
_SMALLEST_STEP = 1e-4  # below it only rounding is left to gain


class IsoPullback(Geometry, nn.Module):
    """Geodesics of ``Pullback`` by arc length. The curves depend on the flow alone where psi is quadratic.

    Distances are lengths of these curves, symmetric and additive along each, but a way round by a third point may be
    shorter. Parallel transport is not given: the source has none.

    >>> from scorefold_registry import Host
    >>> host = Host.discover()
    >>> bent = host.create("geometry:iso-pullback", flow=host.create("flow:banana"))
    >>> ends = torch.tensor([[1.0, -3.0]]), torch.tensor([[1.0, 3.0]])
    >>> path = bent.geodesic(*ends, torch.linspace(0, 1, 5))[0]
    >>> path.diff(dim=0).norm(dim=1).round(decimals=1)  # one speed, measured as we see it
    tensor([1.6000, 1.6000, 1.6000, 1.6000])
    """

    def __init__(
        self, config: IsoPullbackConfig, *, flow: Flow, psi: Potential | None = None, reference: Geometry | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.pullback = Pullback(config, flow=flow, psi=psi)
        self.event_shape = self.pullback.event_shape
        self.compared = compared_with(reference, self)

    def diagnose(self, points: Tensor) -> tuple[Mapping[str, float], Sequence[str]]:
        """Diagnostics of the flow on points: see ``Pullback.diagnose``."""
        numbers, warnings = self.pullback.diagnose(points)
        return {**numbers, **self.compared.errors(self, points)}, warnings

    def metric(self, x: Tensor) -> Tensor:
        """The identity, (B, D, D)."""
        (x,) = self.pullback.rows(x=x)
        size = math.prod(self.event_shape)
        return torch.eye(size, dtype=x.dtype, device=x.device).expand(len(x), size, size)

    def inner(self, x: Tensor, v: Tensor, w: Tensor) -> Tensor:
        """The Euclidean inner product, (B,)."""
        _, v, w = self.pullback.rows(x=x, v=v, w=w)
        return (flatten(v) * flatten(w)).sum(1)

    def norm(self, x: Tensor, v: Tensor) -> Tensor:
        """The Euclidean length, (B,)."""
        return row_lengths(self.pullback.rows(x=x, v=v)[1])

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """The Euclidean length of the geodesic from x to y, (B,)."""
        return self._arc(*self._line(x, y)).length()

    def geodesic(self, x: Tensor, y: Tensor, s: Tensor) -> Tensor:
        """The points of the geodesic at shares s (T,) of its length, (B, T, *E).

        Raises ``DataError`` for shares outside [0, 1].
        """
        check_times(s)
        if s.numel() and not bool(((s >= 0) & (s <= 1)).all()):
            raise DataError(
                f"s goes from {float(s.min()):g} to {float(s.max()):g}; expected shares of the length, 0 to 1"
            )
        arc = self._arc(*self._line(x, y))
        return arc.points(arc.times(s.to(arc.start.dtype).expand(len(arc.start), -1)))

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """The direction of the geodesic at x, as long as the geodesic: (B, *E)."""
        return self._log(*self._line(x, y))

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        """The point at Euclidean length |v| along the geodesic that sets out along v: (B, *E).

        Raises ``DataError`` where the whole geodesic is not as long.
        """
        x, v = self.pullback.rows(x=x, v=v)
        start, direction = self.pullback.straight.push(x, v)
        length = row_lengths(v)
        arc = self._far_enough(start, direction, length)
        return arc.points(arc.times(_ratio(length, arc.length())[:, None]))[:, 0]

    def mean(self, points: Tensor, weights: Tensor | None = None) -> Tensor:
        """The point (*E) at which the weighted logarithms of points (N, *E) add up to 0.

        From the mean of the pullback geometry on it is moved by that sum, less far where the sum would grow. Raises
        ``DataError`` where after ``iterations`` moves the sum is not below 1e-3 of the points' spread.
        """
        (points,) = self.pullback.rows(points=points)
        shares = barycentre_weights(points, weights)
        mean = self.pullback.mean(points, weights)
        w = self.pullback.straight(points)
        pull, step = self._pull(mean, w, shares), 1.0
        scale = 1 + float(points.detach().abs().max())
        for moves in range(1, self.config.iterations + 1):  # noqa: B007 - in the error where none is found
            if float(pull.detach().norm()) <= 100 * torch.finfo(points.dtype).eps * scale:
                return mean
            moved = mean + step * pull
            next_pull = self._pull(moved, w, shares)
            if float(next_pull.detach().norm()) < float(pull.detach().norm()):
                mean, pull = moved, next_pull
            elif step > _SMALLEST_STEP:
                step /= 2
            else:
                break
        spread = float(row_lengths((points - mean).detach()).mean())
        if not float(pull.detach().norm()) <= 1e-3 * spread:
            raise DataError(
                f"no barycentre was found: after {moves} moves the logarithms add up to "
                f"{float(pull.detach().norm()):.3g}, the points spread over {spread:.3g}",
                hint="raise 'iterations', or take fewer points that are so far apart",
            )
        return mean

    def _pull(self, mean: Tensor, w: Tensor, shares: Tensor) -> Tensor:
        """The weighted sum, (*E), of the logarithms at a point (*E) of points whose coordinates are w (N, *E)."""
        start = self.pullback.straight(mean[None]).expand_as(w)
        total: Tensor = torch.tensordot(shares, self._log(start, w - start), dims=1)
        return total

    def _line(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The start and the direction of geodesics in coordinates where they are straight lines."""
        start, end = self.pullback.pair(self.pullback.straight, x, y)
        return start, end - start

    def _log(self, start: Tensor, direction: Tensor) -> Tensor:
        v = self.pullback.straight.push_inverse(start, direction)[1]
        factor = _ratio(self._arc(start, direction).length(), row_lengths(v))
        return v * factor.reshape(-1, *[1] * len(self.event_shape))

    def _arc(self, start: Tensor, direction: Tensor) -> Arc:
        return Arc(self.pullback.straight, start, direction, self.config.panels, self.config.nodes)

    def _far_enough(self, start: Tensor, direction: Tensor, length: Tensor) -> Arc:
        """The curves, their time doubled until they are as long as asked for."""
        reach = torch.ones_like(length)
        for _ in range(DOUBLINGS):
            arc = self._arc(start, direction * reach.reshape(-1, *[1] * len(self.event_shape)))
            short = arc.length() < length
            if not bool(short.any()):
                return arc
            reach = torch.where(short, 2 * reach, reach)
        raise DataError(
            f"a geodesic of length {float(length.detach().max()):.3g} was asked for, and the flow makes none so long "
            "in that direction",
            hint="shorten the tangent vector",
        )


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """a / b, and its limit 1 where no curve sets out."""
    still = b == 0
    return torch.where(still, 1.0, a / torch.where(still, 1.0, b))
