"""Figures of a Riemannian auto-encoder: its spectrum, its reconstruction curve beside a PCA's, and what it decodes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from scorefold.plotting import ACCENT, INK, SOFT, WARM, new_figure
from scorefold.results import Estimate
from scorefold_toolkit.captions import captioned
from scorefold_toolkit.figures import EventGroups, legend_below, samples

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_FRAME: dict[str, Any] = {"facecolor": "white", "edgecolor": "none", "framealpha": 0.8, "fontsize": 9}
_BELOW: dict[str, Any] = {**_FRAME, "loc": "upper center", "bbox_to_anchor": (0.5, -0.12), "ncols": 2}
_DOTS: dict[str, Any] = {"color": INK, "alpha": 0.35, "linewidths": 0, "label": "points"}
_LINES = 12
_MARKED = 40


@captioned(
    {
        "spectrum": (
            "The variance of each latent coordinate, widest first. Coordinates right of the dashed line are dropped."
        ),
        "reconstruction": (
            "The error of points that are rebuilt from some latent coordinates only, next to a PCA with as many "
            "numbers."
        ),
        "decoded": "What the kept coordinates decode to, next to the data.",
        "residuals": "The distance of each point from its reconstruction.",
    }
)
def autoencoder_figures(answer: Estimate) -> Mapping[str, Figure]:
    """The figures by name: spectrum, reconstruction, residuals, and decoded."""
    return {
        "spectrum": spectrum(answer),
        "reconstruction": reconstruction(answer),
        "decoded": decoded_figure(answer),
        "residuals": residuals(answer),
    }


def spectrum(answer: Estimate, ax: Axes | None = None) -> Figure:
    """Variances of the base, widest first, with variances of the points' own coordinates, and the cut."""
    assert answer.spectrum is not None
    figure, axes = new_figure(ax=ax)
    variances, measured = _plain(answer.spectrum[0]), _plain(answer.diagnostics["measured_variances"])
    ranks = range(1, len(variances) + 1)
    marker = "o" if len(variances) <= _MARKED else ""
    label = "mean squares of the points' own"
    axes.plot(ranks, measured, color=SOFT, marker=marker, markersize=7, linewidth=1, label=label)
    axes.plot(ranks, variances, color=ACCENT, marker=marker, markersize=4, linewidth=1, label="the base's")
    if float(variances.max()) > 50 * float(variances.min()):
        axes.set_yscale("log")
    _mark(axes, answer, shift=0.5)
    axes.set(xlabel="latent coordinate, by variance", ylabel="variance", title="Variances of the latent coordinates")
    axes.locator_params(axis="x", integer=True)
    legend_below(axes)
    return figure


def reconstruction(answer: Estimate, ax: Axes | None = None) -> Figure:
    """The mean squared error a coordinate against the number of coordinates kept, by order, beside a PCA's."""
    curve = answer.diagnostics["curve"]
    kept: Sequence[int] = curve["kept"]
    figure, axes = new_figure(ax=ax)
    lines: dict[str, tuple[str, dict[str, Any]]] = {
        "increasing": ("the flow, narrowest first", {"color": SOFT, "linestyle": "--"}),
        "random": ("the flow, in random order", {"color": SOFT, "linestyle": ":"}),
        "pca": (
            "PCA of these points, from their mean",
            {"color": WARM, "marker": "s", "markersize": 6, "fillstyle": "none"},
        ),
        "decreasing": ("the flow, widest first, from its mode", {"color": ACCENT, "marker": "o", "markersize": 4}),
    }
    for name, (label, style) in lines.items():
        axes.plot(kept, curve[name], label=label, linewidth=1.4, **style)
    axes.locator_params(axis="x", integer=True)
    if kept[-1] > _MARKED:
        axes.set_xscale("symlog", linthresh=8)
        ticks = [0, *(2**power for power in range(2, 20) if 2**power < kept[-1])]
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
    _mark(axes, answer)
    axes.set_ylim(bottom=0)
    axes.set(
        xlabel="coordinates kept",
        ylabel="mean squared error per coordinate",
        title=f"Reconstruction of {curve['points']} points",
    )
    legend_below(axes)
    return figure


def residuals(answer: Estimate, ax: Axes | None = None) -> Figure:
    """The histogram over points of the distance from their reconstruction."""
    values = _plain(answer.diagnostics["residuals"])
    figure, axes = new_figure(ax=ax)
    axes.hist(values.numpy(), bins=max(8, min(40, len(values) // 4)), color=SOFT)
    mean = float(values.square().mean().sqrt())
    axes.axvline(mean, color=ACCENT, linewidth=2, label=f"root of the mean square {mean:.3g}")
    axes.set(xlabel="distance of a point from its reconstruction", ylabel="points", title="Residuals of the points")
    legend_below(axes)
    return figure


def decoded_figure(answer: Estimate) -> Figure:
    """The learned manifold over the points, or for other events what lies along each of the first axes."""
    grid = answer.diagnostics.get("decoded_grid")
    if grid is None:
        rows = EventGroups(_plain(answer.diagnostics["decoded_axes"]), "one axis, from -3 to 3 deviations", path=True)
        return samples(rows)["samples"]
    points = _plain(answer.diagnostics["shown"])
    return _in_space(points, _plain(grid)) if points.shape[1] == 3 else _in_plane(points, _plain(grid))


def _in_plane(points: Tensor, grid: Tensor) -> Figure:
    """Points (N, D) and a grid (n, D) or (n, n, D) in the plane of the points' two widest directions."""
    figure, axes = new_figure(5.6, 5.0)
    names = ("x", "y")
    if points.shape[1] > 2:
        middle = points.mean(0)
        plane = torch.linalg.svd(points - middle, full_matrices=False).Vh[:2].T
        points, grid = (points - middle) @ plane, (grid - middle) @ plane
        names = ("first principal direction", "second principal direction")
    if points.shape[1] == 1:
        points, grid = (torch.cat([part, torch.zeros_like(part)], dim=-1) for part in (points, grid))
        names = ("x", "")
    axes.scatter(points[:, 0], points[:, 1], s=6, **_DOTS)
    for number, line in enumerate(_lines(grid)):
        label = "decoded, within 3 deviations" if number == 0 else "_"
        axes.plot(line[:, 0], line[:, 1], color=ACCENT, linewidth=1.8 if grid.dim() == 2 else 0.8, label=label)
    axes.set_aspect("equal", adjustable="datalim")
    axes.set(xlabel=names[0], ylabel=names[1], title="The learned manifold")
    axes.legend(**_BELOW)
    return figure


def _in_space(points: Tensor, grid: Tensor) -> Figure:
    """Points (N, 3) and a grid (n, 3) or (n, n, 3) in space."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 5.0), layout="constrained")
    axes = figure.add_subplot(projection="3d")
    axes.scatter(points[:, 0], points[:, 1], points[:, 2], s=9, **_DOTS)
    for number, line in enumerate(_lines(grid)):
        label = "decoded, within 3 deviations" if number == 0 else "_"
        style = {"linewidth": 1.8} if grid.dim() == 2 else {"linewidth": 0.8, "alpha": 0.6}
        axes.plot(line[:, 0], line[:, 1], line[:, 2], color=ACCENT, label=label, **style)
    axes.set(xlabel="x", ylabel="y", zlabel="z")
    axes.locator_params(nbins=5)
    limits = (axes.get_xlim(), axes.get_ylim(), axes.get_zlim())
    axes.set_box_aspect([high - low for low, high in limits], zoom=0.85)
    # From where most is seen of the points: along their narrowest direction, a little aslant, and from above.
    narrow, middle, wide = (axis * (1 if axis[2] >= 0 else -1) for axis in torch.linalg.eigh(points.mT.cov())[1].mT)
    x, y, z = (narrow + 0.3 * middle + 0.3 * wide).tolist()
    axes.view_init(elev=math.degrees(math.atan2(z, math.hypot(x, y))), azim=math.degrees(math.atan2(y, x)))
    axes.set_title("The learned manifold", color=INK)
    axes.legend(**_BELOW)
    return figure


def _lines(grid: Tensor) -> list[Tensor]:
    """The lines of a grid, along both of its axes where it has two."""
    if grid.dim() == 2:
        return [grid]
    places = torch.linspace(0, len(grid) - 1, _LINES + 1).round().long().unique()
    return [*grid[places], *grid[:, places].transpose(0, 1)]


def _mark(axes: Axes, answer: Estimate, shift: float = 0.0) -> None:
    share = answer.diagnostics["unexplained"]
    kept = answer.diagnostics["kept"]
    label = f"{kept:g} kept, {share:.2g} of the variance left"
    axes.axvline(kept + shift, color=INK, linewidth=1, linestyle="--", label=label)


def _plain(x: Tensor) -> Tensor:
    return x.detach().cpu().double()
