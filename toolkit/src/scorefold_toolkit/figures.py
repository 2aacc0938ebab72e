"""Figures that several methods share: events in grids, strips and planes, trainings, and plans.

Each function takes the data that it plots. The functions of a verb return ``{name: Figure}``. matplotlib is imported
with the first figure, so models work without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from scorefold.plotting import ACCENT, INK, SOFT, WARM, empty_figure, new_figure, tidy
from scorefold.results import Allocation, Estimate, PlanRow
from scorefold_toolkit.captions import PATHS, SAMPLES, TRAINING, captioned
from scorefold_toolkit.nn.reshape import is_signal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from scorefold.data import Condition

_GROUPS, _EACH, _AMONG = 8, 9, 1000  # what a figure shows of events in groups, and of data behind them
SERIES = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00"),
    *("#56b4e9", "#1f2933", "#7b8794", "#872d1e", "#f0e442"),
)
"""Ten colours that colour-blind readers can separate, after Okabe and Ito. ``series`` adds a marker and a line to each.
"""
_MARKERS, _LINES = "osD^vPX*<>", ("-", "--", ":", "-.")
_GAP = 1


def series(number: int) -> dict[str, Any]:
    """The colour, marker and line style of a series, for ``plot``; colours and markers repeat after ten.

    >>> series(1)
    {'color': '#d55e00', 'marker': 's', 'linestyle': '--'}
    """
    return {
        "color": SERIES[number % len(SERIES)],
        "marker": _MARKERS[number % len(_MARKERS)],
        "linestyle": _LINES[number % len(_LINES)],
    }


def legend_below(axes: Axes, columns: int = 2) -> None:
    """Puts the legend below the x axis, where it covers no curve."""
    from matplotlib.transforms import ScaledTranslation

    figure = axes.get_figure(root=True)
    assert figure is not None
    place = axes.transAxes + ScaledTranslation(0, -0.5, figure.dpi_scale_trans)
    style: dict[str, Any] = {"frameon": False, "fontsize": 9, "ncols": columns}
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0), bbox_transform=place, borderaxespad=0, **style)


def far_apart(points: Tensor, pairs: int) -> tuple[Tensor, Tensor]:
    """Pairs from both ends of points (N, *E) along their widest direction, the outermost first: (pairs, *E) twice.

    >>> far_apart(torch.arange(9.0)[:, None], 2)[1].flatten().tolist() in ([8.0, 7.0], [0.0, 1.0])
    True
    """
    flat = points.flatten(1).double()
    centred = flat - flat.mean(0)
    order = (centred @ torch.linalg.svd(centred, full_matrices=False).Vh[0]).argsort()
    third = max(1, len(points) // 3)
    step = max(1, third // pairs)
    return points[order[:third:step][:pairs]], points[order.flip(0)[:third:step][:pairs]]


@dataclass(frozen=True)
class EventGroups:
    """Events in groups, for figures: ``x`` (G, n, *E); ``group`` names one, or ``rows`` of them together.

    The n events of a ``path`` are neighbours on a curve, ends included; otherwise their order means nothing. ``among``
    (N, *E) are points of the data, which stand behind groups that are no images.

    >>> lines = EventGroups(torch.rand(3, 5, 2), "pair of points", path=True)
    >>> list(samples(lines))
    ['samples']
    """

    x: Tensor
    group: str
    path: bool = False
    among: Tensor | None = None
    rows: int = 1


def samples(drawn: Tensor | EventGroups) -> Mapping[str, Figure]:
    """Events (N, *E), or groups of them: images in a grid, a row a group, signals as curves, or points, a colour or a
    line a group."""
    caption = PATHS if isinstance(drawn, EventGroups) and drawn.path else SAMPLES
    if isinstance(drawn, EventGroups) and is_signal(drawn.x.shape[2:]):
        figure = curves(_few_of_each(drawn), f"Each panel: {drawn.group}")
    elif isinstance(drawn, EventGroups):
        figure = _grid_of_groups(drawn) or _scatter_groups(drawn)
    elif is_signal(drawn.shape[1:]):
        figure = curves(drawn[:, None], "Samples")
    elif (images := as_images(drawn[:64])) is not None:
        figure = image_grid(images, title="Samples")
    elif len(drawn) > 1:
        figure = scatter(drawn[:2000], "Samples")
    else:
        return {}
    figure.set_label(caption)
    return {"samples": figure}


def curves(
    signals: Tensor, title: str = "", *, truth: Tensor | None = None, observed: Tensor | None = None, panels: int = 12
) -> Figure:
    """Signals (G, n, C, L) as curves over time, G at least 1: a panel a group, a colour a channel, 12 groups at most.

    ``truth`` and ``observed`` (G, C, L) are one more signal each: the truth as a black line, what was observed of it as
    dots where it is not 0.

    >>> [len(axes.lines) for axes in curves(torch.rand(3, 2, 1, 32)).axes]
    [2, 2, 2]
    """
    shown = signals[:panels].detach().cpu()
    count, each, channels, length = shown.shape
    columns = min(3, count)
    rows = -(-count // columns)
    figure = empty_figure(3.0 * columns, 1.15 * rows + 0.6)
    places = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flatten()
    time = torch.arange(length)
    for axes, group, number in zip(places, shown, range(count), strict=False):
        tidy(axes)
        for channel in range(channels):
            colour = SERIES[channel % len(SERIES)]
            axes.plot(time, group[:, channel].T, color=colour, linewidth=0.9, alpha=1.0 if each == 1 else 0.45)
            if truth is not None:
                axes.plot(time, truth[number, channel].cpu(), color=INK, linewidth=1.2)
            if observed is not None:
                seen = observed[number, channel].cpu()
                axes.plot(time[seen != 0], seen[seen != 0], ".", color=colour, markersize=3)
    for axes in places[count:]:
        axes.set_axis_off()
    for axes in places[max(0, count - columns) : count]:
        axes.set_xlabel("time step", fontsize=9)
        axes.tick_params(labelbottom=True)
    figure.suptitle(title, fontsize=10, color=INK)
    return figure


def image_grid(
    images: Tensor,
    columns: int = 8,
    title: str = "",
    *,
    limits: tuple[float | None, float | None] = (None, None),
    ax: Axes | None = None,
) -> Figure:
    """Images (N, C, H, W), N at least 1 and C 1 or 3, in rows of ``columns``, grey for one channel.

    ``limits`` are the values shown as black and white; where one is None, the least or the greatest value is. The
    images are drawn in ``ax``, or in a new figure.

    >>> image_grid(torch.rand(6, 1, 4, 4), columns=3).axes[0].images[0].get_array().shape
    (9, 14)
    """
    count, channels, height, width = images.shape
    columns = min(columns, count)
    rows = -(-count // columns)
    low, high = (float(own if limit is None else limit) for limit, own in zip(limits, images.aminmax(), strict=True))
    scaled = ((images - low) / ((high - low) or 1.0)).clamp(0, 1)
    canvas = torch.ones(rows * (height + 1) - 1, columns * (width + 1) - 1, channels)
    for position, image in enumerate(scaled):
        top, left = (position // columns) * (height + 1), (position % columns) * (width + 1)
        canvas[top : top + height, left : left + width] = image.permute(1, 2, 0)
    across = min(9.0, 0.9 * columns + 0.4)
    down = across * canvas.shape[0] / canvas.shape[1]
    figure, axes = new_figure(max(2.4, across), min(12.0, max(1.2, down + 0.4)), ax)
    shown = canvas if channels == 3 else canvas[..., 0]
    axes.imshow(shown.numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_axis_off()
    axes.set_title(title, fontsize=10, color=INK)
    return figure


def as_images(x: Tensor) -> Tensor | None:
    """Events (N, *E) as images (N, C, H, W), where they are some: all of three channels, or the first one."""
    if x.dim() == 3:
        x = x[:, None]
    if x.dim() != 4:
        return None
    return x.float() if x.shape[1] == 3 else x[:, :1].float()


def plane(x: Tensor) -> tuple[Tensor, tuple[str, str]]:
    """Points (N, *E) in a plane, (N, 2), and what its axes are: the two widest directions where D is above 2."""
    flat = x.reshape(len(x), -1).double()
    if flat.shape[1] > 2:
        centred = flat - flat.mean(0)
        return centred @ torch.linalg.svd(centred, full_matrices=False).Vh[:2].T, (
            "first principal direction",
            "second",
        )
    if flat.shape[1] == 1:
        return torch.cat([torch.arange(len(flat), dtype=torch.float64)[:, None], flat], dim=1), ("position", "x")
    return flat, ("x", "y")


def scatter(x: Tensor, title: str, ax: Axes | None = None) -> Figure:
    """Points (N, *E) in the plane of their two widest directions; the histogram of single numbers.

    They are drawn in ``ax``, or in a new figure.
    """
    figure, axes = new_figure(5.0, 4.4, ax)
    if x[0].numel() == 1:
        axes.hist(x.reshape(-1).double().numpy(), bins=40, color=SOFT)
        axes.set(title=title, xlabel="x", ylabel="points")
        return figure
    points, (across, up) = plane(x)
    axes.scatter(points[:, 0], points[:, 1], s=6, color=ACCENT, alpha=0.5, linewidths=0)
    axes.set_aspect("equal", adjustable="datalim")
    axes.set(title=title, xlabel=across, ylabel=up)
    return figure


def _scatter_groups(groups: EventGroups) -> Figure:
    """Groups of points in one plane, each in its own colour and marker; a path from an open one to a filled one."""
    x = groups.x[:_GROUPS] if groups.path else groups.x[:_GROUPS, :500]
    among = x.new_zeros(0, *x.shape[2:]) if groups.among is None else groups.among[:_AMONG].to(x)
    every, (across, up) = plane(torch.cat([x.flatten(0, 1), among]))
    points, behind = every.split([x.shape[0] * x.shape[1], len(among)])
    figure, axes = new_figure(5.0, 4.4)
    if len(behind) and across != "position":
        axes.scatter(behind[:, 0], behind[:, 1], s=6, color=SOFT, linewidths=0, zorder=0)
    for number, group in enumerate(points.unflatten(0, x.shape[:2])):
        style = series(number)
        colour, marker = style["color"], style["marker"]
        if groups.path:
            axes.plot(group[:, 0], group[:, 1], color=colour, linestyle=style["linestyle"], linewidth=1.2)
            axes.plot(group[:1, 0], group[:1, 1], color=colour, marker=marker, fillstyle="none")
            axes.plot(group[-1:, 0], group[-1:, 1], color=colour, marker=marker)
        else:
            axes.scatter(group[:, 0], group[:, 1], s=10, color=[colour], marker=marker, alpha=0.6, linewidths=0)
    if across != "position":
        axes.set_aspect("equal", adjustable="datalim")
    dots = "; grey: the data" if len(behind) else ""
    each = "Each line: " if groups.path else "Each colour and marker: " if len(x) > 1 else ""
    title = f"{each}{groups.group}{dots}"
    axes.set(title=title[:1].upper() + title[1:], xlabel=across, ylabel=up)
    return figure


def _few_of_each(groups: EventGroups) -> Tensor:
    """As many events of each group as fit, (G, m, *E); of a path evenly spread from end to end."""
    last = groups.x.shape[1] - 1
    return groups.x[:, torch.linspace(0, last if groups.path else min(last, _EACH - 1), _EACH).round().long().unique()]


def _grid_of_groups(groups: EventGroups) -> Figure | None:
    """A row of images a group."""
    x = _few_of_each(groups)[:_GROUPS]
    images = as_images(x.flatten(0, 1))
    kind = "row" if groups.rows == 1 else f"{groups.rows} rows"
    return None if images is None else image_grid(images, x.shape[1], f"Each {kind}: {groups.group}")


def picture_of(condition: Condition | None) -> Tensor | None:
    """The part of a condition that can be seen: the first image (N, C, H, W) or signal (N, C, L) among its parts; None
    where none is."""
    if condition is None:
        return None
    parts = [condition] if isinstance(condition, Tensor) else list(condition.values())
    numbers = [part.cpu() for part in parts if part.is_floating_point()]
    return next((part for part in numbers if part.dim() == 4 or is_signal(part.shape[1:])), None)


def own_limits(seen: Tensor, bounds: tuple[float, float]) -> tuple[float, float]:
    """The values of black and white for images in other units than ``bounds`` where they leave these, else those."""
    low, high = float(seen.min()), float(seen.max())
    return bounds if bounds[0] - 1e-6 <= low and high <= bounds[1] + 1e-6 else (low, high)


def strips(columns: list[tuple[str, Tensor, tuple[float, float]]], spread: Tensor | None) -> Figure:
    """Columns of images (G, C, H, W), each with its name and the values of black and white, and a last one of their
    spread as a map with a scale."""
    rows, _, height, width = columns[0][1].shape
    count = len(columns) + (spread is not None)
    wide = 0.95 * count + (0.6 if spread is not None else 0)
    figure = empty_figure(wide, 0.95 * rows * height / width + 0.45)
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.02, wspace=0.02)  # type: ignore[union-attr, call-arg]
    places = figure.subplots(1, count, squeeze=False)[0]
    for axes, (name, images, (low, high)) in zip(places, columns, strict=False):
        strip = _strip(((images - low) / ((high - low) or 1)).clamp(0, 1), 1.0)
        axes.imshow(
            (strip if strip.shape[-1] == 3 else strip[..., 0]).numpy(),
            cmap="gray",
            vmin=0,
            vmax=1,
            interpolation="nearest",
        )
        bare(axes, name)
    if spread is not None:
        strip = _strip(spread.mean(1, keepdim=True), float("nan"))[..., 0]
        picture = places[-1].imshow(strip.numpy(), cmap="magma", vmin=0, interpolation="nearest")
        bare(places[-1], "std")
        bar = figure.colorbar(picture, ax=places[-1], fraction=0.3, pad=0.06, shrink=min(1.0, 3 / rows))
        bar.ax.tick_params(labelsize=8, colors=INK)
    return figure


def _strip(images: Tensor, between: float) -> Tensor:
    """Images (G, C, H, W) below one another, (G (H + 1) - 1, W, C)."""
    padded = functional.pad(images, (0, 0, 0, _GAP), value=between)
    return torch.cat([image.permute(1, 2, 0) for image in padded])[:-_GAP]


def bare(axes: Axes, title: str) -> None:
    axes.set_axis_off()
    axes.set_title(title, fontsize=9, color=INK)


def labelled_grid(
    grid: Tensor, names: Sequence[str], columns: Sequence[str], title: str, bounds: tuple[float | None, float | None]
) -> Figure:
    """Images (R, T, C, H, W) in a grid, the names of rows at the left and of columns above."""
    count, times, channels, height, width = grid.shape
    low, high = (float(own if end is None else end) for end, own in zip(bounds, grid.aminmax(), strict=True))
    scaled = ((grid - low) / ((high - low) or 1.0)).clamp(0, 1)
    canvas = torch.ones(count, height + _GAP, times, width + _GAP, channels)
    canvas[:, :height, :, :width] = scaled.permute(0, 3, 1, 4, 2)
    shown = canvas.reshape(count * (height + _GAP), times * (width + _GAP), channels)[:-_GAP, :-_GAP]
    across = min(9.0, 0.8 * times)
    down = across * shown.shape[0] / shown.shape[1]
    lines = max((name.count("\n") + 1 for name in columns), default=0)
    left, above = 0.1 + 0.075 * max(map(len, names), default=0), 0.05 + 0.22 * lines + 0.25 * bool(title)
    figure = empty_figure(left + across + 0.1, above + down + 0.05)
    figure.set_layout_engine("none")
    wide, tall = figure.get_size_inches()
    axes = figure.add_axes((left / wide, 0.05 / tall, across / wide, down / tall))
    axes.imshow(
        (shown if channels == 3 else shown[..., 0]).numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest"
    )
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=8, colors=INK, pad=2)
    middles = [row * (height + _GAP) + (height - 1) / 2 for row in range(count)]
    axes.set_yticks(middles if any(names) else [], names if any(names) else [])
    axes.set_xticks([row * (width + _GAP) + (width - 1) / 2 for row in range(times)] if columns else [], columns)
    axes.xaxis.tick_top()
    axes.tick_params(axis="x", length=0)
    if title:
        figure.suptitle(title, x=left / wide, y=1 - 0.06 / tall, fontsize=9, color=INK, ha="left", va="top")
    return figure


@captioned({"training": TRAINING})
def training(fitted: Any) -> Mapping[str, Figure]:
    """The loss of a ``Fitted`` component, or of a ``FitReport``, against the step, with the held-out loss where there
    was one; nothing for an untrained component.

    Steps count over all phases. Each phase, which may have another loss, is a line of its own behind a dotted mark.
    """
    history: Sequence[Mapping[str, Any]] = getattr(getattr(fitted, "report", fitted), "history", ())
    if not any("loss" in row for row in history):
        return {}
    figure, axes = new_figure()
    phases = list(dict.fromkeys(row["phase"] for row in history))
    styles: dict[str, dict[str, Any]] = {
        "loss": {"color": SOFT, "linewidth": 1.2, "label": "training"},
        "validation": {"color": ACCENT, "linewidth": 1.2, "markersize": 3, "label": "held out"},
    }
    start = 0
    for phase in phases:
        rows = [row for row in history if row["phase"] == phase]
        for name, style in styles.items():
            points = [(row["step"], row[name]) for row in rows if name in row]
            if points:
                marker = "o" if len(points) == 1 or name == "validation" else None
                axes.plot(*zip(*points, strict=True), marker=marker, **style)
                style["label"] = "_"  # one entry in the legend for all phases
        if len(phases) > 1:
            axes.axvline(start, color=INK, linestyle=":", linewidth=0.8)
            axes.annotate(f" {phase}", (start, 1), xycoords=("data", "axes fraction"), va="top", fontsize=9, color=INK)
        start = rows[-1]["step"]
    reference = getattr(getattr(fitted, "report", fitted), "reference", None)
    if reference is not None and len(phases) == 1:
        said = getattr(fitted, "report", fitted).reference_of
        axes.axhline(reference, color=WARM, linestyle="--", linewidth=1, label=said, zorder=0)
    values = [row[name] for row in history for name in styles if name in row]
    if 0 < 50 * min(values) < max(values):
        axes.set_yscale("log")
    axes.set(xlabel="step", ylabel="loss", title="Training")
    legend_below(axes, 3)
    return {"training": figure}


def over_points(estimate: Estimate) -> Mapping[str, Figure]:
    """The histogram of an estimate over points; nothing where all points have one value, which the answer says."""
    values = torch.empty(0) if estimate.pointwise is None else estimate.pointwise.detach()
    values = values[values.isfinite()].double()
    several = len(values) > 1 and bool(values.max() - values.min() > 1e-6 * values.abs().max())
    return {"estimate": estimate.plot()} if several else {}


def by_label(estimate: Estimate) -> Mapping[str, Figure]:
    """The answers for labels in ``diagnostics["by_label"]``, from the smallest, with their intervals; nothing without
    two labels that have a value.
    """
    rows = [row for row in estimate.diagnostics.get("by_label", ()) if row["value"] is not None]
    if len(rows) < 2:
        return {}
    rows.sort(key=lambda row: row["value"])
    figure, axes = new_figure(6.4, 1.2 + 0.32 * len(rows))
    for place, row in enumerate(rows):
        low, high = row["interval"] or (row["value"], row["value"])
        axes.plot([low, high], [place, place], color=SOFT, linewidth=5, solid_capstyle="round")
        axes.plot(row["value"], place, "o", color=ACCENT)
        axes.annotate(f"{row['value']:.3g}", (high, place), (8, 0), textcoords="offset points", va="center", color=INK)
    axes.set_yticks(range(len(rows)), [str(row["label"]) if row["name"] is None else row["name"] for row in rows])
    axes.set(xlabel=estimate.quantity, title=f"{estimate.quantity.capitalize()} by label")
    axes.set_xlim(min(0.0, axes.get_xlim()[0]), axes.get_xlim()[1] * 1.05)
    figure.set_label(f"A bar is the {estimate.interval_name()} of a label.")
    return {"by-label": figure}


@captioned({"allocation": "Labels that the plan spends on each group of tasks, for support and for query."})
def allocation(plan: Allocation) -> Mapping[str, Figure]:
    """Labels spent on each row of the plan, support and query; nothing for an empty plan."""
    if not plan.plan:
        return {}
    figure, axes = new_figure(1.8 + 1.6 * len(plan.plan) + 1.4, 4.0)
    places = range(len(plan.plan))
    support = [row.tasks * row.support for row in plan.plan]
    query = [row.tasks * row.query for row in plan.plan]
    axes.bar(places, support, color=ACCENT, label="support labels", width=0.6)
    axes.bar(places, query, bottom=support, color=SOFT, hatch="//", edgecolor="white", label="query labels", width=0.6)
    # Rows may share a type, so bars stand by position.
    axes.set_xticks(places, [_words_of(row) for row in plan.plan])
    axes.set_xlim(-0.8, len(plan.plan) - 0.2)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set(ylabel="labels", title=f"{sum(support) + sum(query):,} labels spent, {plan.leftover:,} left over")
    axes.legend(frameon=False, fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=2)
    return {"allocation": figure}


def _words_of(row: PlanRow) -> str:
    """A row of a plan below its bar: how many tasks, of which type, and the labels of each."""
    kind = "" if row.task_type == "task" else f" of {row.task_type}"
    return f"{row.tasks:,} tasks{kind},\n{row.support} + {row.query} labels each"
