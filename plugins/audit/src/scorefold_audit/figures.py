"""Figures of an audit: the most copied samples next to their nearest training points, and how near all of them are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from scorefold.plotting import ACCENT, INK, SOFT, WARM, empty_figure, new_figure, tidy
from scorefold_audit.copying.nearest import RATIO
from scorefold_toolkit.figures import as_images, legend_below, plane

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from scorefold_audit.copying.nearest import Numbers
    from scorefold_audit.copying.spaces import Copying
    from scorefold_audit.report import Audited

_PAIRS, _EACH = 12, 3
_BINS = 40
_LONGEST = 18


def audit_figures(shown: Audited | Mapping[str, float]) -> Mapping[str, Figure]:
    """The pairs and the distributions of an audit; nothing where it measured no copying."""
    if isinstance(shown, Mapping):
        return {}
    return {"pairs": _images(shown) or _points(shown), "distances": _distances(shown.copying)}


def _images(shown: Audited) -> Figure | None:
    """Pairs of a sample and its nearest training image, the most copied first, in rows of four pairs."""
    samples, training = as_images(shown.samples[:_PAIRS]), as_images(shown.training[:_PAIRS])
    if samples is None or training is None:
        return None
    figure = empty_figure(7.4, 1.65 * -(-len(samples) // _EACH) + 0.3)
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.0)  # type: ignore[union-attr, call-arg]
    low, high = (
        float(own if limit is None else limit) for limit, own in zip(shown.limits, training.aminmax(), strict=True)
    )
    places = figure.subplots(-(-len(samples) // _EACH), 2 * _EACH, squeeze=False)
    for axes in places.flat:
        axes.set_axis_off()
    for place, pair in enumerate(zip(samples, training, strict=True)):
        row, column = divmod(place, _EACH)
        for axes, image in zip(places[row, 2 * column : 2 * column + 2], pair, strict=True):
            grey = ((image - low) / ((high - low) or 1)).clamp(0, 1).permute(1, 2, 0)
            axes.imshow((grey if grey.shape[2] == 3 else grey[..., 0]).numpy(), cmap="gray", vmin=0, vmax=1)
        named = bool(shown.named[place])
        for side, name in enumerate(shown.names[place]):
            # Of a long path the end says which file it is.
            text = f"{'copy' if named else 'sample'}, {float(shown.ratio[place]):.2f}" if side == 0 else "training"
            short = name if len(name) <= _LONGEST else f"...{name[3 - _LONGEST :]}"
            title = places[row, 2 * column + side].set_title
            title(f"{text}\n{short}", fontsize=8, color=WARM if named else INK, loc="left")
    figure.set_label(
        "Samples, each left of its nearest training image. The number divides the distance to this image by the "
        "distance to the second nearest. Copies are named in orange."
    )
    return figure


def _points(shown: Audited) -> Figure:
    """The most copied samples and their nearest training points in one plane, a line between each pair."""
    figure, axes = new_figure(5.4, 4.6)
    count = len(shown.samples)
    points, names = plane(torch.cat([shown.samples.flatten(1), shown.training.flatten(1)]))
    samples, training = points[:count], points[count:]
    for one, other in zip(samples.tolist(), training.tolist(), strict=True):
        axes.plot([one[0], other[0]], [one[1], other[1]], color=SOFT, linewidth=0.8, zorder=1)
    axes.scatter(
        training[:, 0], training[:, 1], s=26, facecolors="none", edgecolors=ACCENT, label="nearest training point"
    )
    for named, colour, label in ((True, WARM, "sample, named as a copy"), (False, INK, "sample")):
        chosen = samples[shown.named == named]
        if len(chosen):
            axes.scatter(chosen[:, 0], chosen[:, 1], s=8, color=colour, label=label, zorder=3)
    axes.set(xlabel=names[0], ylabel=names[1], title=f"The {count} samples that are most like copies")
    axes.set_aspect("equal", adjustable="datalim")
    legend_below(axes)
    return figure


def _distances(every: tuple[Copying, ...]) -> Figure:
    """Distances to the nearest training point, and their ratio to the next one, of samples and of held-out points."""
    figure = empty_figure(7.4, 2.9 * len(every))
    places = figure.subplots(len(every), 2, squeeze=False)
    for row, found in zip(places, every, strict=True):
        both = found.near.distance, found.near_held_out.distance
        _histograms(row[0], *both, float(max(map(np.max, both))) or 1.0)
        row[0].set(xlabel="nearest training point: distance", ylabel="share per bin", title=found.space)
        _histograms(row[1], found.near.ratio, found.near_held_out.ratio, 1.0)
        row[1].axvline(RATIO, color=INK, linestyle=":", linewidth=1)
        row[1].set(xlabel="nearest / second nearest distance", title=found.space)
        legend_below(row[0])
    figure.set_label(
        "Distances of samples and held-out points from training points. Copies lie left of the dotted line."
    )
    return figure


def _histograms(axes: Axes, samples: Numbers, held_out: Numbers, most: float) -> None:
    tidy(axes)
    edges = np.linspace(0, most, _BINS + 1).tolist()
    line: dict[str, Any] = {"histtype": "step", "color": WARM, "linewidth": 1.4}
    of_held_out, of_samples = (np.full(len(values), 1 / len(values)) for values in (held_out, samples))
    axes.hist(held_out, bins=edges, weights=of_held_out, color=SOFT, label="held-out points")
    axes.hist(samples, bins=edges, weights=of_samples, label="samples", **line)
