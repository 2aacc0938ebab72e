"""Figures of what core's verbs hand on. Each function takes what is drawn and returns ``{name: Figure}``.

matplotlib is imported when a figure is asked for: estimates and models can be used without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold.errors import SplitError
from scorefold.event_figures import as_images, image_grid, own_limits, picture_of, scatter, strips
from scorefold.plotting import ACCENT, SOFT, WARM, empty_figure, new_figure, tidy
from scorefold.results import Estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from scorefold.interfaces import DataSource

_PAIRS = 8  # images in a column, next to their conditions


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
        return {"data": scatter(points, f"The {name} split")} if len(points) > 1 else {}
    limits = (source.event_scale.low, source.event_scale.high)
    return {"data": image_grid(images, title=f"From the {name} split", limits=limits)} if len(images) else {}


def _any_split(source: DataSource) -> tuple[str, Dataset]:
    for name in ("test", "validation"):
        with suppress(SplitError):
            return name, source.load(name)
    return "train", source.load("train")


def _pairs(condition: Tensor, images: Tensor, source: DataSource) -> Figure:
    """Conditions next to their images, in pairs of columns."""
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
