"""Euclidean lengths along the geodesics of a pullback geometry, and where a length is reached."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from scorefold_pullback.geometry.chart import Chart
from scorefold_pullback.geometry.rows import row_lengths

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
