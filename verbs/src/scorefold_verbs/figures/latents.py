"""Figures of the verbs of latent codes: events beside their reconstructions, events in rows, and what codes hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from scorefold.plotting import ACCENT, INK, SOFT, WARM, empty_figure, new_figure, tidy
from scorefold_toolkit.figures import as_images, labelled_grid, legend_below, plane, series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from scorefold_verbs.latents.diagnose import LatentsShown
    from scorefold_verbs.latents.reconstruct import Reconstructed
    from scorefold_verbs.latents.traverse import EventRows

_ROWS = 12
_GAP = 1
_BARS = 60
_CLOUD = 2000


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
    """The root-mean-square distance of the mean of 1, 2, ... draws, beside that of draws from the posterior."""
    figure, axes = new_figure()
    numbers = torch.arange(1, len(distances) + 1, dtype=torch.float64)
    expected = distances[0] * ((1 + 1 / numbers) / 2).sqrt()
    axes.plot(
        numbers, expected, color=WARM, linewidth=1.2, label="draws from the distribution of events given the code"
    )
    axes.plot(numbers, distances, color=ACCENT, marker="o", markersize=4, label="these draws")
    axes.set(xlabel="draws in the mean", ylabel="root-mean-square distance", ylim=(0, None))
    axes.locator_params(axis="x", integer=True)
    legend_below(axes)
    return figure


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
