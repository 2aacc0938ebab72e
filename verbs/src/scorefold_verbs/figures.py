"""Figures of answers and of latent codes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from scorefold.plotting import ACCENT, INK, SOFT, WARM, empty_figure, new_figure, tidy
from scorefold.results import Estimate
from scorefold_toolkit.captions import ESTIMATE, captioned
from scorefold_toolkit.figures import (
    as_images,
    by_label,
    curves,
    labelled_grid,
    legend_below,
    over_points,
    own_limits,
    plane,
    series,
    strips,
)
from scorefold_toolkit.nn.reshape import is_signal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from scorefold_verbs.assess import Assessed
    from scorefold_verbs.latents.diagnose import LatentsShown
    from scorefold_verbs.latents.reconstruct import Reconstructed
    from scorefold_verbs.latents.traverse import EventRows
    from scorefold_verbs.measures import Calibration


_DRAWS, _GROUPS = 5, 8
_GAP = 1


@captioned(
    {
        "draws": "Held-out points next to samples of the model. With a condition, std is the spread of the samples.",
        "calibration": (
            "Left: how often intervals of the samples contain the truth, on the diagonal if they are right. "
            "Right: the rank of the truth among the samples, flat if they are right."
        ),
    }
)
def assessment(shown: Assessed) -> Mapping[str, Figure]:
    """Held-out points beside their draws (images in rows, signals as curves, vectors in a plane), and for conditional
    models the coverage and the places of the truths."""
    figures = {"draws": _signals(shown) or _images(shown) or _points(shown)}
    if shown.calibration is not None and shown.draws.shape[1] > 1:
        figures["calibration"] = _calibration(shown.calibration)
    return figures


def _signals(shown: Assessed) -> Figure | None:
    """A panel for each held-out signal, with its draws in colours and the truth in black."""
    if not is_signal(shown.truth.shape[1:]):
        return None
    if shown.calibration is None:
        return curves(shown.draws[:, :1], "Draws (colours) and held-out signals (black)", truth=shown.truth)
    seen = shown.condition if shown.condition is not None and shown.condition.shape == shown.truth.shape else None
    title = "Each panel: a held-out signal (black) and its draws"
    return curves(shown.draws[:, :_DRAWS], title, truth=shown.truth, observed=seen, panels=6)


def _images(shown: Assessed) -> Figure | None:
    """Condition, truth, draws, their mean and their standard deviation, a row for each held-out point."""
    truth = as_images(shown.truth)
    if truth is None:
        return None
    each = shown.draws[:, :_DRAWS]
    spread = shown.draws.shape[1] > 1 and shown.calibration is not None
    columns: list[tuple[str, Tensor, tuple[float, float]]] = []
    bounds = (shown.units.low, shown.units.high)
    if shown.condition is not None:
        seen = as_images(shown.condition)
        assert seen is not None
        wide = functional.interpolate(seen, truth.shape[2:], mode="nearest")
        columns.append(("condition", wide, own_limits(seen, bounds)))
    columns.append(("truth" if shown.calibration is not None else "held out", truth, bounds))
    for number in range(each.shape[1]):
        drawn = as_images(each[:, number])
        assert drawn is not None
        columns.append((f"draw {number + 1}", drawn, bounds))
    if spread:
        mean = as_images(shown.draws.mean(1))
        assert mean is not None
        columns.append(("mean", mean, bounds))
    return strips(columns, shown.draws.float().std(1).reshape(len(truth), -1, *truth.shape[2:]) if spread else None)


def _points(shown: Assessed) -> Figure:
    """Draws and truths in one plane: with conditions a colour for each, the truth ringed; else draws over truths."""
    figure, axes = new_figure(5.4, 4.6)
    groups = shown.draws[:_GROUPS, :500].flatten(2) if shown.calibration is not None else shown.draws.flatten(2)
    truth = shown.truth[: len(groups)].flatten(1)
    each = groups.shape[1]
    if truth.shape[1] == 1:  # a column of numbers for each held-out point
        position = torch.arange(len(truth), dtype=torch.float64)
        all_points = torch.stack([position[:, None].expand(-1, each).flatten(), groups.flatten().double()], 1)
        points, truths = all_points.unflatten(0, (len(truth), each)), torch.stack([position, truth[:, 0].double()], 1)
        names = ("held-out point", "x")
    else:
        both, names = plane(torch.cat([truth, groups.flatten(0, 1)]))
        truths, points = both[: len(truth)], both[len(truth) :].unflatten(0, (len(truth), each))
        axes.set_aspect("equal", adjustable="datalim")
    if shown.calibration is None:
        flat = points.flatten(0, 1)
        axes.scatter(truths[:, 0], truths[:, 1], s=14, color=WARM, linewidths=0, label="held out", zorder=3)
        axes.scatter(flat[:, 0], flat[:, 1], s=6, color=ACCENT, alpha=0.4, linewidths=0, label="draws")
    else:
        for number, (group, one) in enumerate(zip(points, truths, strict=True)):
            label = ("draws", "truth") if number == 0 else (None, None)
            colour, marker = (series(number)[key] for key in ("color", "marker"))
            near = {"s": 10, "alpha": 0.5, "linewidths": 0, "marker": marker}
            axes.scatter(group[:, 0], group[:, 1], color=[colour], label=label[0], **near)
            axes.plot(*one.tolist(), marker, color=colour, markeredgecolor=INK, markersize=8, label=label[1])
        axes.set_title("Each colour and marker: one condition", fontsize=10, color=INK)
    axes.set(xlabel=names[0], ylabel=names[1])
    axes.legend(frameon=False, fontsize=9)
    return figure


def _calibration(calibration: Calibration) -> Figure:
    """The coverage of central intervals against their mass, and the histogram of the truths' places."""
    figure = empty_figure(7.2, 3.2)
    left, right = figure.subplots(1, 2)
    for axes in (left, right):
        tidy(axes)
    levels = torch.linspace(0.05, 0.95, 19).tolist()
    shares = torch.tensor([calibration.shares(level) for level in levels], dtype=torch.float64)
    left.plot([0, 1], [0, 1], color=WARM, linewidth=1, label="calibrated")
    left.fill_between(levels, shares[:, 0] - 2 * shares[:, 1], shares[:, 0] + 2 * shares[:, 1], color=ACCENT, alpha=0.2)
    left.plot(levels, shares[:, 0], color=ACCENT, label="these draws, ± 2 s.e.")
    left.set(xlabel="mass of the central interval", ylabel="truths inside", xlim=(0, 1), ylim=(0, 1))
    left.set_aspect("equal")
    left.legend(frameon=False, fontsize=8)
    places = calibration.places[~calibration.places.isnan()].double()
    right.hist(places.numpy(), bins=20, range=(0, 1), density=True, color=SOFT)
    right.axhline(1, color=WARM, linewidth=1)
    right.set(xlabel="place of the truth among the draws", ylabel="density", xlim=(0, 1))
    right.set_title(
        f"{len(calibration.places)} truths, {calibration.places.shape[1]} coordinates", fontsize=9, color=INK
    )
    return figure


@captioned(
    {
        "estimate": ESTIMATE,
        "spectrum": "The spectrum at each point, largest first. A gap separates directions of the data from noise.",
    }
)
def estimate_figures(answer: Estimate) -> Mapping[str, Figure]:
    """The estimate over points, where it has several values; spectra and answers for labels where there are any."""
    figures = dict(over_points(answer))
    spectra = torch.empty(0, 0) if answer.spectrum is None else answer.spectrum[:20].detach().cpu().double()
    finite = spectra[spectra.isfinite()]
    if len(finite):
        figure, axes = new_figure()
        for row in spectra:
            axes.plot(range(1, len(row) + 1), row.numpy(), "o-", color=ACCENT, alpha=0.4, linewidth=1, markersize=3)
        axes.set(xlabel="rank", ylabel="spectrum", title=_at_points(len(spectra)))
        axes.set_ylim(bottom=min(0.0, float(finite.min())))
        axes.locator_params(axis="x", integer=True)
        figures["spectrum"] = figure
    return {**figures, **by_label(answer)}


def _at_points(count: int) -> str:
    return "Spectrum at one point" if count == 1 else f"Spectra at {count} points"


@captioned({"distances": "The distance of the geometry between each two of some test points."})
def geometry(distances: Any) -> Mapping[str, Figure]:
    """The matrix of distances between some points; nothing where no data were given."""
    if not isinstance(distances, Tensor):
        return {}
    figure, axes = new_figure(5.0, 4.2)
    picture = axes.imshow(distances.numpy(), cmap="viridis")
    figure.colorbar(picture, ax=axes, label="distance")
    axes.set(title="Distances between test points", xlabel="point", ylabel="point")
    return {"distances": figure}


@captioned({"log-likelihood": "Log-likelihoods of held-out points. The model finds points far to the left unlikely."})
def likelihood(values: Mapping[str, Tensor]) -> Mapping[str, Figure]:
    """The histogram of log-likelihoods over points."""
    log_prob = values["log_prob"]
    log_prob = log_prob[log_prob.isfinite()]
    figure, axes = new_figure()
    axes.hist(log_prob.numpy(), bins=40, color=SOFT)
    axes.axvline(float(log_prob.mean()), color=ACCENT, label=f"mean {float(log_prob.mean()):.2f}")
    axes.set(xlabel="log-likelihood (nats)", ylabel="points")
    axes.legend(frameon=False, fontsize=9)
    return {"log-likelihood": figure}


@captioned(
    {
        "outliers": "Scores of usual points, and of unusual ones if there are any. A higher score is less usual.",
        "costliest": "The images that cost the most, each with the end of its name and its cost in bits a dimension.",
    }
)
def outlier_figures(scores: Mapping[str, Mapping[str, Tensor]]) -> Mapping[str, Figure]:
    """The histograms of each outlier score: over usual points, and over unusual ones where there are any.

    What lies beyond three times the range of the usual ones stands in the last bar, so that these are seen. Usual
    points of density 0 are left out. A line
    stands at the ``limit`` of a score, above which a point is unlike the data. Images of the ``costliest`` points, by
    name, are a figure of their own.
    """
    usual, unusual, limits = scores["usual"], scores.get("unusual"), scores.get("limit", {})
    figure = empty_figure(3.4 * len(usual) + 0.6, 3.2)
    places = figure.subplots(1, len(usual), squeeze=False)[0]
    for axes, (name, values) in zip(places, usual.items(), strict=True):
        tidy(axes)
        values = values[values < math.inf]
        if not len(values):
            axes.set(xlabel=f"{name}: density 0 at all points", yticks=[])
            continue
        both = values if unusual is None else torch.cat((values, unusual[name]))
        limit = float(3 * values.max() - 2 * values.min())
        low = float(both.min())
        high = min(float(both.max()), limit)
        high = high if high > low else low + 1.0  # equal costs
        edges = torch.linspace(low, high, 41, dtype=torch.float64).tolist()
        axes.hist(values.double().numpy(), bins=edges, color=SOFT, label="usual", density=True)
        if unusual is not None:
            shown = unusual[name].double().clamp(max=high).numpy()
            axes.hist(shown, bins=edges, color=WARM, alpha=0.6, label="unusual", density=True)
        units = "bits" if name == "condition cost" else "bits a dimension"
        beyond = f"; the last bar: {limit:.3g} and more" if float(both.max()) > limit else ""
        if name in limits:
            axes.axvline(float(limits[name]), color=INK, linestyle=":", linewidth=1, label="above: unlike the data")
        axes.set(xlabel=f"{name} ({units}{beyond})", yticks=[])
    places[0].set_ylabel("density")
    if places[0].get_legend_handles_labels()[1] and (limits or unusual is not None):
        legend_below(places[0])
    costliest = scores.get("costliest")
    images = as_images(torch.stack(list(costliest.values())).cpu()) if costliest else None
    if costliest is None or images is None:
        return {"outliers": figure}
    return {"outliers": figure, "costliest": labelled_grid(images[None], [""], list(costliest), "", (None, None))}


_ROWS = 12
_BARS = 60
_CLOUD = 2000


@captioned(
    {
        "reconstructions": "Events and what the model decodes from their codes.",
        "draws": "The error of a mean of several draws. The first half are on the orange line if they come from the "
        "right distribution. The second half have the opposite noise, which brings the mean nearer.",
    }
)
def reconstructions(shown: Reconstructed) -> Mapping[str, Figure]:
    """Originals beside their reconstructions, draws and the mean of all; the distance against the draws' number."""
    figures = {"reconstructions": _image_pairs(shown) or _point_pairs(shown)}
    if shown.mean is not None:
        figures["draws"] = _by_draws(shown.by_draws)
    return figures


def _image_pairs(shown: Reconstructed) -> Figure | None:
    """A row of originals, a row for each draw that is shown, and a row of the means of all draws."""
    rows = [("original", shown.originals)]
    for number, draw in enumerate(shown.draws, 1):
        rows.append((f"draw {number}" if shown.mean is not None else "decoded", draw))
    if shown.mean is not None:
        rows.append((f"mean of {len(shown.by_draws)}", shown.mean))
    if shown.beside is not None:
        rows.append(("other model", shown.beside))
    pictures = [as_images(x) for _, x in rows]
    if any(images is None for images in pictures):
        return None
    grid = torch.stack([images for images in pictures if images is not None])
    return labelled_grid(grid, [name for name, _ in rows], [], "", shown.bounds)


def _point_pairs(shown: Reconstructed) -> Figure:
    """Points and what comes back of them in one plane, joined by lines."""
    figure, axes = new_figure(5.4, 4.6)
    back = shown.draws[0] if shown.mean is None else shown.mean
    count = len(shown.originals)
    points, (across, up) = _in_plane(torch.cat([shown.originals, back]))
    for number in range(count):
        axes.plot(*points[[number, count + number]].T, color=SOFT, linewidth=1, zorder=1)
    axes.scatter(points[:count, 0], points[:count, 1], s=26, color=WARM, linewidths=0, label="original", zorder=2)
    what = "decoded" if shown.mean is None else f"mean of {len(shown.by_draws)} draws"
    axes.scatter(points[count:, 0], points[count:, 1], s=14, color=ACCENT, linewidths=0, label=what, zorder=3)
    axes.set(xlabel=across, ylabel=up)
    legend_below(axes)
    return figure


def _by_draws(distances: Tensor) -> Figure:
    """The root-mean-square distance of the mean of 1, 2, ... draws, and its curve for independent draws."""
    figure, axes = new_figure()
    numbers = torch.arange(1, len(distances) + 1, dtype=torch.float64)
    expected = distances[0] * ((1 + 1 / numbers) / 2).sqrt()
    axes.plot(numbers, expected, color=WARM, linewidth=1.2, label="independent draws from the events given the code")
    axes.plot(numbers, distances, color=ACCENT, marker="o", markersize=4, label="these draws")
    axes.set(xlabel="draws in the mean", ylabel="root-mean-square distance", ylim=(0, None))
    axes.locator_params(axis="x", integer=True)
    legend_below(axes)
    return figure


@captioned({"rows": "Each row or line is one sequence of decoded events."})
def event_rows(shown: EventRows) -> Mapping[str, Figure]:
    """Events in rows, images in a grid with the points that they start from and end at, others as lines in a plane."""
    x = shown.x[:_ROWS]
    parts, columns = [x], list(shown.columns)
    if shown.before is not None:
        parts, columns = [shown.before[:_ROWS, None], *parts], ["point", *columns]
    if shown.after is not None:
        parts, columns = [*parts, shown.after[:_ROWS, None]], [*columns, "point"]
    every = torch.cat(parts, 1)
    images = as_images(every.flatten(0, 1))
    if images is None:
        return {"rows": _lines(shown, x)}
    grid = images.unflatten(0, every.shape[:2])
    return {"rows": labelled_grid(grid, list(shown.rows[:_ROWS]), columns, shown.title, shown.bounds)}


def _lines(shown: EventRows, x: Tensor) -> Figure:
    """Rows of events as lines in one plane, from a ring to a dot, and the points that they belong to as crosses."""
    ends = [end[:_ROWS, None] for end in (shown.before, shown.after) if end is not None]
    points, (across, up) = _in_plane(torch.cat([x, *ends], 1).flatten(0, 1))
    points = points.unflatten(0, (len(x), -1))
    figure, axes = new_figure(5.4, 4.6)
    count = x.shape[1]
    for number, row in enumerate(points):
        style = series(number)
        colour, marker = style["color"], style["marker"]
        name = shown.rows[number] if number < len(shown.rows) else ""
        axes.plot(*row[:count].T, color=colour, linestyle=style["linestyle"], linewidth=1.2, label=name or None)
        axes.plot(row[:1, 0], row[:1, 1], color=colour, marker=marker, fillstyle="none")
        axes.plot(row[count - 1 : count, 0], row[count - 1 : count, 1], color=colour, marker=marker)
        axes.plot(row[count:, 0], row[count:, 1], color=colour, marker="x", linestyle="none")
    axes.set(xlabel=across, ylabel=up)
    axes.set_title(shown.title.replace("Each row", "Each line"), fontsize=9, color=INK)
    if any(shown.rows):
        legend_below(axes, 3)
    return figure


def _in_plane(x: Tensor) -> tuple[Tensor, tuple[str, str]]:
    """Events (N, *E) in a plane, single numbers beside their position."""
    points, names = plane(x)
    return points.double(), names


@captioned(
    {
        "units": "What each unit of the code holds, from the most to the least. Grey units have collapsed.",
        "codes": "Left: codes along their two most informative units. Right: the variance along each direction.",
    }
)
def latent_figures(shown: LatentsShown) -> Mapping[str, Figure]:
    """The divergence of each unit (or its variance, of codes without a distribution), and the codes of all points."""
    figures = {"units": _units(shown)}
    figures["codes"] = _codes(shown)
    return figures


def _units(shown: LatentsShown) -> Figure:
    """Units from the most to the least informative."""
    figure, axes = new_figure()
    worth = shown.distributions.spread() if shown.kl is None else shown.kl
    order = worth.argsort(descending=True)
    few = order[:_BARS]
    colours = [ACCENT if active else SOFT for active in shown.active[few].tolist()]
    places = range(len(few))
    axes.bar(places, worth[few].tolist(), color=colours, width=0.8)
    if len(few) <= 24:
        axes.set_xticks(places, [str(unit) for unit in few.tolist()])
    left = f", the first {_BARS} of {len(order)}" if len(order) > _BARS else ""
    axes.set_xlabel(f"unit, by what it holds{left}")
    if shown.kl is None:
        axes.set(ylabel="variance over points", title="A code without a distribution: the variance of its units")
        return figure
    axes.set_ylabel("KL divergence (nats)")
    active = int(shown.active.sum())
    axes.set_title(
        f"{active} of {len(order)} units active, {float(shown.kl.sum()):.3g} nats in all", fontsize=10, color=INK
    )
    return figure


def _codes(shown: LatentsShown) -> Figure:
    """The codes of points along their two most informative units, and the variances of all directions."""
    figure = empty_figure(8.4, 3.6)
    left, right = figure.subplots(1, 2)
    tidy(left)
    tidy(right)
    _scatter_of_units(left, shown)
    if shown.spectrum is None:
        right.set_axis_off()
        return figure
    ranks = range(1, len(shown.spectrum) + 1)
    right.plot(
        ranks,
        shown.spectrum,
        color=ACCENT,
        marker="o" if len(shown.spectrum) <= 40 else None,
        markersize=3,
        label="codes of data",
    )
    if shown.kl is not None:
        right.axhline(1, color=WARM, linewidth=1, label="N(0, I)")
        right.legend(frameon=False, fontsize=8)
    right.set(xlabel="direction, widest first", ylabel="variance", ylim=(0, None))
    right.locator_params(axis="x", integer=True)
    return figure


def _scatter_of_units(axes: Axes, shown: LatentsShown) -> None:
    worth = shown.distributions.spread() if shown.kl is None else shown.kl
    means = shown.distributions.mean[:_CLOUD].double()
    if means.shape[1] == 1:
        axes.hist(means[:, 0].numpy(), bins=40, color=SOFT)
        axes.set(xlabel="unit 0", ylabel="points")
        return
    first, second = worth.argsort(descending=True)[:2].tolist()
    axes.scatter(means[:, first], means[:, second], s=5, color=ACCENT, alpha=0.5, linewidths=0, label="means of codes")
    if shown.kl is not None:
        angle = torch.linspace(0, 2 * torch.pi, 100, dtype=torch.float64)
        for deviations in (1, 2):
            label = "N(0, I), 1 and 2 deviations" if deviations == 1 else None
            axes.plot(deviations * angle.cos(), deviations * angle.sin(), color=WARM, linewidth=0.9, label=label)
        axes.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    axes.set(xlabel=f"unit {first}", ylabel=f"unit {second}")
    axes.set_aspect("equal", adjustable="datalim")
