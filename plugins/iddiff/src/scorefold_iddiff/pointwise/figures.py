"""Figures of estimates with a real number at each point: the histogram, and the curve against the noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from scorefold.plotting import ACCENT, INK, SOFT, WARM, new_figure
from scorefold.results import Estimate
from scorefold_toolkit.data.splits import asked_estimates
from scorefold_toolkit.figures import by_label, legend_below

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_LABELS = {
    "level": "read at {:.3g}",
    "knee": "knee of the middle point, {:.3g}",
}


def flipd_figures(estimate: Estimate) -> Mapping[str, Figure]:
    """The histogram, and FLIPD against sigma with the level or the knee at which it is read."""
    return _figures(estimate, "FLIPD", _LABELS.get(estimate.diagnostics["mode"], ""))


def denoising_loss_figures(estimate: Estimate) -> Mapping[str, Figure]:
    """The histogram, and the denoising loss against sigma."""
    return _figures(estimate, "denoising loss", _LABELS["level"])


def lanczos_figures(estimate: Estimate) -> Mapping[str, Figure]:
    """The histogram, and the count against sigma where it was swept."""
    return _figures(estimate, "near-zero eigenvalues", _LABELS["level"])


def cascade_figures(estimate: Estimate) -> Mapping[str, Figure]:
    """The histogram, the denoising loss against sigma, and what each stage said of the points."""
    return {**denoising_loss_figures(estimate), "stages": stages(estimate)}


def lidl_figures(estimate: Estimate) -> Mapping[str, Figure]:
    """The histogram, and the log-densities whose slope was taken."""
    return {"estimate": estimate.plot(), "densities": densities_against_noise(estimate)}


def _figures(estimate: Estimate, name: str, label: str) -> Mapping[str, Figure]:
    figures = {"estimate": estimate.plot()}
    if len(estimate.diagnostics["curve"]) > 1:
        figures["sigma"] = curve_against_noise(estimate, name, label)
    return {**figures, **by_label(estimate)}


def curve_against_noise(estimate: Estimate, name: str, label: str) -> Figure:
    """The curve over sigma: the aggregate with the points' range, the value, and the level that it is read at."""
    figure, axes = new_figure()
    said = estimate.diagnostics
    rows = said["curve"]
    sigma = [row["sigma"] for row in rows]
    least, greatest = ([row[end] for row in rows] for end in ("least", "greatest"))
    axes.fill_between(sigma, least, greatest, color=SOFT, alpha=0.5, linewidth=0, label="smallest to largest")
    values = [row["value"] for row in rows]
    axes.plot(sigma, values, color=ACCENT, marker="o", markersize=4, label=f"{said['aggregate']} over points")
    if estimate.value is not None:
        axes.axhline(estimate.value, color=INK, linewidth=1, linestyle=":", label=f"answer {estimate.value:.4g}")
    if "sigma" in said:
        axes.axvline(said["sigma"], color=WARM, linewidth=1.2, label=label.format(said["sigma"]))
    axes.set_xscale("log")
    axes.set_ylim(bottom=min(0.0, *least), top=1.08 * max(*greatest, estimate.value or 0.0, 1.0))
    axes.set(
        xlabel="scale: the deviation sigma of the noise, in units of the data",
        ylabel=name,
        title="Dimension against scale",
    )
    legend_below(axes)
    return figure


def stages(estimate: Estimate) -> Figure:
    """The coarse dimension of each point with its interval, behind the one that was settled on, coloured by stage."""
    figure, axes = new_figure()
    said = estimate.diagnostics
    coarse, half_width, stage = said["coarse"], said["coarse_half_width"], said["stage"]
    settled = asked_estimates(estimate)
    order = (settled + coarse / (1 + coarse.abs().max())).argsort()
    places = range(len(order))
    label = "denoising loss, with its interval"
    axes.errorbar(
        places, coarse[order], yerr=half_width[order], color=SOFT, fmt=".", markersize=3, linewidth=1, label=label
    )
    for number, (name, count) in enumerate(said["settled"].items()):
        own = [place for place in places if int(stage[order[place]]) == number]
        if own:
            values = settled[order[own]]
            label = f"settled by the {name} ({count})"
            axes.scatter(own, values, color=(ACCENT, WARM)[number], s=16, zorder=3, label=label)
    calls = said["network_calls"] / len(order)
    axes.set_ylim(bottom=0)
    axes.set(
        xlabel="points, by dimension", ylabel="dimension", title=f"Stages: {calls:.0f} calls of the score per point"
    )
    legend_below(axes)
    return figure


def densities_against_noise(estimate: Estimate) -> Figure:
    """The log-density at each point, less its mean over levels, against the noise that the flows were trained with."""
    figure, axes = new_figure()
    said = estimate.diagnostics
    density = said["log_density"][:, :50]
    centred = (density - density.mean(0)).numpy()
    axes.plot(said["levels"], centred, color=SOFT, linewidth=1)
    axes.plot(said["levels"], centred.mean(1), color=ACCENT, marker="o", markersize=4, label="mean over points")
    axes.set_xscale("log")
    axes.set(
        xlabel="deviation of the noise, in units of the data",
        ylabel="log-density less its mean (nats)",
        title=f"The slope is the dimension less {said['ambient']}",
    )
    axes.legend(frameon=False, fontsize=9)
    return figure
