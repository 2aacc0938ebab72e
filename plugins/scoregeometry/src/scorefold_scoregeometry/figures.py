"""Pictures of a solved geometry: geodesics over data points, and images raw and denoised next to straight lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from scorefold.plotting import ACCENT, INK, SOFT, WARM, new_figure
from scorefold_toolkit.figures import EventGroups, far_apart, legend_below, samples
from scorefold_toolkit.geodesics import pictured
from scorefold_toolkit.geodesics.geometry import SolvedGeometry

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PAIRS, _TIMES, _DOTS, _IMAGES = 6, 65, 9, 2


@torch.no_grad()
def geodesic_figures(geometry: SolvedGeometry) -> Mapping[str, Figure]:
    """Geodesics between some points of the geometry's data, always the same ones; withheld ones are left out and
    counted in the title.

    In the plane they lie over the points, with straight lines. Of images each geodesic is a row above its straight
    line, and each of the two above its denoised points. Other events are lines in their widest plane.
    """
    points = geometry.some_points(20 * _PAIRS)
    pairs = _IMAGES if len(geometry.event_shape) == 3 else _PAIRS
    start, end = far_apart(points, pairs)
    found = geometry.solve(start, end)
    given = (~found.withheld).nonzero()[:, 0]
    lost = len(start) - len(given)
    title = f"{len(given)} geodesics" + (f"; {lost} withheld, not converged or not resolved" if lost else "")
    if len(given) == 0:
        return {}
    times = torch.linspace(0, 1, _TIMES, dtype=torch.float64)
    paths = found.take(given).at(times).unflatten(2, geometry.event_shape).to(points)
    if geometry.event_shape == (2,):
        return {"geodesics": _plane(points, paths, title)}
    if len(geometry.event_shape) == 3:
        return {"geodesics": _rows(geometry, paths, title)}
    return {"geodesics": samples(EventGroups(paths.cpu(), "one geodesic", path=True))["samples"]}


def _rows(geometry: SolvedGeometry, paths: Tensor, title: str) -> Figure:
    few = paths[:, :: (_TIMES - 1) // (_DOTS - 1)]
    rows, names = pictured(geometry, few)
    return samples(EventGroups(rows.cpu(), f"{names} ({title})", path=True))["samples"]


def _plane(points: Tensor, paths: Tensor, title: str) -> Figure:
    figure, axes = new_figure(5.6, 5.0)
    cloud, paths = points.cpu(), paths.cpu()
    axes.scatter(cloud[:, 0], cloud[:, 1], s=5, color=SOFT, linewidths=0)
    for number, path in enumerate(paths):
        names = ("geodesics", "straight lines") if number == 0 else ("_", "_")
        axes.plot(path[:, 0], path[:, 1], color=ACCENT, linewidth=1.6, label=names[0])
        axes.plot(path[[0, -1], 0], path[[0, -1], 1], color=WARM, linewidth=1.0, linestyle="--", label=names[1])
        dots = path[:: (_TIMES - 1) // (_DOTS - 1)]
        axes.scatter(dots[:, 0], dots[:, 1], s=9, color=ACCENT, zorder=3)
        axes.scatter(path[[0, -1], 0], path[[0, -1], 1], s=26, color=INK, zorder=4)
    axes.set(xlabel="x", ylabel="y", title=f"{title}; dots at equal times")
    axes.set_aspect("equal", adjustable="datalim")
    legend_below(axes)
    return figure
