"""Log-likelihoods over points, and scores of unusual ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from scorefold.plotting import ACCENT, SOFT, WARM, empty_figure, new_figure, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
    """The histograms of each outlier score: over usual points, and over unusual ones where there are any.

    What lies beyond three times the range of the usual ones stands in the last bar, so that these are seen.
    """
    usual, unusual = scores["usual"], scores.get("unusual")
    figure = empty_figure(3.4 * len(usual) + 0.6, 3.2)
    places = figure.subplots(1, len(usual), squeeze=False)[0]
    for axes, (name, values) in zip(places, usual.items(), strict=True):
        tidy(axes)
        both = values if unusual is None else torch.cat((values, unusual[name]))
        limit = float(3 * values.max() - 2 * values.min())
        high = min(float(both.max()), limit)
        edges = torch.linspace(float(both.min()), high + 1e-9, 41).tolist()
        axes.hist(values.numpy(), bins=edges, color=SOFT, label="usual", density=True)
        if unusual is not None:
            shown = unusual[name].clamp(max=high).numpy()
            axes.hist(shown, bins=edges, color=WARM, alpha=0.6, label="unusual", density=True)
        units = "bits" if name == "condition cost" else "bits a dimension"
        beyond = f"; the last bar: {limit:.3g} and more" if float(both.max()) > limit else ""
        axes.set(xlabel=f"{name} ({units}{beyond})", yticks=[])
    if unusual is not None:
        places[0].legend(frameon=False, fontsize=9)
    return {"outliers": figure}
