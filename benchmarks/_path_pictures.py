"""The two pictures of `score_geometry_images.py`: paths between pairs of images, and curves along the paths."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scorefold.plotting import INK, empty_figure, tidy

PAIRS = 6
"""Pairs in a picture: half of one class, half of two."""

PICTURED = ("straight", "noise path", "graph", "fermat", "residual")
COLOURS = ("#1f2933", "#d9480f", "#2563eb", "#0f9d58", "#8e24aa")
Paths = dict[str, dict[str, Tensor]]
"""Paths (B, 9, 1, 28, 28) by row, ``raw`` and ``denoised``."""


def images(found: Paths, to: Path) -> None:
    """Paths of six pairs, spaced evenly in each half: a row of images each, raw above denoised."""
    names = [name for name in PICTURED if name in found]
    count, each = len(found[names[0]]["raw"]), PAIRS // 2
    chosen = [half * (count // 2) + k * (count // 2 // each) for half in (0, 1) for k in range(each)]
    figure = empty_figure(13.5, 0.72 * 2 * len(names) * 2 * 0.62)
    for place, pair in enumerate(chosen):
        axes = figure.add_subplot(2, PAIRS // 2, place + 1)
        strips = [
            torch.cat(list(found[name][kind][pair, :, 0].float().clamp(0, 1)), 1)
            for name in names
            for kind in ("raw", "denoised")
        ]
        axes.imshow(torch.cat(strips, 0).numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_xticks([])
        labels = [text for name in names for text in (name, "denoised")] if place % 3 == 0 else []
        axes.set_yticks([28 * k + 14 for k in range(len(labels))], labels, fontsize=8, color=INK)
        axes.tick_params(length=0)
    figure.savefig(to, dpi=72)


def curves(rows: dict[str, dict[str, Any]], to: Path) -> None:
    """Medians of the pairs with quartiles along the path: one panel a number, one colour a row."""
    titles = list(next(iter(rows.values())))
    figure = empty_figure(11.0, 5.6)
    for place, title in enumerate(titles):
        axes = figure.add_subplot(2, 2, place + 1)
        tidy(axes)
        for name, colour in zip(rows, _cycled(len(rows)), strict=True):
            values: Tensor = rows[name][title]
            low, middle, high = values.double().quantile(torch.tensor([0.25, 0.5, 0.75]).double(), 0)
            times = torch.linspace(0, 1, values.shape[1])
            dashed = "--" if name.endswith("denoised") else "-"
            axes.plot(times, middle, dashed, color=colour, linewidth=1.4, label=name)
            axes.fill_between(times, low, high, color=colour, alpha=0.08, linewidth=0)
        axes.set_title(title, fontsize=10, color=INK)
    figure.axes[1].legend(frameon=False, fontsize=8)
    figure.savefig(to, dpi=80)


def _cycled(count: int) -> Sequence[str]:
    return [COLOURS[k % len(COLOURS)] for k in range(count)]
