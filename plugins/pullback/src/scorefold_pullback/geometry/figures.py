"""Pictures of a geometry: geodesics over the density of its flow, straight lines beside them, and the flow's chart."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from scorefold.interfaces import Flow
from scorefold.plotting import ACCENT, INK, SOFT, WARM, new_figure
from scorefold_pullback.flows.mixture import SharedMixture
from scorefold_pullback.geometry.iso import IsoPullback
from scorefold_pullback.geometry.pullback import Pullback
from scorefold_toolkit.captions import GEODESICS, captioned
from scorefold_toolkit.figures import EventGroups, far_apart, legend_below, samples
from scorefold_toolkit.geodesics import pictured
from scorefold_toolkit.nn import Quadratic

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_PAIRS, _IN_PLANE, _TIMES, _DOTS, _GRID = 6, 3, 65, 9, 160
_SHOWN = 4  # geodesics of images, whose rows are twice as many


@captioned(
    {
        "geodesics": GEODESICS,
        "chart": (
            "Lines of equal latent coordinates, carried to the data by the flow. Grey dots are samples of the flow."
        ),
    }
)
@torch.no_grad()
def geometry_figures(geometry: Pullback | IsoPullback) -> Mapping[str, Figure]:
    """Geodesics between points that the flow draws, always the same ones.

    In the plane they lie over its density, with dots at equal times and the straight lines and a reference's geodesics
    beside them, and ``chart`` is what the flow makes of the lines of its latent coordinates. Of images each geodesic is
    a row above the straight line's; other events are lines in their widest plane.
    """
    flow = geometry.flow if isinstance(geometry, Pullback) else geometry.pullback.flow
    points = flow.sample(10 * _PAIRS, generator=torch.Generator().manual_seed(0))
    start, end = far_apart(points, _IN_PLANE if geometry.event_shape == (2,) else _PAIRS)
    times = torch.linspace(0, 1, _TIMES, dtype=start.dtype, device=start.device)
    paths = geometry.geodesic(start, end, times).cpu()
    if geometry.event_shape == (2,):
        reference = geometry.compared.to
        true = None if reference is None else reference.geodesic(start, end, times).cpu()
        return {"geodesics": _over_density(flow, paths, true), **_chart(flow)}
    if len(geometry.event_shape) == 3:
        few, scale = paths[:_SHOWN, :: (_TIMES - 1) // (_DOTS - 1)], flow.event_scale
        shown = pictured(geometry, few.clamp(scale.low, scale.high) if scale.bounded else few)
    else:
        shown = EventGroups(paths, "one geodesic", path=True)
    return {"geodesics": samples(shown)["samples"]}


def _chart(flow: Flow) -> Mapping[str, Figure]:
    """Lines of the latent coordinates to 2.5 deviations around each mode, in the plane; nothing for a base without."""
    base = flow.base
    if not isinstance(base, Quadratic):
        return {}
    whole, lines = torch.linspace(-2.5, 2.5, _GRID), torch.linspace(-2.5, 2.5, 11)
    cloud = flow.sample(2000, generator=torch.Generator().manual_seed(1))
    figure, axes = new_figure(5.6, 5.0)
    axes.scatter(cloud[:, 0].cpu(), cloud[:, 1].cpu(), s=3, color=SOFT, alpha=0.4, linewidths=0)
    widths = base.unwhiten(torch.eye(2).to(cloud)) - base.unwhiten(torch.zeros(2, 2).to(cloud))
    widest = int(widths.square().sum(1).argmax())
    modes = base.offsets - base.centre if isinstance(base, SharedMixture) else cloud.new_zeros(1, 2)
    for along, colour in ((1 - widest, WARM), (widest, ACCENT)):
        for number, (mode, at) in enumerate(itertools.product(modes, lines)):
            w = torch.full((_GRID, 2), float(at))
            w[:, along] = whole
            curve = flow.inverse(base.unwhiten(w.to(cloud)) + mode)[0].cpu()
            named = "the widest" if along == widest else "the other"
            label = f"along {named} latent coordinate" if number == 0 else "_"
            width, order = (0.7, 2) if along == widest else (1.4, 3)
            axes.plot(curve[:, 0], curve[:, 1], color=colour, linewidth=width, zorder=order, label=label)
    axes.set(xlabel="x", ylabel="y", title="The flow's chart: latent coordinates to 2.5 deviations")
    axes.set_aspect("equal", adjustable="datalim")
    legend_below(axes)
    return {"chart": figure}


def _over_density(flow: Flow, paths: Tensor, true: Tensor | None) -> Figure:
    cloud = flow.sample(2000, generator=torch.Generator().manual_seed(1))
    seen = torch.cat(
        [paths.flatten(0, 1), *(torch.quantile(cloud.cpu(), share, dim=0)[None] for share in (0.005, 0.995))]
    )
    low, high = seen.amin(0), seen.amax(0)
    edge = 0.15 * (high - low)
    across, up = (torch.linspace(float(a), float(b), _GRID) for a, b in zip(low - edge, high + edge, strict=True))
    grid = torch.cartesian_prod(across, up)
    density = flow.log_prob(grid.to(cloud)).exp().reshape(_GRID, _GRID).T.cpu()
    figure, axes = new_figure(5.6, 5.0)
    axes.contourf(across, up, density, levels=12, cmap="Blues", alpha=0.8)
    for number, path in enumerate(paths):
        names = ("geodesics", "straight lines", "true geodesics") if number == 0 else ("_", "_", "_")
        if true is not None:
            axes.plot(true[number, :, 0], true[number, :, 1], color=INK, linewidth=1.2, linestyle=":", label=names[2])
        axes.plot(path[:, 0], path[:, 1], color=ACCENT, linewidth=1.6, label=names[0])
        axes.plot(path[[0, -1], 0], path[[0, -1], 1], color=WARM, linewidth=1.0, linestyle="--", label=names[1])
        dots = path[:: (_TIMES - 1) // (_DOTS - 1)]
        axes.scatter(dots[:, 0], dots[:, 1], s=9, color=ACCENT, zorder=3)
        ends = path[[0, -1]]
        axes.scatter(ends[:, 0], ends[:, 1], s=26, color=INK, zorder=4)
    axes.set(xlabel="x", ylabel="y", title="Geodesics follow the density; dots at equal times")
    axes.set_aspect("equal", adjustable="box")
    axes.set_xlim(float(across[0]), float(across[-1]))
    axes.set_ylim(float(up[0]), float(up[-1]))
    legend_below(axes, 3)
    return figure
