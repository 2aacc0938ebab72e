"""Figures of an estimate: spectra at several points, k against sigma, and the histogram over points."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from scorefold.figures import ACCENT, INK, SOFT, WARM, new_figure, plot_estimate
from scorefold.results import Estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(estimate: Estimate) -> Mapping[str, Figure]:
    """The figures by name: estimate (the histogram), spectrum, and sigma where a curve was measured."""
    figures = {"estimate": plot_estimate(estimate), "spectrum": spectra(estimate)}
    if len(estimate.diagnostics["curve"]) > 1:
        figures["sigma"] = dimension_against_noise(estimate)
    return figures


def spectra(estimate: Estimate) -> Figure:
    """The spectrum at each shown point, and where the value reads it."""
    assert estimate.spectrum is not None
    figure, axes = new_figure()
    ranks = range(1, estimate.spectrum.shape[1] + 1)
    for row in estimate.spectrum:
        axes.plot(ranks, row.numpy(), color=ACCENT, alpha=0.35, linewidth=1)
    count = len(estimate.spectrum)
    if estimate.diagnostics["rule"] == "projector":
        cut, side = estimate.value, "tangent directions lie to the left"
        axes.axhline(0.5, color=SOFT, linewidth=1, linestyle="--")
        axes.set(ylabel="eigenvalue of the tangent projector", title=f"Eigenvalues at {count} points")
    else:
        cut, side = estimate.spectrum.shape[1] - estimate.value, "tangent directions lie to the right"
        axes.set(ylabel="singular value (1: pure noise)", title=f"Singular values of centred scores at {count} points")
    axes.axvline(cut + 0.5, color=WARM, linewidth=1.2, label=f"dimension {estimate.value:.4g}; {side}")
    axes.set_xlabel("rank")
    axes.locator_params(axis="x", integer=True)
    axes.legend(frameon=False, fontsize=9)
    return figure


def dimension_against_noise(estimate: Estimate) -> Figure:
    """k(sigma): what counts as a direction of the data depends on the scale at which one looks."""
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
    label = f"{estimate.diagnostics['aggregate']} over {estimate.diagnostics['curve_pointwise'].shape[1]} points"
    axes.plot(sigma, [row["value"] for row in rows], color=ACCENT, marker="o", markersize=4, label=label)
    axes.axvline(
        estimate.diagnostics["sigma"], color=WARM, linewidth=1.2, label=f"read at {estimate.diagnostics['sigma']:.3g}"
    )
    axes.set_xscale("log")
    axes.set_xticks(sigma, labels=[f"{level:.2g}" for level in sigma])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.locator_params(axis="y", integer=True)
    axes.set_xlabel("noise-to-signal ratio sigma, in units of the data", color=INK)
    axes.set(ylabel="dimension", title="The dimension at each scale")
    axes.legend(frameon=False, fontsize=9)
    return figure
