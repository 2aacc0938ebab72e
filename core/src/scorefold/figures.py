"""Figures of what core's verbs hand on. Each function takes what is drawn and returns ``{name: Figure}``.

matplotlib is imported when a figure is asked for: estimates and models can be used without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from scorefold.errors import ScorefoldError
from scorefold.results import Allocation, Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from scorefold.interfaces import DataSource

INK, ACCENT, SOFT, WARM = "#1f2933", "#2563eb", "#b8c4d6", "#d9480f"
"""The palette of every figure: text and lines, the answer, context, and truth or warning."""


def new_figure(width: float = 6.4, height: float = 4.0) -> tuple[Figure, Axes]:
    """An empty figure of ours with one pair of axes. Raises ``ScorefoldError`` where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ScorefoldError("figures need matplotlib", hint="pip install matplotlib") from error
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    tidy(axes)
    return figure, axes


def tidy(axes: Axes) -> None:
    """Our look: no top and right spines, quiet ticks."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=9)


def image_grid(images: Tensor, columns: int = 8, title: str = "") -> Figure:
    """Images (N, C, H, W) in rows of ``columns``, grey for one channel, scaled to their own range."""
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    low, high = float(images.min()), float(images.max())
    scaled = (images - low) / ((high - low) or 1.0)
    canvas = torch.ones(rows * (height + 1) - 1, columns * (width + 1) - 1, channels)
    for position, image in enumerate(scaled):
        top, left = (position // columns) * (height + 1), (position % columns) * (width + 1)
        canvas[top : top + height, left : left + width] = image.permute(1, 2, 0)
    figure, axes = new_figure(min(9.0, 0.9 * columns + 0.4), max(1.6, 0.9 * rows + 0.4))
    shown = canvas if channels == 3 else canvas[..., 0]
    axes.imshow(shown.numpy(), cmap="gray", interpolation="nearest")
    axes.set_axis_off()
    axes.set_title(title, fontsize=10, color=INK)
    return figure


def _as_images(x: Tensor) -> Tensor | None:
    """Events as images (N, C, H, W), where they are some."""
    if x.dim() == 3:
        x = x[:, None]
    if x.dim() != 4:
        return None
    return x.float() if x.shape[1] == 3 else x[:, :1].float()


def _scatter(x: Tensor, title: str) -> Figure:
    """Points (N, *E) in the plane of their two widest directions."""
    flat = x.reshape(len(x), -1).double()
    centred = flat - flat.mean(0)
    if flat.shape[1] > 2:
        centred = centred @ torch.linalg.svd(centred, full_matrices=False).Vh[:2].T
    elif flat.shape[1] == 1:
        centred = torch.cat([centred, torch.zeros_like(centred)], dim=1)
    figure, axes = new_figure(5.0, 4.4)
    axes.scatter(centred[:, 0], centred[:, 1], s=6, color=ACCENT, alpha=0.5, linewidths=0)
    axes.set_aspect("equal", adjustable="datalim")
    wide = flat.shape[1] > 2
    axes.set(title=title, xlabel="first principal direction" if wide else "x", ylabel="second" if wide else "y")
    return figure


def data(source: DataSource) -> Mapping[str, Figure]:
    """The first points of the test split: a grid of images, or a scatter in the widest plane."""
    test = source.load("test")
    images = _as_images(test.tensor(limit=32))
    if images is not None:
        return {"data": image_grid(images, title="From the test split")}
    points = test.tensor(limit=2000)
    return {"data": _scatter(points, "The test split")} if len(points) > 1 else {}


def samples(x: Tensor) -> Mapping[str, Figure]:
    """Draws (n, *E), or several for each condition (C, n, *E): a grid with a row a condition, or a scatter."""
    if x.dim() == 5:
        rows = _as_images(x[:8, :8].reshape(-1, *x.shape[2:]))
        return {} if rows is None else {"samples": image_grid(rows, min(8, x.shape[1]), "Each row: one condition")}
    images = _as_images(x[:64])
    if images is not None:
        return {"samples": image_grid(images)}
    points = x[:2000]
    return {"samples": _scatter(points, "Samples")} if len(points) > 1 else {}


def training(report: Any) -> Mapping[str, Figure]:
    """The loss against the step, with the held-out loss where there was one; nothing for an untrained component."""
    history: Sequence[Mapping[str, Any]] = getattr(report, "history", ())
    loss = [(row["step"], row["loss"]) for row in history if "loss" in row]
    held_out = [(row["step"], row["validation"]) for row in history if "validation" in row]
    if not loss:
        return {}
    figure, axes = new_figure()
    axes.plot(*zip(*loss, strict=True), color=SOFT, label="training", linewidth=1.2)
    if held_out:
        label = "held out (averaged weights)"
        axes.plot(*zip(*held_out, strict=True), color=ACCENT, marker="o", markersize=3, label=label)
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
    if answer.pointwise is not None and len(answer.pointwise):
        values = answer.pointwise.double()
        whole = bool((values == values.round()).all()) and float(values.max() - values.min()) < 200
        low, high = float(values.min()), float(values.max())
        bins = [low - 0.5 + step for step in range(int(high - low) + 2)] if whole else 40
        axes.hist(values.numpy(), bins=bins, color=SOFT, label=f"{len(values)} points")
        axes.set_ylabel("points")
        axes.set_ylim(top=1.3 * axes.get_ylim()[1])  # room for the legend above the bars
    else:
        axes.set_yticks([])
        axes.margins(x=0.5)
    label = f"{answer.quantity} {answer.value:.4g}"
    if answer.interval is not None:
        low, high = answer.interval
        axes.axvspan(low, high, color=ACCENT, alpha=0.15, linewidth=0)
        label += f"  ({answer.level:.0%}: {low:.4g} to {high:.4g})"
    axes.axvline(answer.value, color=ACCENT, linewidth=2, label=label)
    axes.set_xlabel(answer.quantity)
    axes.legend(frameon=False, fontsize=9)
    return figure


def estimate(answer: Estimate) -> Mapping[str, Figure]:
    """The estimate over points, and the spectra behind it where there are any."""
    figures = {"estimate": plot_estimate(answer)}
    if answer.spectrum is not None:
        figure, axes = new_figure()
        for row in answer.spectrum[:20].double():
            axes.plot(range(1, len(row) + 1), row.numpy(), color=ACCENT, alpha=0.4, linewidth=1)
        axes.set(xlabel="rank", ylabel="spectrum", title=f"Spectra at {min(20, len(answer.spectrum))} points")
        figures["spectrum"] = figure
    return figures


def allocation(plan: Allocation) -> Mapping[str, Figure]:
    """Labels a task type: support and query."""
    if not plan.plan:
        return {}
    figure, axes = new_figure()
    names = [row.task_type for row in plan.plan]
    support = [row.tasks * row.support for row in plan.plan]
    query = [row.tasks * row.query for row in plan.plan]
    axes.bar(names, support, color=ACCENT, label="support")
    axes.bar(names, query, bottom=support, color=SOFT, label="query")
    axes.set(ylabel="labels", title=plan.text()[:90])
    axes.legend(frameon=False, fontsize=9)
    return {"allocation": figure}
