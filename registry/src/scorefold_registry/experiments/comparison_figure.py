"""The figure of a comparison: a panel a case, a line a component, each value with its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from scorefold.errors import printable
from scorefold.plotting import ACCENT, INK, SOFT, WARM, tidy
from scorefold_registry.experiments.comparison_rows import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACROSS = 5
"""Panels beside each other before a new line of them begins."""


def draw(rows: Sequence[Row]) -> Mapping[str, Figure]:
    """The figure ``comparison``. There must be at least one row."""
    from matplotlib.figure import Figure

    cases = list(dict.fromkeys(row.case for row in rows))
    components = list(dict.fromkeys(row.component for row in rows))
    across = min(ACROSS, len(cases))
    down = math.ceil(len(cases) / across)
    figure = Figure(figsize=(2.2 + 2.1 * across, down * (1.3 + 0.24 * len(components))), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False, sharey=True).flatten()
    for case, axes in zip(cases, panels, strict=False):
        _panel(axes, {row.component: row for row in rows if row.case == case}, components)
        axes.set_title(printable(case), fontsize=10, color=INK)
    for axes in panels[len(cases) :]:
        axes.set_visible(False)
    quantities = dict.fromkeys(row.quantity for row in rows if row.quantity is not None)
    figure.supxlabel(printable(" or ".join(quantities)), fontsize=10, color=INK)
    figure.set_label("Each component's value on each case, with its interval; the dashed line is the truth.")
    return {"comparison": figure}


def _panel(axes: Axes, rows: Mapping[str, Row], components: Sequence[str]) -> None:
    tidy(axes)
    kinds = {name.partition(":")[0] for name in components}
    names = components if len(kinds) > 1 else [name.partition(":")[2] for name in components]
    axes.set_yticks(range(len(components)), names)
    axes.set_ylim(len(components) - 0.5, -0.5)
    axes.grid(axis="y", color=SOFT, alpha=0.4, linewidth=0.6)
    axes.tick_params(axis="y", length=0)
    truth = next((row.truth for row in rows.values() if row.truth is not None), None)
    if truth is not None:
        axes.axvline(truth, color=WARM, linestyle="--", linewidth=1.1, zorder=1)
    for place, name in enumerate(components):
        row = rows[name]
        if row.value is None or not math.isfinite(row.value):
            where = axes.get_yaxis_transform()
            axes.text(
                0.02, place, "no value", transform=where, fontsize=7.5, color="#7b8794", va="center", style="italic"
            )
            continue
        if row.interval is not None and all(map(math.isfinite, row.interval)):
            axes.plot(row.interval, (place, place), color=ACCENT, alpha=0.45, linewidth=3.2, solid_capstyle="butt")
        axes.plot([row.value], [place], "o", color=ACCENT, markersize=4.5)
    axes.margins(x=0.12)
    if all(row.value is None for row in rows.values()):
        axes.set_xticks([])
