"""Figures of the check on surrogates: each estimator's readings there against the true dimension, with the data's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from matplotlib.ticker import LogLocator, MaxNLocator

from scorefold.plotting import ACCENT, INK, SOFT, WARM, empty_figure, tidy
from scorefold.results import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


COLUMNS = 4


def plot(answer: Estimate) -> Mapping[str, Figure]:
    """The figures by name: estimate, and curves where any estimator read the data."""
    figures = {"estimate": answer.plot()}
    if answer.diagnostics["estimators"]:
        figures["curves"] = calibration_curves(answer)
    return figures


def calibration_curves(answer: Estimate) -> Figure:
    """A panel an estimator: readings of surrogates against their dimension, the darker the more like the data."""
    facts = answer.diagnostics
    names = facts["estimators"]
    rows = -(-len(names) // COLUMNS)
    across = min(COLUMNS, len(names))
    figure = empty_figure(2.3 * across + 0.4, 2.0 * rows + 0.5)
    panels = figure.subplots(rows, across, squeeze=False, sharex=True).ravel()
    table = {row["estimator"]: row for row in facts["table"]}
    for place, axes in enumerate(panels):
        if place >= len(names):
            axes.set_axis_off()
            continue
        _panel(axes, table[names[place]], facts, facts["surrogate_readings"][:, place])
        if answer.interval is not None:
            axes.axvspan(*answer.interval, color=ACCENT, alpha=0.12, linewidth=0)
    figure.supxlabel("true dimension of surrogates", fontsize=9, color=INK)
    figure.supylabel("reading", fontsize=9, color=INK)
    figure.set_label(
        "Readings of surrogates whose dimension is known; the more a surrogate looks like the data, the larger its "
        "dot. The line is the reading of the data, dashed where the estimator was left out; the band is the answer."
    )
    return figure


def _panel(axes: Axes, row: Mapping[str, Any], facts: Mapping[str, Any], readings: torch.Tensor) -> None:
    tidy(axes)
    dimensions = facts["surrogate_dimensions"]
    weights = facts.get("surrogate_weights", torch.zeros_like(dimensions))
    color = ACCENT if row["used"] else SOFT
    axes.scatter(dimensions, readings, s=(6 + 40 * weights).tolist(), color=color, alpha=0.6, linewidths=0)
    axes.axhline(row["reading"], color=WARM, linewidth=1.2, linestyle="-" if row["used"] else "--")
    # An estimator may read one number everywhere, and matplotlib finds no ends around a power of ten.
    known = [float(row["reading"]), *readings[readings.isfinite()].tolist()]
    axes.set_ylim(min(known) / 1.1, 1.1 * max(known))
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        low, high = axis.get_view_interval()
        # Within a decade there may be no power of ten to mark.
        axis.set_major_locator(LogLocator() if high >= 100 * low else MaxNLocator(4))
        axis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.set_title(str(row["estimator"]), fontsize=9, color=INK)
