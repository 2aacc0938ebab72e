"""An estimate over points, and the spectra behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from scorefold.plotting import ACCENT, new_figure
from scorefold.results import Estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def estimate(answer: Estimate) -> Mapping[str, Figure]:
    """The estimate over points, and the spectra behind it where there are any."""
    figures = {"estimate": answer.plot()}
    if answer.spectrum is not None:
        figure, axes = new_figure()
        for row in answer.spectrum[:20].detach().cpu().double():
            axes.plot(range(1, len(row) + 1), row.numpy(), color=ACCENT, alpha=0.4, linewidth=1)
        axes.set(xlabel="rank", ylabel="spectrum", title=f"Spectra at {min(20, len(answer.spectrum))} points")
        figures["spectrum"] = figure
    return figures
