"""Measurements that check a geodesic of a learned density, and figures of a solved geometry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from scorefold.interfaces import DataSource
from scorefold.plotting import ACCENT, INK, SOFT, WARM, new_figure
from scorefold_scoregeometry.density import NAT, Density, training_rows
from scorefold_toolkit.captions import GEODESICS, captioned
from scorefold_toolkit.figures import EventGroups, far_apart, legend_below, samples
from scorefold_toolkit.geodesics import Geodesics, pictured, straight
from scorefold_toolkit.geodesics.geometry import SolvedGeometry

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_POINTS = 32
_STEPS = 36
_CURLED = 0.1
_STEP = 0.01
_OFF = 0.2
_MEASURED = 2000
OUTSIDE = (
    "an end lies outside the support of the data, more than a nat below the log-density of 99 % of held-out points"
)
_LEAVES = "the path leaves the support of the data"


@torch.no_grad()
def curl_of(density: Density, points: Tensor) -> float:
    """The curl |<v, J w> - <w, J v>| / (|J v| |w|) of random unit vectors v, w, in the median over rows (N, D).

    J is the Jacobian of the score, by central differences. A gradient has a symmetric Jacobian, and a curl of 0.
    """
    some = points[:_POINTS]
    generator = torch.Generator().manual_seed(0)
    v, w = (torch.nn.functional.normalize(torch.randn(some.shape, generator=generator).to(some)) for _ in range(2))
    step = max(_STEP * density.sigma, torch.finfo(density.model._reference(some).dtype).eps ** (1 / 3) * density.spread)
    of_v, of_w = (density.score(some + step * each) - density.score(some - step * each) for each in (v, w))
    gap = ((v * of_w).sum(1) - (w * of_v).sum(1)).abs() / of_v.norm(dim=1).clamp_min(1e-300)
    return float(gap.median())


@torch.no_grad()
def about_density(density: Density, points: Tensor) -> tuple[dict[str, float], list[str]]:
    """The noise level, and the curl at rows (N, D).

    Noise counts in the model's event scale, which should be the data's to 20 %. Above a curl of 0.1 distances depend on
    the way.
    """
    numbers = {"noise over a coordinate's deviation": density.sigma / density.spread, "sigma": density.sigma}
    warnings = []
    deviation = _deviation(density)
    if density.sigma > 0 and abs(deviation / density.spread - 1) > _OFF:
        warnings.append(
            f"a coordinate of the training data has the deviation {deviation:.3g}, and the model's event scale says "
            f"{density.spread:.3g}, which noise counts in: give the model its data (inputs: {{data: ...}}, and in "
            "Python event_scale=data.event_scale), in the units of its training"
        )
    if len(points) == 0 or density.dimension < 2:
        return numbers, warnings
    curl = curl_of(density, points)
    numbers["curl"] = curl
    if curl > _CURLED:
        warnings.append(
            f"the score is no gradient: its curl is {curl:.2g}, above {_CURLED:g}, so distances depend on the way; "
            "train longer, or take a higher noise"
        )
    return numbers, warnings


def _deviation(density: Density) -> float:
    """The deviation of a coordinate of the training data, as ``EventScale.std`` has it; the model's for no data."""
    if not isinstance(density.source, DataSource):
        return density.spread
    points = training_rows(density.source, _MEASURED)
    middle = points.mean() if density.model.event_scale.bounded else points.mean(0)
    return float((points - middle).square().mean().sqrt())


@torch.no_grad()
def about_paths(density: Density, found: Geodesics) -> tuple[dict[str, float], list[str], list[str]]:
    """Numbers and warnings about paths that leave the data, and the reason for each of B paths that does.

    A path leaves the support where its least log p is more than a nat below the 1 % quantile of held-out points; the
    reason says so, or that an end lies there, and is "" for paths that stay. Middles more than a nat above the 99 %
    quantile are likelier than data. The nat is for data whose density hardly varies, as on a sphere. log p
    along a path is its start's and the line integral of the score from there, where the model has no density. The loop
    defect is the line integral of the score along a geodesic and back along
    the straight line, over the sum of its sizes.
    """
    there = found.at(torch.linspace(0, 1, _STEPS + 1, dtype=torch.float64))
    back = straight(there[:, -1], there[:, 0], _STEPS)
    rises = [_rises(density, each) for each in (there, back)]
    ends = density.log_prob(there[:, [0, -1]].flatten(0, 1)).unflatten(0, (-1, 2))
    if density.exact:
        levels = density.log_prob(there.flatten(0, 1)).unflatten(0, there.shape[:2])
    else:
        levels = torch.cat([ends[:, :1], ends[:, :1] + rises[0][:, :-1].cumsum(1), ends[:, 1:]], 1)
    low, high = density.floor, torch.quantile(density.levels, 0.99) + NAT
    outside = levels.amin(1) < low
    typical = levels[:, _STEPS // 2] > high
    loop = (rises[0].sum(1) + rises[1].sum(1)).abs() / sum(each.abs().sum(1) for each in rises).clamp_min(1e-300)  # type: ignore[union-attr]
    numbers = {
        "share of paths that leave the support": float(outside.double().mean()),
        "share of middles likelier than data": float(typical.double().mean()),
        "loop defect": float(loop.median()),
    }
    warnings = []
    if bool(outside.any()):
        warnings.append(
            f"{int(outside.sum())} of {len(outside)} geodesics between these points: {_LEAVES}, more than a nat below "
            "the log-density of 99 % of held-out points"
        )
    if float(typical.double().mean()) > 0.5:
        warnings.append(
            f"{int(typical.sum())} of {len(typical)} middles are a nat likelier than 99 % of held-out points: expect "
            "blur or cartoons there, not typical data"
        )
    begun = ends.amin(1) < low
    reasons = [OUTSIDE if end else _LEAVES if out else "" for end, out in zip(begun, outside, strict=True)]
    return numbers, warnings, reasons


def _rises(density: Density, path: Tensor) -> Tensor:
    """The trapezoidal line integral of the score along each step of paths (B, N + 1, D), (B, N)."""
    s = density.score(path.flatten(0, 1)).unflatten(0, path.shape[:2])
    answer: Tensor = (path.diff(dim=1) * (s[:, 1:] + s[:, :-1])).sum(2) / 2
    return answer


_PAIRS, _TIMES, _DOTS, _IMAGES = 6, 65, 9, 2


@captioned(
    {
        "geodesics": GEODESICS,
    }
)
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
    shown = pictured(geometry, few)
    return samples(replace(shown, x=shown.x.cpu(), group=f"{shown.group} ({title})"))["samples"]


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
