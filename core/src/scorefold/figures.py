"""Figures of what core's verbs hand on. Each function takes what is drawn and returns ``{name: Figure}``.

matplotlib is imported when a figure is asked for: estimates and models can be used without it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold.errors import ScorefoldError, SplitError
from scorefold.results import Allocation, Estimate
from scorefold.stage import EventGroups

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from scorefold.data import Condition
    from scorefold.interfaces import DataSource

_GROUPS, _EACH = 8, 9  # what a figure shows of events in groups
_PAIRS = 8  # images in a column, next to their conditions

INK, ACCENT, SOFT, WARM = "#1f2933", "#2563eb", "#b8c4d6", "#d9480f"
"""The palette of every figure: text and lines, the answer, context, and truth or warning."""


def empty_figure(width: float, height: float) -> Figure:
    """An empty figure of ours, its size in inches. Raises ``ScorefoldError`` where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ScorefoldError("figures need matplotlib", hint="pip install matplotlib") from error
    return Figure(figsize=(width, height), layout="constrained")


def new_figure(width: float = 6.4, height: float = 4.0) -> tuple[Figure, Axes]:
    """An empty figure of ours with one pair of axes. Raises ``ScorefoldError`` where matplotlib is missing."""
    figure = empty_figure(width, height)
    axes = figure.subplots()
    tidy(axes)
    return figure, axes


def tidy(axes: Axes) -> None:
    """Our look: no top and right spines, quiet ticks."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=9)


def image_grid(
    images: Tensor, columns: int = 8, title: str = "", *, limits: tuple[float | None, float | None] = (None, None)
) -> Figure:
    """Images (N, C, H, W), N at least 1 and C 1 or 3, in rows of ``columns``, grey for one channel.

    ``limits`` are the values shown as black and white; where one is None, the least or the greatest value is.
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
    figure, axes = new_figure(max(2.4, across), min(12.0, max(1.2, down + 0.4)))
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


def _scatter(x: Tensor, title: str) -> Figure:
    """Points (N, *E) in the plane of their two widest directions; the histogram of single numbers."""
    figure, axes = new_figure(5.0, 4.4)
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
    """Groups of points in one plane, each in its own colour; a path as a line from a ring to a dot."""
    import matplotlib

    x = groups.x[:_GROUPS] if groups.path else groups.x[:_GROUPS, :500]
    points, (across, up) = plane(x.flatten(0, 1))
    figure, axes = new_figure(5.0, 4.4)
    colours = matplotlib.colormaps["tab10"].colors  # type: ignore[attr-defined]
    for number, group in enumerate(points.unflatten(0, x.shape[:2])):
        colour = colours[number]
        if groups.path:
            axes.plot(group[:, 0], group[:, 1], color=colour, linewidth=1.2)
            axes.plot(group[:1, 0], group[:1, 1], color=colour, marker="o", fillstyle="none")
            axes.plot(group[-1:, 0], group[-1:, 1], color=colour, marker="o")
        else:
            axes.scatter(group[:, 0], group[:, 1], s=6, color=[colour], alpha=0.6, linewidths=0)
    if across != "position":
        axes.set_aspect("equal", adjustable="datalim")
    axes.set(title=f"Each colour: {groups.group}", xlabel=across, ylabel=up)
    return figure


def _grid_of_groups(groups: EventGroups) -> Figure | None:
    """A row of images a group; of a path as many as fit, evenly spread from end to end."""
    each = groups.x.shape[1]
    places = (
        torch.linspace(0, each - 1, _EACH).round().long().unique() if groups.path else torch.arange(min(each, _EACH))
    )
    x = groups.x[:_GROUPS].index_select(1, places)
    images = as_images(x.flatten(0, 1))
    return None if images is None else image_grid(images, len(places), f"Each row: {groups.group}")


def data(source: DataSource) -> Mapping[str, Figure]:
    """The first points of the test split, or of another where there is none: a grid of images, each next to its
    condition where that is an image too, or a scatter in the widest plane."""
    name, shown = _any_split(source)
    few = shown.take(torch.arange(min(32, len(shown))))
    images = as_images(few.x)
    condition = picture_of(few.condition)
    if images is not None and condition is not None and len(images):
        return {"data": _pairs(condition, images, source)}
    if images is None:
        points = shown.tensor(limit=2000)
        return {"data": _scatter(points, f"The {name} split")} if len(points) > 1 else {}
    limits = (source.event_scale.low, source.event_scale.high)
    return {"data": image_grid(images, title=f"From the {name} split", limits=limits)} if len(images) else {}


def _any_split(source: DataSource) -> tuple[str, Dataset]:
    for name in ("test", "validation"):
        with suppress(SplitError):
            return name, source.load(name)
    return "train", source.load("train")


def picture_of(condition: Condition | None) -> Tensor | None:
    """The part of a condition that can be seen, (N, C, H, W): the first image among its parts; None where none is."""
    if condition is None:
        return None
    parts = [condition] if isinstance(condition, Tensor) else list(condition.values())
    images = [part.cpu() for part in parts if part.dim() == 4 and part.is_floating_point()]
    return images[0] if images else None


def own_limits(seen: Tensor, bounds: tuple[float, float]) -> tuple[float, float]:
    """The values of black and white for images in other units than ``bounds`` where they leave these, else those."""
    low, high = float(seen.min()), float(seen.max())
    return bounds if bounds[0] - 1e-6 <= low and high <= bounds[1] + 1e-6 else (low, high)


def _pairs(condition: Tensor, images: Tensor, source: DataSource) -> Figure:
    """Conditions next to their images, in pairs of columns."""
    from scorefold.figures_assess import strips

    seen = as_images(condition)
    assert seen is not None
    scale = source.event_scale
    low, high = (
        float(own if end is None else end) for end, own in zip((scale.low, scale.high), images.aminmax(), strict=True)
    )
    columns = []
    for rows in torch.arange(len(images)).split(_PAIRS):
        columns.append(("condition", seen[rows], own_limits(seen, (low, high))))
        columns.append(("image", images[rows], (low, high)))
    return strips(columns, None)


def samples(drawn: Tensor | EventGroups) -> Mapping[str, Figure]:
    """Events (N, *E), or groups of them: images in a grid, a row a group, or points, a colour or a line a group."""
    if isinstance(drawn, EventGroups):
        return {"samples": _grid_of_groups(drawn) or _scatter_groups(drawn)}
    images = as_images(drawn[:64])
    if images is not None:
        return {"samples": image_grid(images, title="Samples")}
    points = drawn[:2000]
    return {"samples": _scatter(points, "Samples")} if len(points) > 1 else {}


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
    values = [row[name] for row in history for name in styles if name in row]
    if 0 < 50 * min(values) < max(values):
        axes.set_yscale("log")
    axes.set(xlabel="step", ylabel="loss", title="Training")
    axes.legend(frameon=False, fontsize=9)
    return {"training": figure}


def likelihood(values: Mapping[str, Tensor]) -> Mapping[str, Figure]:
    """The histogram of log-likelihoods over points."""
    log_prob = values["log_prob"]
    figure, axes = new_figure()
    axes.hist(log_prob.numpy(), bins=40, color=SOFT)
    axes.axvline(float(log_prob.mean()), color=ACCENT, label=f"mean {float(log_prob.mean()):.2f}")
    axes.set(xlabel="log-likelihood (nats)", ylabel="points")
    axes.legend(frameon=False, fontsize=9)
    return {"log-likelihood": figure}


def outlier_scores(scores: Mapping[str, Mapping[str, Tensor]]) -> Mapping[str, Figure]:
    """The histograms of each outlier score: over usual points, and over unusual ones where there are any."""
    usual, unusual = scores["usual"], scores.get("unusual")
    figure = empty_figure(3.4 * len(usual) + 0.6, 3.2)
    places = figure.subplots(1, len(usual), squeeze=False)[0]
    for axes, (name, values) in zip(places, usual.items(), strict=True):
        tidy(axes)
        both = values if unusual is None else torch.cat((values, unusual[name]))
        edges = torch.linspace(float(both.min()), float(both.max()) + 1e-9, 41).tolist()
        axes.hist(values.numpy(), bins=edges, color=SOFT, label="usual", density=True)
        if unusual is not None:
            axes.hist(unusual[name].numpy(), bins=edges, color=WARM, alpha=0.6, label="unusual", density=True)
        axes.set(xlabel=f"{name} ({'bits' if name == 'condition cost' else 'bits a dimension'})", yticks=[])
    if unusual is not None:
        places[0].legend(frameon=False, fontsize=9)
    return {"outliers": figure}


def geometry(distances: Any) -> Mapping[str, Figure]:
    """The matrix of distances between some points; nothing where no data were given."""
    if not isinstance(distances, Tensor):
        return {}
    figure, axes = new_figure(5.0, 4.2)
    picture = axes.imshow(distances.numpy(), cmap="viridis")
    figure.colorbar(picture, ax=axes, label="distance")
    axes.set(title="Distances between test points", xlabel="point", ylabel="point")
    return {"distances": figure}


def plot_estimate(answer: Estimate) -> Figure:
    """The histogram of the estimate over points, with the value and its interval; the value alone without points."""
    figure, axes = new_figure()
    values = torch.empty(0) if answer.pointwise is None else answer.pointwise.detach().cpu().double()
    values = values[torch.isfinite(values)]
    if len(values):
        whole = bool((values == values.round()).all()) and float(values.max() - values.min()) < 200
        low, high = float(values.min()), float(values.max())
        bins: int | list[float] = (
            [low - 0.5 + step for step in range(int(high - low) + 2)] if whole else max(8, min(40, len(values) // 4))
        )
        if high - low < 1e-6 * max(1.0, abs(high)):  # the same at all points up to rounding, too narrow for bins
            bins = [low - 0.5, high + 0.5]
        axes.hist(values.numpy(), bins=bins, color=SOFT, label=f"{len(values)} points")
        axes.set_ylabel("points")
        axes.locator_params(axis="y", integer=True)
        if high - low < 3:  # few bars are no wider than the others
            axes.set_xlim(low - 2.5 if low < 0 else max(low - 2.5, -0.75), high + 2.5)
        axes.locator_params(axis="x", integer=whole or high - low >= 3)
    else:
        axes.set_yticks([])
        axes.margins(x=0.5)
    if answer.value is not None:
        label = f"{answer.quantity} {answer.value:.4g}"
        if answer.interval is not None:
            low, high = answer.interval
            axes.axvspan(low, high, color=ACCENT, alpha=0.15, linewidth=0)
            over = f" over {answer.covers}" if answer.covers else ""
            label += f"  ({100 * answer.level:g}%{over}: {low:.4g} to {high:.4g})"
        axes.axvline(answer.value, color=ACCENT, linewidth=2, label=label)
    else:
        axes.plot([], [], " ", label=textwrap.fill(answer.headline, 44))
    axes.set_xlabel(answer.quantity)
    axes.legend(frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return figure


def estimate(answer: Estimate) -> Mapping[str, Figure]:
    """The estimate over points, and the spectra behind it where there are any."""
    figures = {"estimate": plot_estimate(answer)}
    if answer.spectrum is not None:
        figure, axes = new_figure()
        for row in answer.spectrum[:20].detach().cpu().double():
            axes.plot(range(1, len(row) + 1), row.numpy(), color=ACCENT, alpha=0.4, linewidth=1)
        axes.set(xlabel="rank", ylabel="spectrum", title=f"Spectra at {min(20, len(answer.spectrum))} points")
        figures["spectrum"] = figure
    return figures


def allocation(plan: Allocation) -> Mapping[str, Figure]:
    """Labels spent on each row of the plan, support and query; nothing for an empty plan."""
    if not plan.plan:
        return {}
    figure, axes = new_figure()
    places = range(len(plan.plan))
    support = [row.tasks * row.support for row in plan.plan]
    query = [row.tasks * row.query for row in plan.plan]
    axes.bar(places, support, color=ACCENT, label="support")
    axes.bar(places, query, bottom=support, color=SOFT, label="query")
    # Rows may share a type, so bars stand by position.
    axes.set_xticks(places, [f"{row.task_type}\n{row.tasks} tasks" for row in plan.plan])
    axes.set(ylabel="labels", title=f"{sum(support) + sum(query)} labels spent, {plan.leftover} left over")
    axes.legend(frameon=False, fontsize=9)
    return {"allocation": figure}
