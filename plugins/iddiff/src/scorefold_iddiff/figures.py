"""Figures of an estimate: spectra at several points, k against sigma with its plateaus, what should agree with it, and
the histogram over points."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from scorefold.figures import ACCENT, INK, SOFT, WARM, new_figure, plot_estimate
from scorefold.results import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PLATEAUS_SHOWN, _TICKS = 3, 8


def draw(estimate: Estimate) -> Mapping[str, Figure]:
    """The figures by name: estimate (the histogram), spectrum, and sigma and traces where a curve was measured."""
    figures = {"estimate": plot_estimate(estimate), "spectrum": spectra(estimate)}
    if len(estimate.diagnostics["curve"]) > 1:
        figures["sigma"] = dimension_against_noise(estimate)
        figures["traces"] = traces_against_noise(estimate)
    return figures


_TITLES = {
    "projector": ("eigenvalue of the tangent projector", "Eigenvalues"),
    "paper": ("singular value (1: pure noise)", "Singular values of scores"),
}


def spectra(estimate: Estimate) -> Figure:
    """The spectrum at each shown point, and where the value reads it."""
    assert estimate.spectrum is not None
    figure, axes = new_figure()
    ranks = range(1, estimate.spectrum.shape[1] + 1)
    for row in estimate.spectrum:
        axes.plot(ranks, row.numpy(), color=ACCENT, alpha=0.35, linewidth=1)
    count, rule = len(estimate.spectrum), estimate.diagnostics["rule"]
    label, title = _TITLES.get(rule, ("singular value (1: pure noise)", "Singular values of centred scores"))
    if rule == "projector":
        cut, side = estimate.value, "left"
        axes.axhline(0.5, color=SOFT, linewidth=1, linestyle="--")
    else:
        cut, side = estimate.spectrum.shape[1] - estimate.value, "right"
    axes.set(ylabel=label, title=f"{title} at {count} points")
    legend = f"dimension {estimate.value:.4g}; tangent directions lie to the {side}"
    axes.axvline(cut + 0.5, color=WARM, linewidth=1.2, label=legend)
    axes.set_xlabel("rank")
    axes.locator_params(axis="x", integer=True)
    axes.legend(frameon=False, fontsize=9)
    return figure


def dimension_against_noise(estimate: Estimate) -> Figure:
    """k(sigma): what counts as a direction of the data depends on the scale at which one looks. Plateaus are shaded."""
    figure, axes = new_figure()
    rows = estimate.diagnostics["curve"]
    sigma = [row["sigma"] for row in rows]
    axes.fill_between(
        sigma,
        [row["least"] for row in rows],
        [row["greatest"] for row in rows],
        color=SOFT,
        alpha=0.5,
        linewidth=0,
        label="least to greatest",
    )
    for plateau in estimate.diagnostics["plateaus"][:_PLATEAUS_SHOWN]:
        axes.axvspan(plateau["least_sigma"], plateau["greatest_sigma"], color=ACCENT, alpha=0.07, linewidth=0)
        axes.annotate(
            f"{plateau['dimension']:g} at {plateau['share']:.0%}",
            ((plateau["least_sigma"] * plateau["greatest_sigma"]) ** 0.5, plateau["dimension"]),
            xytext=(0, 5),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            color=INK,
        )
    label = f"{estimate.diagnostics['aggregate']} over {estimate.diagnostics['curve_pointwise'].shape[1]} points"
    axes.plot(sigma, [row["value"] for row in rows], color=ACCENT, marker="o", markersize=4, label=label)
    _finish(axes, estimate, sigma)
    axes.locator_params(axis="y", integer=True)
    axes.set(ylabel="dimension", title="The dimension at each scale, its plateaus shaded")
    return figure


def traces_against_noise(estimate: Estimate) -> Figure:
    """FLIPD, the projector's trace and the denoising loss beside the count: all are k where the data are flat at this
    scale and the score is exact. Curvature parts the first two; a coarse score lifts the loss."""
    figure, axes = new_figure()
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
    _finish(axes, estimate, sigma)
    axes.set(ylabel="dimension", title="What should agree on a flat manifold")
    return figure


def _finish(axes: Axes, estimate: Estimate, sigma: list[float]) -> None:
    """The noise axis, the level that was read, and the legend."""
    read = estimate.diagnostics["sigma"]
    axes.axvline(read, color=WARM, linewidth=1.2, label=f"read at {read:.3g}")
    axes.set_xscale("log")
    every = -(-len(sigma) // _TICKS)
    axes.set_xticks(sigma[::every], labels=[f"{level:.2g}" for level in sigma[::every]])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel("noise-to-signal ratio sigma, in units of the data", color=INK)
    axes.legend(frameon=False, fontsize=9)
