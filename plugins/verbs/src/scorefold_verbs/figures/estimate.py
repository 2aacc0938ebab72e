"""An estimate over points, and the spectra behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from scorefold.plotting import ACCENT, new_figure
from scorefold.results import Estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def estimate(answer: Estimate) -> Mapping[str, Figure]:
    """The estimate over points, where it has several, and the spectra behind it where there are any."""
    figures = {}
    if answer.pointwise is not None and int(answer.pointwise.isfinite().sum()) > 1:
        figures["estimate"] = answer.plot()
    if answer.spectrum is not None:
        figure, axes = new_figure()
        for row in answer.spectrum[:20].detach().cpu().double():
            axes.plot(range(1, len(row) + 1), row.numpy(), color=ACCENT, alpha=0.4, linewidth=1)
        axes.set(xlabel="rank", ylabel="spectrum", title=_at_points(min(20, len(answer.spectrum))))
        figures["spectrum"] = figure
    return figures


def _at_points(count: int) -> str:
    return "Spectrum at one point" if count == 1 else f"Spectra at {count} points"
