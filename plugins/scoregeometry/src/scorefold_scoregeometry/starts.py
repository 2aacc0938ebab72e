"""Starts of the solver besides straight lines: the path through noise, and shortest paths over training points."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra
from torch import Tensor

from scorefold.interfaces import DataSource, Flow
from scorefold_scoregeometry.density import Density, training_rows
from scorefold_toolkit.geodesics import Conformal, GeodesicMetric, State, straight
from scorefold_toolkit.geodesics.paths import respaced
from scorefold_toolkit.probability_flow import decode_noise, encode_noise, standardised_noise, unstandardised_noise

_POINTS = 2000
_NEIGHBOURS = 10
_STEPS = 16
_FLOW_STEPS = 18


@torch.no_grad()
def noise_path(density: Density, x: Tensor, y: Tensor, times: Tensor | None = None) -> Tensor:
    """Paths (B, T, D) between rows (B, D) through their noise: along great circles, decoded (18 steps of Heun). Times
    (T,) go from 0 to 1, where both ends are x and y themselves; by default there are 17."""
    model = density.model
    like = model._reference(x)
    steps = None if isinstance(model, Flow) else _FLOW_STEPS
    ends = torch.cat([x, y]).to(like).unflatten(1, density.event_shape)
    condition = density.conditions(len(ends), ends)
    first, last = standardised_noise(model, encode_noise(model, ends, condition, steps=steps)).chunk(2)
    a, b = first.flatten(1), last.flatten(1)
    cosine = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp_min(1e-30)
    angle = cosine.clamp(-1 + 1e-6, 1 - 1e-6).arccos()[:, None, None]
    share = (torch.linspace(0, 1, _STEPS + 1) if times is None else times).to(a)[None, :, None]
    circle = (((1 - share) * angle).sin() * a[:, None] + (share * angle).sin() * b[:, None]) / angle.sin()
    noise = unstandardised_noise(model, circle.flatten(0, 1).unflatten(1, density.event_shape))
    found = decode_noise(model, noise, density.conditions(len(noise), noise), steps=steps)
    path = found.flatten(1).to(x).unflatten(0, (len(x), -1))
    path[:, 0], path[:, -1] = x, y
    answer: Tensor = path
    return answer


class NeighbourGraph:
    """Shortest paths in the graph of nearest neighbours of training points, edges weighed by a metric's length.

    Its points are of the training split alone, so that a path between held-out points learns nothing from them.
    """

    def __init__(self, data: DataSource, metric: GeodesicMetric) -> None:
        self.metric, self.points = metric, training_rows(data, _POINTS)
        self.heights = self._heights(self.points)
        count = min(_NEIGHBOURS, len(self.points) - 1)
        near = torch.cdist(self.points, self.points).topk(count + 1, largest=False).indices[:, 1:]
        self.rows = torch.arange(len(self.points)).repeat_interleave(near.shape[1])
        self.columns = near.flatten()
        self.weights = self._lengths(self.points, self.heights, self.rows, self.columns)

    def paths(self, x: Tensor, y: Tensor) -> Tensor:
        """Paths (B, 17, D) between rows (B, D) in equal Euclidean steps: the straight line where there is no way."""
        batch, known = len(x), len(self.points)
        nodes = torch.cat([self.points, x, y])
        heights = torch.cat([self.heights, self._heights(torch.cat([x, y]))])
        count = min(_NEIGHBOURS, known)
        near = torch.cdist(nodes[known:], self.points).topk(count, largest=False).indices
        rows = torch.arange(known, known + 2 * batch).repeat_interleave(count)
        weights = self._lengths(nodes, heights, rows, near.flatten())
        edges = torch.stack([torch.cat([self.rows, rows]), torch.cat([self.columns, near.flatten()])])
        size = (len(nodes), len(nodes))
        values = torch.cat([self.weights, weights]).numpy()
        graph = csr_matrix((values, (edges[0].numpy(), edges[1].numpy())), shape=size)
        graph = graph.maximum(graph.T)
        starts = np.arange(known, known + batch)
        before = dijkstra(graph, directed=False, indices=starts, return_predecessors=True)[1]
        found = []
        for row in range(batch):
            way, place = [known + batch + row], int(before[row, known + batch + row])
            while place >= 0:
                way.append(place)
                place = int(before[row, place])
            line = nodes[way[::-1]] if len(way) > 1 else torch.stack([x[row], y[row]])
            found.append(respaced(line[None], _STEPS)[0])
        return torch.stack(found)

    def _heights(self, x: Tensor) -> Tensor:
        """log p at rows, for a metric that reads it once at ends; zeros for others."""
        if isinstance(self.metric, Conformal) and not self.metric.exact:
            return self.metric.log_prob(x)
        return x.new_zeros(len(x))

    def _lengths(self, nodes: Tensor, heights: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """The lengths of edges, by the metric at their middles."""
        known: State = {"ends": torch.stack([heights[rows], heights[columns]], 1)}
        return self.metric.length(straight(nodes[rows], nodes[columns], 1), known).clamp_min(1e-300)
