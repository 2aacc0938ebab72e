"""Common parts of estimators with a number per point: levels, curves over them, and the answer over all points.

The slope of log-densities against the logarithm of the noise: LIDL (Tempczyk et al. 2022, arXiv 2206.14882).

The density rho of data with noise of deviation delta behaves on a k-manifold in R^D as log rho = (k - D) log delta +
O(1), so k = D + slope. The densities come from a model a level (``lidl``), or from a single score: d log rho / d log
delta is FLIPD - D at every level (``flipd``), so integrating it over the levels gives the same curve up to a constant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold.plotting import ACCENT, INK, SOFT, WARM, new_figure
from scorefold.random import draw_normal, draw_signs
from scorefold.results import Estimate
from scorefold.seeds import derive_generator
from scorefold_iddiff.pointwise import score_warnings as warn
from scorefold_iddiff.pointwise.plateaus import memorised_levels
from scorefold_iddiff.pointwise.probe import ProbedPoints, ScoreProbe
from scorefold_iddiff.pointwise.support import DataSurvey, survey_data
from scorefold_toolkit.captions import ESTIMATE, SCALE, captioned
from scorefold_toolkit.data.splits import asked_estimates
from scorefold_toolkit.figures import by_label, legend_below, over_points
from scorefold_toolkit.numerics import AGGREGATES, bootstrap_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_SURVEYED = 16
"""Points whose neighbours are looked for."""


class PointwiseConfig(Protocol):
    """The settings that they all have."""

    @property
    def aggregate(self) -> str: ...
    @property
    def level(self) -> float: ...


def pointwise_estimate(
    values: Tensor,
    points: ProbedPoints,
    config: PointwiseConfig,
    generator: torch.Generator,
    *,
    note: str,
    warnings: Sequence[str] = (),
    interval: tuple[float, float] | None = None,
    **diagnostics: Any,
) -> Estimate:
    """The estimate from dimensions (N,) at the points; the interval is a bootstrap over points unless one is given. A
    number that no dimension can be is withheld, and stands in the headline.

    ``warnings`` come after those about the value itself.
    """
    values = values.double().cpu()
    reduce = AGGREGATES[config.aggregate]
    value = float(reduce(values))
    interval = interval or bootstrap_interval(values, reduce, config.level, generator)
    found = [*warn.of_values(value, interval, points.ambient), *warnings]
    withheld = warn.impossible(value, points.ambient)
    return Estimate(
        quantity="intrinsic dimension",
        value=None if withheld else value,
        headline=f"is withheld: it is read as {value:.3g}, which none can be" if withheld else "",
        # All coordinates of the data are no estimate: the answer is only that nothing thinner shows.
        interval=None if withheld or warn.fills(value, interval, points.ambient) else interval,
        covers="points",
        level=config.level,
        pointwise=values,
        diagnostics={
            "note": note,
            "scale": f"noise of sigma {diagnostics['sigma']:.2g}" if "sigma" in diagnostics else "",
            "warnings": found,
            **diagnostics,
            "aggregate": config.aggregate,
            "index": points.index,
        },
    )


def look_at(dataset: Dataset, points: ProbedPoints, seed: int) -> DataSurvey:
    """A survey of the data, with the neighbours of some of the points. Raises ``DataError`` as ``survey``."""
    few = points.part(0, _SURVEYED)
    return survey_data(dataset, few.x, few.index, derive_generator(seed, "survey"))


def memorisation_warnings(levels: Sequence[float], curve: Sequence[Tensor], look: DataSurvey) -> list[str]:
    """Warnings about a score whose dimensions (M,) at some points fall at levels below the distance of neighbours."""
    return memorised_levels(levels, torch.stack(list(curve)), look.nearest)[1]


def sweep_levels(probe: ScoreProbe, sigma: float, sweep: Sequence[float]) -> list[float]:
    """Multiples of sigma in the range of the process, increasing, sigma among them."""
    low, high = probe.range()
    return sorted({factor * sigma for factor in sweep if factor != 1 and low <= factor * sigma <= high} | {sigma})


def spaced_levels(low: float, high: float, count: int) -> list[float]:
    """``count`` levels from low to high, log-spaced."""
    return torch.logspace(0, 1, count, base=high / low, dtype=torch.float64).mul(low).tolist()


def curve_rows(levels: Sequence[float], values: Sequence[Tensor], aggregate: str) -> list[dict[str, float]]:
    """The dimension against sigma over some points: the aggregate with the least and the greatest."""
    reduce = AGGREGATES[aggregate]
    return [
        {"sigma": level, "value": float(reduce(found)), "least": float(found.min()), "greatest": float(found.max())}
        for level, found in zip(levels, values, strict=True)
    ]


def scale_note(sigma: float, curve: Sequence[dict[str, float]], moved: str | None) -> str:
    """Scale of the value: a dimension is measured at a scale, and may differ at other scales."""
    reason = f" ({moved})" if moved else ""
    text = f"read at sigma {sigma:.3g}{reason}: directions along which the data vary by less do not count"
    if len(curve) < 2:
        return text
    values = [row["value"] for row in curve]
    ends = f"sigma {curve[0]['sigma']:.2g} to {curve[-1]['sigma']:.2g}"
    least, most = min(values), max(values)
    if least == most:
        return f"{text}; the same from {ends}"
    first, last = (most, least) if (values[0], values[-1]) == (most, least) else (least, most)
    return f"{text}; {first:.3g} to {last:.3g} over {ends}"


def draws_at(seed: int, points: ProbedPoints, count: int, distribution: str = "gaussian") -> Tensor:
    """Random vectors (N, count, D), normal or of random signs, that hang on each point's place in its data alone."""
    draw = draw_signs if distribution == "rademacher" else draw_normal
    shape = (count, points.ambient)
    generators = (derive_generator(seed, number, device=points.x.device) for number in points.index.tolist())
    return torch.stack([draw(shape, generator=generator, like=points.x) for generator in generators])


def slope_in_log_noise(log_density: Tensor, levels: list[float]) -> tuple[Tensor, Tensor]:
    """Least-squares slopes of log-densities (L, N) against log levels, (N,), and the root-mean-square residuals (N,).

    In float64. L is at least 2.
    """
    noise = torch.tensor(levels, dtype=torch.float64).log()
    density = log_density.double().cpu()
    centred = noise - noise.mean()
    slope = centred @ (density - density.mean(0)) / centred.square().sum()
    residual = density - density.mean(0) - centred[:, None] * slope
    return slope, residual.square().mean(0).sqrt()


def integrate_over_log_noise(rates: Tensor, levels: list[float]) -> Tensor:
    """Log-densities (L, N) from their rates d log rho / d log delta (L, N), up to a constant, by trapezoids."""
    noise = torch.tensor(levels, dtype=torch.float64).log()
    rises = torch.cumulative_trapezoid(rates.double().cpu(), noise, dim=0)
    return torch.cat([torch.zeros_like(rises[:1]), rises])


_LABELS = {
    "level": "read at {:.3g}",
    "knee": "knee of the middle point, {:.3g}",
}


@captioned(
    {
        "estimate": ESTIMATE,
        "sigma": SCALE,
    }
)
def flipd_figures(estimate: Estimate) -> Mapping[str, Figure]:
    """The histogram, and FLIPD against sigma with the level or the knee at which it is read."""
    return _figures(estimate, "FLIPD", _LABELS.get(estimate.diagnostics["mode"], ""))


@captioned(
    {
        "estimate": ESTIMATE,
        "sigma": SCALE,
    }
)
def denoising_loss_figures(estimate: Estimate) -> Mapping[str, Figure]:
    """The histogram, and the denoising loss against sigma."""
    return _figures(estimate, "denoising loss", _LABELS["level"])


@captioned(
    {
        "estimate": ESTIMATE,
        "sigma": SCALE,
    }
)
def lanczos_figures(estimate: Estimate) -> Mapping[str, Figure]:
    """The histogram, and the count against sigma where it was swept."""
    return _figures(estimate, "near-zero eigenvalues", _LABELS["level"])


@captioned(
    {
        "stages": "The first, coarse reading of each point, and the reading that was settled on.",
    }
)
def cascade_figures(estimate: Estimate) -> Mapping[str, Figure]:
    """The histogram, the denoising loss against sigma, and what each stage said of the points."""
    return {**denoising_loss_figures(estimate), "stages": stages(estimate)}


@captioned(
    {
        "estimate": ESTIMATE,
        "densities": "Log-densities of points under flows at several noise levels. Their slope gives the dimension.",
    }
)
def lidl_figures(estimate: Estimate) -> Mapping[str, Figure]:
    """The histogram, and the log-densities whose slope was taken."""
    return {**over_points(estimate), "densities": densities_against_noise(estimate)}


def _figures(estimate: Estimate, name: str, label: str) -> Mapping[str, Figure]:
    figures = dict(over_points(estimate))
    if len(estimate.diagnostics["curve"]) > 1:
        figures["sigma"] = curve_against_noise(estimate, name, label)
    return {**figures, **by_label(estimate)}


def curve_against_noise(estimate: Estimate, name: str, label: str, ax: Axes | None = None) -> Figure:
    """The curve over sigma: the aggregate with the points' range, the value, and the level that it is read at."""
    figure, axes = new_figure(ax=ax)
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


def stages(estimate: Estimate, ax: Axes | None = None) -> Figure:
    """The coarse dimension of each point with its interval, behind the one that was settled on, coloured by stage."""
    figure, axes = new_figure(ax=ax)
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


def densities_against_noise(estimate: Estimate, ax: Axes | None = None) -> Figure:
    """The log-density at each point, less its mean over levels, against the noise that the flows were trained with."""
    figure, axes = new_figure(ax=ax)
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
