"""Pictures of a geometry: geodesics over the density of its flow, with straight lines beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from scorefold.figures import ACCENT, INK, WARM, new_figure, samples
from scorefold.interfaces import Flow
from scorefold.stage import EventGroups
from scorefold_pullback.geometry import Pullback
from scorefold_pullback.iso import IsoPullback

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PAIRS, _TIMES, _DOTS, _GRID = 6, 65, 9, 160


@torch.no_grad()
def draw(geometry: Pullback | IsoPullback) -> Mapping[str, Figure]:
    """Geodesics between points that the flow draws, always the same ones.

    In the plane they lie over its density, with dots at equal times and the straight lines beside them; other events
    are drawn as images in rows, or as lines in their widest plane.
    """
    flow = geometry.flow if isinstance(geometry, Pullback) else geometry.pullback.flow
    start, end = _far_apart(flow.sample(10 * _PAIRS, generator=torch.Generator().manual_seed(0)))
    times = torch.linspace(0, 1, _TIMES, dtype=start.dtype, device=start.device)
    paths = geometry.geodesic(start, end, times).cpu()
    if geometry.event_shape != (2,):
        return {"geodesics": samples(EventGroups(paths, "one geodesic", path=True))["samples"]}
    return {"geodesics": _over_density(flow, paths)}


def _far_apart(points: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs from the first and the last third of points (N, *E) by their widest direction: long geodesics."""
    flat = points.flatten(1)
    centred = (flat - flat.mean(0)).double()
    order = (centred @ torch.linalg.svd(centred, full_matrices=False).Vh[0]).argsort()
    third = len(points) // 3
    step = third // _PAIRS
    return points[order[:third:step][:_PAIRS]], points[order[-third::step][:_PAIRS]]


def _over_density(flow: Flow, paths: Tensor) -> Figure:
    cloud = flow.sample(2000, generator=torch.Generator().manual_seed(1))
    low, high = (torch.quantile(cloud, share, dim=0) for share in (0.005, 0.995))
    edge = 0.15 * (high - low)
    across, up = (torch.linspace(float(a), float(b), _GRID) for a, b in zip(low - edge, high + edge, strict=True))
    grid = torch.cartesian_prod(across, up)
    density = flow.log_prob(grid.to(cloud)).exp().reshape(_GRID, _GRID).T.cpu()
    figure, axes = new_figure(5.6, 5.0)
    axes.contourf(across, up, density, levels=12, cmap="Blues", alpha=0.8)
    for number, path in enumerate(paths):
        names = ("geodesics", "straight lines") if number == 0 else ("_", "_")
        axes.plot(path[:, 0], path[:, 1], color=ACCENT, linewidth=1.6, label=names[0])
        axes.plot(path[[0, -1], 0], path[[0, -1], 1], color=WARM, linewidth=1.0, linestyle="--", label=names[1])
        dots = path[:: (_TIMES - 1) // (_DOTS - 1)]
        axes.scatter(dots[:, 0], dots[:, 1], s=9, color=ACCENT, zorder=3)
        ends = path[[0, -1]]
        axes.scatter(ends[:, 0], ends[:, 1], s=26, color=INK, zorder=4)
    axes.set(xlabel="x", ylabel="y", title="Geodesics over the density; dots at equal times")
    axes.set_xlim(float(across[0]), float(across[-1]))
    axes.set_ylim(float(up[0]), float(up[-1]))
    axes.legend(frameon=False, fontsize=9)
    return figure
