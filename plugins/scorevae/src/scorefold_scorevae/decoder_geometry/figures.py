"""Figures of the geometry of a decoder: geodesics of codes over the volume that the decoder gives them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from scorefold.plotting import ACCENT, INK, WARM, empty_figure, tidy
from scorefold_toolkit.figures import as_images, labelled_grid, legend_below

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from scorefold_scorevae.decoder_geometry.geometry import DecoderGeometry


_GEODESICS, _TIMES, _ROWS, _GRID = 6, 65, 4, 60
_WIDTH = 2.5  # deviations of the codes, to either side


@torch.no_grad()
def decoder_geometry_figures(space: DecoderGeometry) -> Mapping[str, Figure]:
    """Geodesics between codes of the model's own distribution, always the same ones, and straight lines of codes.

    In the plane they lie over the volume sqrt(det G), by its logarithm; of images each geodesic is a row above the
    straight line's. Geodesics that are withheld are left out, and counted in the title.
    """
    codes = space.typical_codes(2 * _GEODESICS, torch.Generator().manual_seed(0))
    start, end = codes.chunk(2)
    solved = space.solve(start, end)
    kept = (~solved.withheld).nonzero()[:, 0]
    lost = len(start) - len(kept)
    title = f"{len(kept)} geodesics between codes" + (f"; {lost} are withheld" if lost else "")
    if len(kept) == 0:
        return {}
    times = torch.linspace(0, 1, _TIMES, dtype=torch.float64)
    size = start[0].numel()
    paths = solved.take(kept).at(times).to(codes)
    lines = start[kept].flatten(1)[:, None].lerp(end[kept].flatten(1)[:, None], times.to(codes)[:, None])
    found = {}
    if size == 2:
        found["geodesics"] = _over_volume(space, paths, lines, title)
    few = torch.stack([paths, lines], 1).flatten(0, 1)[: 2 * _ROWS, :: (_TIMES - 1) // 8]
    images = as_images(space.decoded(few.flatten(0, 1).unflatten(1, space.event_shape)).cpu())
    if images is not None:
        names = ["geodesic", "straight"] * (len(few) // 2)
        grid = images.unflatten(0, few.shape[:2])
        found["decoded"] = labelled_grid(
            grid, names, [], "Between two codes: the geodesic, and the straight line", (None, None)
        )
    return found


def _over_volume(space: DecoderGeometry, paths: Tensor, lines: Tensor, title: str) -> Figure:
    seen = torch.cat([paths, lines]).flatten(0, 1)
    paths, lines = paths.cpu(), lines.cpu()
    low, high = seen.amin(0), seen.amax(0)
    edge = 0.1 * (high - low) + 1e-9
    across, up = (
        torch.linspace(float(a), float(b), _GRID).double() for a, b in zip(low - edge, high + edge, strict=True)
    )
    metric = space.metric(torch.cartesian_prod(across, up).to(seen)).double().cpu()
    volume = torch.linalg.slogdet(metric).logabsdet.div(2 * math.log(10)).reshape(_GRID, _GRID).T
    figure = empty_figure(6.2, 5.0)
    axes = figure.subplots()
    tidy(axes)
    picture = axes.pcolormesh(across.numpy(), up.numpy(), volume.numpy(), cmap="Blues", shading="nearest")
    figure.colorbar(picture, ax=axes, label="log10 of the volume sqrt(det G)")
    for number, (path, line) in enumerate(zip(paths, lines, strict=True)):
        names = ("geodesic", "straight line of codes") if number == 0 else ("_", "_")
        axes.plot(path[:, 0], path[:, 1], color=ACCENT, linewidth=1.6, label=names[0])
        axes.plot(line[:, 0], line[:, 1], color=WARM, linewidth=1, linestyle="--", label=names[1])
        axes.scatter(path[[0, -1], 0], path[[0, -1], 1], s=22, color=INK, zorder=4)
    axes.set(xlabel="unit 0", ylabel="unit 1")
    axes.set_title(title, fontsize=10, color=INK)
    legend_below(axes)
    return figure
