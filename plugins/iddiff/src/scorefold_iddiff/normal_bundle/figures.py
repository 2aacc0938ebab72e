"""Figures of an estimate: spectra at several points, k against sigma with its plateaus, what should agree with it, and
the histogram over points."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from scorefold.plotting import ACCENT, INK, SOFT, WARM, new_figure
from scorefold.results import Estimate
from scorefold_iddiff.pointwise.support import CURVATURE
from scorefold_toolkit.captions import ESTIMATE, captioned
from scorefold_toolkit.data.splits import asked_estimates
from scorefold_toolkit.figures import by_label, legend_below, over_points

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_PLATEAUS_SHOWN, _CUTS_SHOWN, _TICKS, _MARKED = 3, 3, 8, 40


@captioned(
    {
        "sigma": (
            "The dimension at each noise level sigma. Directions along which the data vary by less than sigma do "
            "not count; only a plateau is a dimension of the data."
        ),
        "spectrum": (
            "The spectrum of scores at some points. A gap separates the directions of the data from those normal to it."
        ),
        "traces": (
            "Four readings of the dimension that coincide where the data are flat. Where they differ, the data "
            "are curved or the score is inexact."
        ),
        "estimate": ESTIMATE,
    }
)
def normal_bundle_figures(estimate: Estimate) -> Mapping[str, Figure]:
    """The figures by name: sigma and traces where a curve was measured, spectrum, and estimate: the histogram, of a
    value alone, since it is of one scale."""
    figures = {}
    curve = len(estimate.diagnostics["curve"]) > 1
    if curve:
        figures["sigma"] = dimension_against_noise(estimate)
    figures["spectrum"] = spectra(estimate)
    if curve:
        figures["traces"] = traces_against_noise(estimate)
    if estimate.value is not None:
        figures.update(over_points(estimate))
    return {**figures, **by_label(estimate)}


_TITLES = {
    "projector": ("eigenvalue of the tangent projector", "Eigenvalues"),
    "paper": ("singular value (1: pure noise)", "Singular values of scores"),
}


def spectra(estimate: Estimate, ax: Axes | None = None) -> Figure:
    """The mean spectrum with the range over the shown points, and the gap at which each dimension is read: a line for
    each dimension where these are few, else one for the value and a band over all."""
    assert estimate.spectrum is not None
    figure, axes = new_figure(ax=ax)
    ranks = range(1, estimate.spectrum.shape[1] + 1)
    marker = "." if len(ranks) <= _MARKED else ""
    rows = estimate.spectrum.double()
    axes.fill_between(ranks, rows.amin(0).numpy(), rows.amax(0).numpy(), color=ACCENT, alpha=0.2, linewidth=0)
    axes.plot(ranks, rows.mean(0).numpy(), color=ACCENT, linewidth=1.6, marker=marker)
    count, rule = len(estimate.spectrum), estimate.diagnostics["rule"]
    label, title = _TITLES.get(rule, ("singular value (1: pure noise)", "Singular values of centred scores"))
    side, ambient = ("left" if rule == "projector" else "right"), estimate.spectrum.shape[1]
    if rule == "projector":
        axes.axhline(0.5, color=SOFT, linewidth=1, linestyle="--")
    axes.set(ylabel=label, title=f"{title} at {count} points")
    read = Counter(asked_estimates(estimate)[:count].tolist())

    def cut(dimension: float) -> float:
        return (dimension if side == "left" else ambient - dimension) + 0.5

    if len(read) <= _CUTS_SHOWN:
        for dimension, style in zip(sorted(read), ("--", ":", "-."), strict=False):
            mark = f"dimension {dimension:g} at {read[dimension]} points"
            axes.axvline(cut(dimension), color=WARM, linewidth=1.2, linestyle=style, label=mark, zorder=1)
    else:
        ends = f"dimensions {min(read):g} to {max(read):g} at these points"
        axes.axvspan(*sorted((cut(min(read)), cut(max(read)))), color=WARM, alpha=0.1, linewidth=0, label=ends)
        if estimate.value is not None:
            axes.axvline(cut(estimate.value), color=WARM, linewidth=1.2, label=f"dimension {estimate.value:.4g}")
    axes.set_xlabel(f"rank; tangent directions lie to the {side} of the gap")
    axes.locator_params(axis="x", integer=True)
    legend_below(axes)
    return figure


def dimension_against_noise(estimate: Estimate, ax: Axes | None = None) -> Figure:
    """k(sigma): what counts as a direction of the data depends on the scale at which one looks. Plateaus are shaded;
    at noise below half the distance of neighbours a score may have memorised single points."""
    figure, axes = new_figure(ax=ax)
    rows = estimate.diagnostics["curve"]
    sigma = [row["sigma"] for row in rows]
    axes.fill_between(
        sigma,
        [row["least"] for row in rows],
        [row["greatest"] for row in rows],
        color=SOFT,
        alpha=0.5,
        linewidth=0,
        label="smallest to largest",
    )
    for plateau in estimate.diagnostics["plateaus"][:_PLATEAUS_SHOWN]:
        axes.axvspan(plateau["least_sigma"], plateau["greatest_sigma"], color=ACCENT, alpha=0.07, linewidth=0)
        axes.annotate(
            f"{plateau['dimension']:g} at {plateau['share']:.0%} of the points",
            (plateau["least_sigma"], plateau["dimension"]),
            xytext=(4, 5),
            textcoords="offset points",
            fontsize=8,
            color=INK,
            bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "alpha": 0.7, "linewidth": 0},
            zorder=4,
        )
    label = f"{estimate.diagnostics['aggregate']} over {estimate.diagnostics['curve_pointwise'].shape[1]} points"
    axes.plot(sigma, [row["value"] for row in rows], color=ACCENT, marker="o", markersize=4, label=label)
    nearest = estimate.diagnostics["survey"]["nearest"] / 2
    if sigma[0] < nearest < sigma[-1]:
        axes.axvline(nearest, color=INK, linewidth=1, linestyle=":", label="half the distance of neighbours")
    _finish(axes, estimate, sigma)
    axes.locator_params(axis="y", integer=True)
    shaded = " (shaded: plateaus)" if estimate.diagnostics["plateaus"] else ": no plateau"
    axes.set(ylabel="dimension", title=f"Dimension against scale{shaded}")
    return figure


def traces_against_noise(estimate: Estimate, ax: Axes | None = None) -> Figure:
    """FLIPD, the projector's trace and the denoising loss beside the count: all are k where the data are flat at this
    scale and the score is exact. Curvature parts the first two, and levels where it does are shaded; a coarse score
    lifts the loss."""
    figure, axes = new_figure(ax=ax)
    rows = estimate.diagnostics["curve"]
    sigma = [row["sigma"] for row in rows]
    lines = {
        "value": ("dimension", ACCENT, "-"),
        "trace": ("trace of the projector", INK, "--"),
        "flipd": ("FLIPD", WARM, "--"),
        "denoising_loss": ("denoising loss", SOFT, "-"),
    }
    for name, (label, colour, style) in lines.items():
        if all(row[name] is not None for row in rows):
            axes.plot(sigma, [row[name] for row in rows], color=colour, linestyle=style, marker=".", label=label)
    label = f"FLIPD and trace differ by over {CURVATURE:.0%}"
    for start, end in _bent(rows):
        axes.axvspan(start, end, color=SOFT, alpha=0.25, linewidth=0, label=label)
        label = "_"
    _finish(axes, estimate, sigma)
    axes.set(ylabel="dimension", title="Consistency check: four readings that coincide on flat data")
    return figure


def _bent(rows: list[dict[str, Any]]) -> list[tuple[float, float]]:
    """Stretches of levels at which FLIPD and the trace differ by more than ``CURVATURE``, each reaching half way to its
    neighbours in log sigma."""
    edges = [rows[0]["sigma"]]
    edges += [(row["sigma"] * after["sigma"]) ** 0.5 for row, after in pairwise(rows)]
    edges.append(rows[-1]["sigma"])
    found: list[tuple[float, float]] = []
    for number, row in enumerate(rows):
        if row["curvature"] > CURVATURE:
            start = found.pop()[0] if found and found[-1][1] == edges[number] else edges[number]
            found.append((start, edges[number + 1]))
    return found


def _finish(axes: Axes, estimate: Estimate, sigma: list[float]) -> None:
    """The noise axis, the level that was read, and the legend."""
    from matplotlib.ticker import LogLocator

    read = estimate.diagnostics["sigma"]
    axes.axvline(read, color=WARM, linewidth=1.2, label=f"read at {read:.3g}")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=_TICKS + 4))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.set_ylim(bottom=0, top=1.08 * axes.get_ylim()[1])
    axes.set_xlabel("scale: the deviation sigma of the noise, in units of the data", color=INK)
    legend_below(axes)
